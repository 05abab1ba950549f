"""Writes: create, update, delete, undelete and merge, with the checks that describe promises."""

from __future__ import annotations

import sqlite3
from base64 import b64decode
from collections.abc import Mapping, Sequence
from typing import Any

from . import ids
from .errors import ApiError, Fault, error, not_found
from .fields import Field
from .objects import RECORD_TYPE_FIELD, STAGES, SObject
from .schema import Schema, quote
from .store import Row, Store, Tx
from .values import RefusedError, accept

_NOBODY = ids.make("005", 1, "5g0")


class Records:
    """What may be done to records inside a transaction."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._user: str | None = None

    @property
    def schema(self) -> Schema:
        return self.store.schema

    @property
    def user(self) -> str:
        """The user all calls run as: the oldest one there is."""
        if self._user is None:
            row = self.store.reader.execute('SELECT "Id" FROM "User" ORDER BY "CreatedDate", "Id"').fetchone()
            self._user = row[0] if row else _NOBODY
        return self._user

    def object(self, name: str) -> SObject:
        found = self.schema.visible(name)
        if found is None:
            raise not_found()
        return found

    def row(self, tx: Tx, kind: SObject, record_id: str) -> Row:
        """A record by id, in the recycle bin or not; :class:`ApiError` if there is none."""
        found = ids.full(record_id)
        if found is None:
            raise error(
                404,
                "NOT_FOUND",
                f"Provided external ID field does not exist or is not accessible: {record_id}",
            )
        row = fetch(tx.db, kind, "Id", found)
        if row is None:
            raise not_found()
        return row

    def alive(self, tx: Tx, kind: SObject, record_id: str) -> Row:
        row = self.row(tx, kind, record_id)
        if row.get("IsDeleted"):
            raise error(404, "ENTITY_IS_DELETED", "entity is deleted", ())
        return row

    def matches(self, db: sqlite3.Connection, kind: SObject, field: Field, value: str) -> list[str]:
        """Ids of the live records with a value in an external-id field."""
        alive = ' AND "IsDeleted" = 0' if kind.deletable else ""
        sql = f'SELECT "Id" FROM {quote(kind.name)} WHERE {quote(field.name)} = ?{alive}'
        if field.type == "id":
            value = ids.full(value) or value
        return [row[0] for row in db.execute(sql, (value,))]

    def key_field(self, kind: SObject, name: str) -> Field:
        """A field that may name a record in a URL."""
        field = kind.find(name)
        if field is None or not (field.external_id or field.id_lookup):
            raise error(404, "NOT_FOUND", f"Provided external ID field does not exist or is not accessible: {name}")
        return field

    def create(self, tx: Tx, kind: SObject, given: Mapping[str, Any], system: bool = False) -> str:
        """A new record; returns its id. ``system``: as the org itself, which may write what users may not."""
        if not kind.writable and not system:
            raise error(
                400,
                "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
                f"entity type {kind.name} does not support create",
            )
        values = self._check(tx, kind, given, None, system)
        new_id = tx.new_id(kind.prefix)
        row: Row = {field.name: (0 if field.type == "boolean" else None) for field in kind.stored} | {
            field.name: accept(field, field.default) for field in kind.stored if field.default is not None
        }
        row |= values | {
            "Id": new_id,
            "CreatedDate": tx.stamp,
            "CreatedById": self.user,
            "LastModifiedDate": tx.stamp,
            "LastModifiedById": self.user,
            "SystemModstamp": tx.stamp,
            "_at": tx.at,
        }
        if kind.find("OwnerId") and row.get("OwnerId") is None:
            row["OwnerId"] = self.user
        row |= derived(kind, row, values) | numbered(tx.db, kind)
        insert(tx.db, kind, row)
        tx.note(kind.name, new_id, "create", row)
        return new_id

    def update(self, tx: Tx, kind: SObject, record_id: str, given: Mapping[str, Any], system: bool = False) -> str:
        """Changes a record; its stamp moves even if no value does."""
        if not kind.writable and not system:
            raise error(
                400,
                "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY",
                f"entity type {kind.name} does not support update",
            )
        before = self.alive(tx, kind, record_id)
        values = self._check(tx, kind, given, before, system)
        changed = self.touch(tx, kind, before, values | derived(kind, before | values, values))
        tx.note(kind.name, before["Id"], "update", changed, before)
        return str(before["Id"])

    def touch(self, tx: Tx, kind: SObject, before: Row, values: Row) -> Row:
        """Stores values and moves the stamps, never backwards; returns what is different now."""
        stamp = max(tx.stamp, before["SystemModstamp"] or "")
        values = values | {
            "LastModifiedDate": stamp,
            "LastModifiedById": self.user,
            "SystemModstamp": stamp,
            "_at": max(tx.at, before["_at"]),
        }
        sets = ", ".join(f"{quote(name)} = ?" for name in values)
        tx.db.execute(f'UPDATE {quote(kind.name)} SET {sets} WHERE "Id" = ?', (*values.values(), before["Id"]))
        # Events tell the date of the change even if the second is the same.
        return {name: value for name, value in values.items() if value != before[name] or name == "LastModifiedDate"}

    def delete(self, tx: Tx, kind: SObject, record_id: str) -> str:
        """To the recycle bin."""
        if not kind.deletable:
            raise error(400, "INSUFFICIENT_ACCESS_OR_READONLY", f"{kind.name} cannot be deleted")
        before = self.alive(tx, kind, record_id)
        self.touch(tx, kind, before, {"IsDeleted": 1})
        tx.note(kind.name, before["Id"], "delete")
        return str(before["Id"])

    def erase(self, tx: Tx, kind: SObject, record_id: str) -> str:
        """Past the recycle bin: nothing stays."""
        before = self.row(tx, kind, record_id)
        tx.db.execute(f'DELETE FROM {quote(kind.name)} WHERE "Id" = ?', (before["Id"],))
        tx.db.execute("INSERT INTO _erased VALUES (?, ?, ?)", (kind.name, before["Id"], tx.stamp))
        if not before["IsDeleted"]:
            tx.note(kind.name, before["Id"], "delete")
        return str(before["Id"])

    def undelete(self, tx: Tx, kind: SObject, record_id: str) -> str:
        """Back from the recycle bin, with the same id."""
        before = self.row(tx, kind, record_id)
        if not before.get("IsDeleted"):
            raise error(400, "UNDELETE_FAILED", "Entity is not in the recycle bin")
        values: Row = {"IsDeleted": 0}
        if kind.mergeable:
            values["MasterRecordId"] = None
        try:
            changed = self.touch(tx, kind, before, values)
        except sqlite3.IntegrityError:
            raise error(400, "UNDELETE_FAILED", "duplicate value found: a live record has the same key") from None
        tx.note(kind.name, before["Id"], "undelete", before | changed)
        return str(before["Id"])

    def merge(self, tx: Tx, kind: SObject, winner: str, losers: Sequence[str]) -> str:
        """Losers go to the bin and point to the winner; what pointed to them points to it."""
        if not kind.mergeable:
            raise error(400, "INVALID_OPERATION", f"{kind.name} does not support merge")
        kept = self.alive(tx, kind, winner)
        gone = [self.alive(tx, kind, one) for one in losers]
        if not gone or any(one["Id"] == kept["Id"] for one in gone):
            raise error(400, "INVALID_FIELD", "a merge needs one winner and other records as losers")
        for one in gone:
            self.touch(tx, kind, one, {"IsDeleted": 1, "MasterRecordId": kept["Id"]})
            tx.note(kind.name, one["Id"], "delete")
        tx.note(kind.name, kept["Id"], "update", self.touch(tx, kind, kept, {}), kept)
        for other in self.schema.objects.values():
            for field in other.fields:
                if kind.name not in field.reference_to or not field.updateable:
                    continue
                for loser in gone:
                    alive = ' AND "IsDeleted" = 0' if other.deletable else ""
                    sql = f'SELECT "Id" FROM {quote(other.name)} WHERE {quote(field.name)} = ?{alive}'
                    for (child,) in tx.db.execute(sql, (loser["Id"],)).fetchall():
                        row = self.row(tx, other, child)
                        changed = self.touch(tx, other, row, {field.name: kept["Id"]})
                        tx.note(other.name, child, "update", changed, row)
        return str(kept["Id"])

    def _check(self, tx: Tx, kind: SObject, given: Mapping[str, Any], before: Row | None, system: bool) -> Row:
        """The values to store, by field; :class:`ApiError` with every reason against them."""
        values: Row = {}
        faults: list[Fault] = []
        closed: list[str] = []
        for name, value in given.items():
            if name.lower() == "attributes":
                continue
            if isinstance(value, Mapping) and (link := kind.relation(name)):
                values[link.name] = self._foreign(tx, link, value)
                continue
            field = kind.find(name)
            if field is None or (field.hidden and not system):
                raise error(400, "INVALID_FIELD", f"No such column '{name}' on sobject of type {kind.name}")
            open_ = field.createable if before is None else field.updateable
            if not open_ and not (system and not kind.writable and field.type != "id"):
                closed.append(field.name)
                continue
            try:
                values[field.name] = accept(field, value)
                if field.type == "reference" and values[field.name]:
                    self._target(tx, kind, field, values[field.name])
            except RefusedError as refused:
                faults.append(refused.fault)
        if closed:
            raise error(
                400,
                "INVALID_FIELD_FOR_INSERT_UPDATE",
                f"Unable to create/update fields: {', '.join(closed)}. Please check the security settings of "
                "this field and verify that it is read/write for your profile or permission set.",
                closed,
            )
        missing = [
            field.name
            for field in kind.fields
            if (field.required or (not field.nillable and field.updateable))
            and (values.get(field.name) is None if before is None or field.name in values else False)
            and not (before is None and field.defaulted_on_create and field.name not in values)
        ]
        if missing:
            message = f"Required fields are missing: [{', '.join(missing)}]"
            faults.append(Fault("REQUIRED_FIELD_MISSING", message, tuple(missing)))
        if faults:
            raise ApiError(400, *faults)
        self._unique(tx, kind, values, before)
        return values

    def _unique(self, tx: Tx, kind: SObject, values: Row, before: Row | None) -> None:
        for field in kind.fields:
            value = values.get(field.name)
            if not field.unique or value is None:
                continue
            for found in self.matches(tx.db, kind, field, value):
                if before is None or found != before["Id"]:
                    where = f"{field.name} duplicates value on record with id: {found[:15]}"
                    message = f"duplicate value found: {where}"
                    raise error(400, "DUPLICATE_VALUE", message, ())

    def _target(self, tx: Tx, kind: SObject, field: Field, value: str) -> None:
        """The record a reference names must exist and be of a kind the field points to."""
        target = self.schema.by_id(value)
        if target is None or target.name not in field.reference_to:
            message = f"{field.title}: id value of incorrect type: {value}"
            raise RefusedError(Fault("MALFORMED_ID", message, (field.name,)))
        if value == self.user:
            return
        alive = ' AND "IsDeleted" = 0' if target.deletable else ""
        if not tx.db.execute(f'SELECT 1 FROM {quote(target.name)} WHERE "Id" = ?{alive}', (value,)).fetchone():
            raise RefusedError(Fault("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", (field.name,)))
        if field.name == RECORD_TYPE_FIELD and value not in self.record_types(tx.db, kind):
            message = f"Record Type ID: this ID value isn't valid for the user: {value}"
            raise RefusedError(Fault("INVALID_CROSS_REFERENCE_KEY", message, (field.name,)))

    def record_types(self, db: sqlite3.Connection, kind: SObject) -> dict[str, tuple[str, str]]:
        """The active record types of an object: (name, developer name) by id."""
        query = 'SELECT "Id", "Name", "DeveloperName" FROM "RecordType" WHERE "SobjectType" = ? AND "IsActive" = 1'
        return {key: (name, developer) for key, name, developer in db.execute(query + ' ORDER BY "Id"', (kind.name,))}

    def _foreign(self, tx: Tx, link: Field, value: Mapping[str, Any]) -> str:
        """A reference given as the external id of its target: ``{"Account": {"Key__c": "…"}}``."""
        target = self.object(link.reference_to[0])
        keys = [(name, one) for name, one in value.items() if name != "attributes"]
        if len(keys) != 1:
            raise error(400, "INVALID_FIELD", f"{link.relationship}: one external id field names the record")
        field = self.key_field(target, keys[0][0])
        found = self.matches(tx.db, target, field, str(keys[0][1]))
        if len(found) != 1:
            where = f"field {field.name} in entity {target.name}"
            message = f"Foreign key external ID: {keys[0][1]} not found for {where}"
            raise error(400, "INVALID_FIELD", message, ())
        return found[0]


def fetch(db: sqlite3.Connection, kind: SObject, key: str, value: str) -> Row | None:
    """One row with its field names, or None."""
    names = ["_at", *(field.name for field in kind.stored)]
    columns = ", ".join(quote(name) for name in names)
    row = db.execute(f"SELECT {columns} FROM {quote(kind.name)} WHERE {quote(key)} = ?", (value,)).fetchone()
    return None if row is None else dict(zip(names, row, strict=True))


def insert(db: sqlite3.Connection, kind: SObject, row: Row) -> None:
    columns = ", ".join(quote(name) for name in row)
    marks = ", ".join("?" for _ in row)
    db.execute(f"INSERT INTO {quote(kind.name)} ({columns}) VALUES ({marks})", tuple(row.values()))


def derived(kind: SObject, row: Row, given: Row) -> Row:
    """What the org itself fills in: the full name, and what follows from the stage."""
    values: Row = {}
    name = kind.find("Name")
    if name and kind.find("LastName") and (given.keys() & {"FirstName", "LastName"}):
        values["Name"] = full_name(row.get("FirstName"), row.get("LastName"))
    if kind.name == "Attachment" and "Body" in given:
        values["BodyLength"] = len(b64decode(row["Body"] or ""))
    if kind.name == "Case" and "Status" in given:
        values["IsClosed"] = int(row["Status"] == "Closed")
    if kind.name == "Opportunity" and "StageName" in given:
        values["IsClosed"] = int(str(row["StageName"]).startswith("Closed"))
        values["IsWon"] = int(row["StageName"] == "Closed Won")
        if "Probability" not in given and row["StageName"] in STAGES:
            values["Probability"] = float(STAGES[row["StageName"]])
    return values


def numbered(db: sqlite3.Connection, kind: SObject) -> Row:
    """The next number of each field that counts by itself."""
    values: Row = {}
    for field in kind.fields:
        if field.auto_number:
            last = db.execute(f"SELECT max({quote(field.name)}) FROM {quote(kind.name)}").fetchone()[0]
            values[field.name] = f"{int(last or 1000) + 1:08d}"
    return values


def full_name(first: str | None, last: str | None) -> str:
    return " ".join(part for part in (first, last) if part)
