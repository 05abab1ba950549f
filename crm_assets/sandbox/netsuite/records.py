"""Writes: create, update, upsert, delete, merge and transform, with the checks that the account makes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping, Sequence
from typing import Any

from . import display, lines
from .defaults import defaults, identity, missing, totals
from .errors import no_permission, no_record, no_type, user_error
from .fields import Field, RecordType
from .objects import ITEM_LINES
from .preferences import Preferences
from .schema import Schema, quote
from .store import Row, Store, Tx
from .truth import truth
from .values import accept, bad_value

IGNORED = frozenset({"id", "links", "refName"})
"""What a record that was read carries, and what may come back with it."""


class Records:
    """What may be done to records inside a transaction."""

    def __init__(self, store: Store, preferences: Preferences) -> None:
        self.store = store
        self._preferences = preferences

    @property
    def schema(self) -> Schema:
        return self.store.schema

    def kind(self, name: str) -> RecordType:
        found = self.schema.types.get(name) or next(
            (one for key, one in self.schema.types.items() if key.lower() == name.lower()), None
        )
        if found is None:
            raise no_type(name)
        return found

    def find(self, db: sqlite3.Connection, kind: RecordType, key: str) -> Row:
        """A record by id or ``eid:…``; :class:`ApiError` NONEXISTENT_ID if there is none."""
        found = self.by_external(db, kind, key[4:]) if key.startswith("eid:") else self.by_id(db, kind, key)
        if found is None:
            raise no_record()
        return found

    def by_id(self, db: sqlite3.Connection, kind: RecordType, key: Any) -> Row | None:
        return self._row(db, kind, "id", int(key)) if str(key).isdecimal() else None

    def by_external(self, db: sqlite3.Connection, kind: RecordType, key: str) -> Row | None:
        return self._row(db, kind, "externalid", key)

    def _row(self, db: sqlite3.Connection, kind: RecordType, column: str, value: Any) -> Row | None:
        names = ["id", "_at", "_name", *dict.fromkeys(field.column for field in kind.fields if field.name != "id")]
        sql = f"SELECT {', '.join(map(quote, names))} FROM {quote(kind.table)} WHERE {quote(column)} = ?{mark(kind)}"
        row = db.execute(sql, (value,)).fetchone()
        return None if row is None else dict(zip(names, row, strict=True))

    def create(self, tx: Tx, kind: RecordType, given: Mapping[str, Any], system: bool = False) -> int:
        """A new record; returns its id. ``system``: as the account itself, which may write what users may not."""
        if not kind.writable and not system:
            raise no_permission(f"You do not have permissions to create a record of type {kind.name}.")
        values = self._check(tx, kind, given, system)
        new = tx.number()
        row: Row = {field.column: "F" if field.type == "boolean" else None for field in kind.fields}
        row |= defaults(kind, tx.moment)
        row |= values | {"id": new, kind.created.column: tx.stamp, kind.modified.column: tx.stamp, "_at": tx.at}
        if kind.marker:
            row[kind.marker] = kind.code
        row = identity(kind, row)
        self._complete(kind, row)
        self._unique(tx, kind, row)
        insert(tx.db, kind, row)
        self._sublists(tx, kind, row, given, frozenset(), system)
        tx.note(kind, new, "create")
        return new

    def update(
        self,
        tx: Tx,
        kind: RecordType,
        before: Row,
        given: Mapping[str, Any],
        replace: frozenset[str] = frozenset(),
        system: bool = False,
    ) -> int:
        """Changes a record; its stamp moves even if no value does."""
        if not kind.writable and not system:
            raise no_permission(f"You do not have permissions to edit a record of type {kind.name}.")
        values = self._check(tx, kind, given, system)
        after = identity(kind, before | values)
        self._complete(kind, after)
        if values.get("externalid") is not None and values["externalid"] != before["externalid"]:
            self._unique(tx, kind, after)
        changed = {name: value for name, value in after.items() if value != before[name]}
        self.touch(tx, kind, before, changed)
        self._sublists(tx, kind, after, given, replace, system)
        tx.note(kind, before["id"], "edit")
        return int(before["id"])

    def upsert(
        self, tx: Tx, kind: RecordType, external_id: str, given: Mapping[str, Any], replace: frozenset[str]
    ) -> int:
        """By external id: changes the record that has it, or creates one."""
        values = {**given, "externalId": external_id}
        before = self.by_external(tx.db, kind, external_id)
        if before is None:
            return self.create(tx, kind, values)
        return self.update(tx, kind, before, values, replace)

    def delete(self, tx: Tx, kind: RecordType, before: Row, system: bool = False) -> int:
        """For good: what stays is an entry in the list of deleted records."""
        if not kind.writable and not system:
            raise no_permission(f"You do not have permissions to delete a record of type {kind.name}.")
        last = json.dumps(truth(tx.db, kind, [before])[0])
        tx.db.execute(
            "INSERT INTO _deleted VALUES (?, ?, ?, ?, ?, ?)",
            (kind.name, before["id"], tx.at, tx.stamp, before["_name"], last),
        )
        for sublist in {*kind.sublists, *((ITEM_LINES,) if kind.table == "transaction" else ())}:
            lines.remove(tx.db, sublist, before["id"])
        tx.db.execute(f"DELETE FROM {quote(kind.table)} WHERE id = ?", (before["id"],))
        tx.note(kind, before["id"], "delete")
        return int(before["id"])

    def merge(self, tx: Tx, kind: RecordType, winner: str, losers: Sequence[str]) -> int:
        """Losers are deleted; what pointed to them points to the winner. Nothing tells of it but that."""
        if not kind.mergeable:
            raise user_error(f"Records of type {kind.name} cannot be merged.")
        kept = self.find(tx.db, kind, winner)
        gone = [self.find(tx.db, kind, one) for one in losers]
        if not gone or any(one["id"] == kept["id"] for one in gone):
            raise user_error("A merge needs one master record and other records as duplicates.")
        for loser in gone:
            self._repoint(tx, kind, loser["id"], kept["id"])
            self.delete(tx, kind, loser)
        self.touch(tx, kind, kept, {})
        tx.note(kind, kept["id"], "edit")
        return int(kept["id"])

    def _repoint(self, tx: Tx, kind: RecordType, loser: int, winner: int) -> None:
        for other in self.schema.types.values():
            for field in other.fields:
                if field.type != "ref" or kind.name not in field.to:
                    continue
                sql = f"SELECT id FROM {quote(other.table)} WHERE {quote(field.column)} = ?{mark(other)}"
                for (child,) in tx.db.execute(sql, (loser,)).fetchall():
                    row = self.find(tx.db, other, str(child))
                    if field.name == "parent" and child == winner:
                        self.touch(tx, other, row, {field.column: None})
                    else:
                        self.touch(tx, other, row, {field.column: winner})
                    if child not in (loser, winner):
                        tx.note(other, child, "edit")

    def transform(self, tx: Tx, order: Row, given: Mapping[str, Any]) -> int:
        """An invoice for a sales order, which is billed by it."""
        kind, target = self.kind("salesOrder"), self.kind("invoice")
        if order["status"] in ("C", "G", "H"):
            raise user_error("The transaction cannot be transformed: it is closed or fully billed.")
        copied = {
            name: order[name] for name in ("entity", "currency", "exchangerate", "subsidiary", "memo", "otherrefnum")
        }
        body = {target.index[name].name: value for name, value in copied.items() if value is not None}
        body |= {"createdFrom": order["id"]}
        body["item"] = [
            {field.name: line[field.column] for field in ITEM_LINES.fields if line[field.column] is not None}
            for line in lines.read(tx.db, ITEM_LINES, [order["id"]])[order["id"]]
        ]
        new = self.create(tx, target, body | dict(given))
        self.touch(tx, kind, order, {"status": "G"})
        tx.note(kind, order["id"], "edit")
        return new

    def touch(self, tx: Tx, kind: RecordType, before: Row, changed: Row) -> None:
        """Stores values and moves the stamp, never backwards."""
        column = kind.modified.column
        values = changed | {column: max(tx.stamp, before[column] or ""), "_at": max(tx.at, before["_at"] or "")}
        sets = ", ".join(f"{quote(name)} = ?" for name in values)
        tx.db.execute(f"UPDATE {quote(kind.table)} SET {sets} WHERE id = ?", (*values.values(), before["id"]))

    def _sublists(
        self, tx: Tx, kind: RecordType, row: Row, given: Mapping[str, Any], replace: frozenset[str], system: bool
    ) -> None:
        for sublist in kind.sublists:
            if sublist.name in given and given[sublist.name] is not None:
                now = lines.write(
                    tx.db, sublist, row["id"], given[sublist.name], sublist.name in replace, tx.stamp,
                    lambda field, value: self.resolve(tx.db, field, value),
                )  # fmt: skip
                if sublist is ITEM_LINES and not (system and "total" in given):
                    changed = totals(row, now)
                    self.touch(tx, kind, row, changed)
                    row = row | changed
        wanted = ITEM_LINES in kind.sublists and not system and not self._preferences.empty_orders
        if wanted and not lines.read(tx.db, ITEM_LINES, [row["id"]])[row["id"]]:
            raise user_error("You must enter at least one line item for this transaction.", ITEM_LINES.name)
        if kind.table == "transaction":
            main_line(tx.db, row, tx.stamp)

    def _check(self, tx: Tx, kind: RecordType, given: Mapping[str, Any], system: bool) -> Row:
        """The values to store, by column."""
        values: Row = {}
        for name, value in given.items():
            field = kind.index.get(name.lower())
            if field is None or name in IGNORED:
                continue
            if field.read_only and not system:
                raise user_error(
                    f"You do not have permissions to set a value for element {field.name} due to one of the following"
                    " reasons: 1) The field is read-only; 2) An associated feature is disabled; 3) The field is"
                    " available either when a record is created or updated, but not in both cases.",
                    field.name,
                )
            values[field.column] = self.resolve(tx.db, field, value) if field.type == "ref" else accept(field, value)
        return values

    def resolve(self, db: sqlite3.Connection, field: Field, value: Any) -> int | None:
        """The id a reference names: ``{"id"}``, ``{"externalId"}``, or the id alone. It must exist."""
        if value is None or value == "":
            return None
        if isinstance(value, Mapping):
            if value.get("id") is None and value.get("externalId") is not None:
                for name in field.to:
                    kind = self.schema.types.get(name)
                    row = self.by_external(db, kind, str(value["externalId"])) if kind else None
                    if row is not None:
                        return int(row["id"])
                raise bad_value(field, value)
            return self.resolve(db, field, value.get("id"))
        if isinstance(value, bool) or not str(value).isdecimal():
            raise bad_value(field, value)
        if display.name_of(db, self.schema, field, int(value)) is None:
            raise bad_value(field, value)
        return int(value)

    def _complete(self, kind: RecordType, row: Row) -> None:
        absent = missing(kind, row)
        if absent:
            titles = ", ".join(field.title for field in absent)
            raise user_error(f"Please enter value(s) for: {titles}.", absent[0].name)

    def _unique(self, tx: Tx, kind: RecordType, row: Row) -> None:
        key = row.get("externalid")
        if key is not None and (other := self.by_external(tx.db, kind, key)) and other["id"] != row["id"]:
            raise user_error("This record already exists: its external ID is used by another one.", "externalId")


def mark(kind: RecordType) -> str:
    """The condition that tells a record type from the others of its table."""
    return f" AND {quote(kind.marker)} = '{kind.code}'" if kind.marker else ""


def insert(db: sqlite3.Connection, kind: RecordType, row: Row) -> None:
    columns = ", ".join(map(quote, row))
    marks = ", ".join("?" * len(row))
    db.execute(f"INSERT INTO {quote(kind.table)} ({columns}) VALUES ({marks})", tuple(row.values()))


def main_line(db: sqlite3.Connection, row: Row, stamp: str) -> None:
    """Line 0 of a transaction: its header among the lines."""
    values = {"line": 0, "amount": row.get("total"), "description": row.get("memo")}
    lines.store(db, ITEM_LINES, row["id"], values, stamp)
