"""Records as they are: plain values by field, sublists as lists of lines."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from . import lines
from .fields import RecordType, Sublist
from .store import Row
from .values import plain


def truth(db: sqlite3.Connection, kind: RecordType, rows: Sequence[Row]) -> list[dict[str, Any]]:
    """The fields of some records; references and enums are their ids."""
    found = [{field.name: plain(field, row[field.column]) for field in kind.fields} for row in rows]
    ids = [row["id"] for row in rows]
    for sublist in kind.sublists:
        own = lines.read(db, sublist, ids) if ids else {}
        for record, key in zip(found, ids, strict=True):
            record[sublist.name] = [line(sublist, one) for one in own[key]]
    return found


def line(sublist: Sublist, row: Row) -> dict[str, Any]:
    """One line, its subrecord inside it."""
    values = {field.name: plain(field, row[field.column]) for field in sublist.fields}
    if sublist.part:
        values[sublist.part] = {field.name: plain(field, row[field.column]) for field in sublist.inside}
    return values
