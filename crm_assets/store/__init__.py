"""Postgres: control tables, mirror tables, stage, apply, capture and the outbox."""
