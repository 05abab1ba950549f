"""Outbox → CRM: claim, compare, send, settle."""
