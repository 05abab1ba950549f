"""The record types of one account as they are now, kept in the store beside the records."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from dataclasses import replace

from .fields import Field, RecordType, Sublist
from .lists import LISTS
from .objects import STANDARD


def quote(name: str) -> str:
    """A name for SQL; field names come from people."""
    return '"' + name.replace('"', '""') + '"'


def snake(name: str) -> str:
    """``salesOrder`` → ``sales_order``."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


class Schema:
    """Finds record types, and changes them together with their tables.

    Beside the fields' columns a table has ``_at``, the exact moment of the last change, and ``_name``, what
    references to the record show. ``version`` grows with every change of a field.
    """

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.types: dict[str, RecordType] = {}
        self.version = 0
        db.execute("CREATE TABLE IF NOT EXISTS _schema (record TEXT PRIMARY KEY, fields TEXT)")
        kept = dict(db.execute("SELECT record, fields FROM _schema").fetchall())
        for one in STANDARD:
            if one.name in kept:
                fields = tuple(Field.from_json(field) for field in json.loads(kept[one.name]))
                self._set(replace(one, fields=fields))

    def create(self, types: Iterable[RecordType]) -> None:
        """The tables of a fresh store, and the account's lists."""
        for one in types:
            self._table(one)
            for sublist in one.sublists:
                self._lines(sublist)
            self.save(one)
        self._db.execute("CREATE TABLE _list (list TEXT, id INTEGER, name TEXT, PRIMARY KEY (list, id))")
        rows = [(name, number, text) for name, texts in LISTS.items() for number, text in enumerate(texts, 1)]
        self._db.executemany("INSERT INTO _list VALUES (?, ?, ?)", rows)
        self._db.execute(
            "CREATE TABLE _deleted (record TEXT, id INTEGER, at TEXT, deleteddate TEXT, name TEXT, fields TEXT,"
            " PRIMARY KEY (record, id))"
        )

    def _table(self, one: RecordType) -> None:
        table = quote(one.table)
        marker = f", {quote(one.marker)} TEXT" if one.marker else ""
        self._db.execute(f"CREATE TABLE IF NOT EXISTS {table} (id INTEGER PRIMARY KEY, _at TEXT, _name TEXT{marker})")
        have = self._columns(one.table)
        for field in one.fields:
            if field.column not in have:
                self._db.execute(f"ALTER TABLE {table} ADD COLUMN {quote(field.column)} {field.affinity}")
                have.add(field.column)

    def _lines(self, sublist: Sublist) -> None:
        """A line belongs to ``_parent``. Line 0 of a transaction, the main line, stands for its header."""
        columns = ", ".join(f"{quote(one.column)} {one.affinity}" for one in sublist.stored)
        self._db.execute(
            f"CREATE TABLE IF NOT EXISTS {quote(sublist.table)} (_unique INTEGER PRIMARY KEY, _parent INTEGER,"
            f" linelastmodifieddate TEXT, {columns})"
        )

    def _columns(self, table: str) -> set[str]:
        return {row[1] for row in self._db.execute(f"PRAGMA table_info({quote(table)})")}

    def column(self, table: str, field: Field) -> None:
        """A column for a field that is new."""
        if field.column not in self._columns(table):
            self._db.execute(f"ALTER TABLE {quote(table)} ADD COLUMN {quote(field.column)} {field.affinity}")

    def indexes(self) -> None:
        """The keys of all tables: made after the first load, which is faster, and again harmless."""
        for one in self.types.values():
            table, mark = quote(one.table), f"{quote(one.marker)}, " if one.marker else ""
            keys = [("external", "UNIQUE", f'{mark}"externalid"', ' WHERE "externalid" NOTNULL')]
            keys.append(("modified", "", '"lastmodifieddate", id', ""))
            if mark:
                keys.append(("kind", "", f"{mark}id", ""))
                keys.append(("kind_modified", "", f'{mark}"lastmodifieddate", id', ""))
            for field in one.fields:
                if field.type == "ref" and any(name in self.types for name in field.to):
                    column = quote(field.column)
                    keys.append((f"to_{field.column}", "", column, f" WHERE {column} NOTNULL"))
            for name, unique, columns, where in keys:
                index = quote(f"{one.table}_{name}")
                self._db.execute(f"CREATE {unique} INDEX IF NOT EXISTS {index} ON {table} ({columns}){where}")
            for sublist in one.sublists:
                lines, key = quote(sublist.table), quote(sublist.key.lower())
                for name, unique, columns in (("key", "UNIQUE", f"_parent, {key}"),
                                              ("modified", "", "linelastmodifieddate")):  # fmt: skip
                    index = quote(f"{sublist.table}_{name}")
                    self._db.execute(f"CREATE {unique} INDEX IF NOT EXISTS {index} ON {lines} ({columns})")
        self._db.execute("CREATE INDEX IF NOT EXISTS _deleted_date ON _deleted (deleteddate, id)")

    def save(self, one: RecordType) -> None:
        """Keeps a record type's new list of fields."""
        fields = json.dumps([field.to_json() for field in one.fields])
        self._db.execute(
            "INSERT INTO _schema VALUES (?, ?) ON CONFLICT (record) DO UPDATE SET fields = excluded.fields",
            (one.name, fields),
        )
        self._set(one)

    def _set(self, one: RecordType) -> None:
        # A new dictionary each time: readers in other threads keep the one they began with.
        self.types = self.types | {one.name: one}
        self.version += 1

    def restore(self, types: dict[str, RecordType]) -> None:
        """Back to what was before a change that failed."""
        self.types = types
        self.version += 1

    def find(self, name: str) -> RecordType | None:
        """A record type by API name (any case) or snake_case."""
        found = self.types.get(name)
        if found:
            return found
        wanted = name.replace("_", "").lower()
        return next((one for one in self.types.values() if one.name.lower() == wanted), None)

    def together(self, table: str) -> list[RecordType]:
        """The record types that share a table."""
        return [one for one in self.types.values() if one.table == table]
