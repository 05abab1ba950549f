"""The objects of one org as they are now, kept in the store beside the records."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime

from . import clock
from .fields import Field
from .objects import STANDARD, SObject


def quote(name: str) -> str:
    """A name for SQL; field names come from people."""
    return '"' + name.replace('"', '""') + '"'


def column(field: Field) -> str:
    """The column of a field.

    No type is declared, so that SQLite keeps each value as it is given, whatever the field is retyped to.
    Ids compare with their case, texts without: as in SOQL.
    """
    exact = field.type in ("id", "reference", "date", "datetime")
    return f"{quote(field.name)} COLLATE {'BINARY' if exact else 'NOCASE'}"


class Schema:
    """Finds objects by API name or snake_case, and changes them together with their tables."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        self.objects: dict[str, SObject] = {}
        self.changed_at: datetime = clock.now()
        db.execute(
            "CREATE TABLE IF NOT EXISTS _schema (object TEXT PRIMARY KEY, prefix TEXT, fields TEXT, changed_at TEXT)"
        )
        db.execute("CREATE TABLE IF NOT EXISTS _hidden (object TEXT PRIMARY KEY)")
        self.hidden = frozenset(name for (name,) in db.execute("SELECT object FROM _hidden"))
        """Objects that the user whom calls run as may not see."""
        rows = db.execute("SELECT object, prefix, fields, changed_at FROM _schema ORDER BY rowid").fetchall()
        known = {one.name: one for one in STANDARD}
        for name, prefix, fields, changed_at in rows:
            kind = known.get(name) or SObject(name, prefix, ())
            self._set(replace(kind, fields=tuple(Field.from_json(one) for one in json.loads(fields))))
            self.changed_at = clock.parse(changed_at)

    def create(self, objects: Iterable[SObject]) -> None:
        """The tables of a fresh store."""
        for one in objects:
            columns = ", ".join(column(field) for field in one.stored)
            self._db.execute(f"CREATE TABLE {quote(one.name)} (_row INTEGER PRIMARY KEY, _at TEXT, {columns})")
            self.save(one)

    def indexes(self) -> None:
        """The keys of all tables: made after the first load, which is faster, and again harmless."""
        for one in self.objects.values():
            table = quote(one.name)
            keys = [("id", "UNIQUE", '("Id")', ""), ("stamp", "", '("SystemModstamp", "Id")', "")]
            alive = ' WHERE "IsDeleted" = 0' if one.deletable else ""
            for field in one.fields:
                if field.unique or field.external_id:
                    unique = "UNIQUE" if field.unique else ""
                    keys.append((field.name, unique, f"({quote(field.name)})", alive))
                elif field.type == "reference" and field.name not in (
                    "OwnerId",
                    "CreatedById",
                    "LastModifiedById",
                ):
                    keys.append((field.name, "", f"({quote(field.name)})", f" WHERE {quote(field.name)} NOTNULL"))
            for name, unique, columns, where in keys:
                index = quote(f"{one.name}_{name}")
                self._db.execute(f"CREATE {unique} INDEX IF NOT EXISTS {index} ON {table} {columns}{where}")

    def save(self, one: SObject) -> None:
        """Keeps an object's new list of fields."""
        self.changed_at = clock.now()
        self._db.execute(
            "INSERT INTO _schema VALUES (?, ?, ?, ?) ON CONFLICT (object) DO UPDATE"
            " SET fields = excluded.fields, changed_at = excluded.changed_at",
            (one.name, one.prefix, json.dumps([field.to_json() for field in one.fields]), clock.exact(self.changed_at)),
        )
        self._set(one)

    def hide(self, name: str, hidden: bool) -> None:
        """Takes the right to see an object away from the user that calls run as, or gives it back."""
        statement = "INSERT OR IGNORE INTO _hidden VALUES (?)" if hidden else "DELETE FROM _hidden WHERE object = ?"
        self._db.execute(statement, (name,))
        self.hidden = self.hidden | {name} if hidden else self.hidden - {name}

    def visible(self, name: str) -> SObject | None:
        """An object as calls see it, by API name in any case; None if there is none, or no right to see it."""
        found = self.objects.get(name) or next(
            (one for key, one in self.objects.items() if key.lower() == name.lower()), None
        )
        return None if found is None or found.name in self.hidden else found

    def _set(self, one: SObject) -> None:
        # A new dictionary each time: readers in other threads keep the one they began with.
        self.objects = self.objects | {one.name: one}

    def find(self, name: str) -> SObject | None:
        """An object by API name (any case) or snake_case."""
        found = self.objects.get(name)
        if found:
            return found
        wanted = name.replace("_", "").lower()
        return next((one for one in self.objects.values() if one.name.lower() == wanted), None)

    def by_id(self, record_id: str) -> SObject | None:
        """The object an id belongs to, by its prefix."""
        return next((one for one in self.objects.values() if one.prefix == record_id[:3]), None)
