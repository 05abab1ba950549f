"""Comparing both ends, explaining and repairing what differs."""
