"""What references show: the names of the records and list entries they point to."""

from __future__ import annotations

import sqlite3

from .fields import Field
from .schema import Schema, quote


def shown_name(schema: Schema, field: Field, value: str) -> str:
    """SQL for the name behind a reference; ``value`` is the SQL of its id."""
    tables = dict.fromkeys(schema.types[name].table for name in field.to if name in schema.types)
    names = [f"(SELECT d._name FROM {quote(table)} d WHERE d.id = {value})" for table in tables]
    names += [
        f"(SELECT d.name FROM _list d WHERE d.list = '{name}' AND d.id = {value})"
        for name in field.to
        if name not in schema.types
    ]
    return names[0] if len(names) == 1 else f"coalesce({', '.join(names)})"


def name_of(db: sqlite3.Connection, schema: Schema, field: Field, value: int) -> tuple[str, str] | None:
    """The record type or list that a reference points into, and the name there; None if nothing has this id."""
    for name in field.to:
        kind = schema.types.get(name)
        if kind is None:
            row = db.execute("SELECT name FROM _list WHERE list = ? AND id = ?", (name, value)).fetchone()
        else:
            mark = f" AND {quote(kind.marker)} = '{kind.code}'" if kind.marker else ""
            row = db.execute(f"SELECT _name FROM {quote(kind.table)} WHERE id = ?{mark}", (value,)).fetchone()
        if row is not None:
            return name, row[0]
    return None
