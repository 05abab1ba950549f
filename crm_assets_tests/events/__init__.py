"""Tests of the inbox: receiving, re-reading, settling."""
