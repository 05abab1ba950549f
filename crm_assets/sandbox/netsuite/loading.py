"""Writing many records at once, at the first load: no checks, no events."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable

from . import clock
from .defaults import identity
from .fields import RecordType, Sublist
from .objects import ITEM_LINES
from .schema import quote
from .store import Row


def complete(kind: RecordType, given: Row) -> Row:
    """A whole row: what is given, by column, and what every record has."""
    row: Row = {field.column: "F" if field.type == "boolean" else None for field in kind.fields}
    row |= {name: value for name, value in given.items() if value is not None}
    created = kind.created.column
    stamp = row[kind.modified.column] or row[created] or clock.stored(clock.now())
    row[kind.modified.column] = stamp
    row[created] = row[created] or stamp
    row["_at"] = f"{clock.rest(stamp)[:-1]}.000Z"
    if kind.marker:
        row[kind.marker] = kind.code
    return identity(kind, row)


def records(db: sqlite3.Connection, kind: RecordType, rows: Iterable[Row]) -> int:
    """Inserts whole rows, and the main lines of transactions; returns how many."""
    columns: list[str] = []
    done: list[Row] = []
    for row in rows:
        columns = columns or list(row)
        done.append(row)
    if done:
        marks = ", ".join("?" * len(columns))
        db.executemany(
            f"INSERT INTO {quote(kind.table)} ({', '.join(map(quote, columns))}) VALUES ({marks})",
            (tuple(row[name] for name in columns) for row in done),
        )
    if kind.table == "transaction":
        main = ({"line": 0, "amount": row["total"], "description": row["memo"]} for row in done)
        lines(db, ITEM_LINES, [(row["id"], row["lastmodifieddate"], one) for row, one in zip(done, main, strict=True)])
    return len(done)


def lines(db: sqlite3.Connection, sublist: Sublist, found: Iterable[tuple[int, str, Row]]) -> None:
    """Inserts lines: of which record, since when, and their values."""
    names = [field.column for field in sublist.stored]
    marks = ", ".join("?" * (len(names) + 2))
    db.executemany(
        f"INSERT INTO {quote(sublist.table)} (_parent, linelastmodifieddate, {', '.join(map(quote, names))})"
        f" VALUES ({marks})",
        ((parent, stamp, *(row.get(name) for name in names)) for parent, stamp, row in found),
    )
