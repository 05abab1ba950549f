"""Writes: each one checks its values, keeps unique ones unique, leaves a history and tells what happened."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from . import clock, derive
from .edges import Edges
from .errors import ApiError, BadValue, bad_values, conflict, invalid, not_found, unknown_id
from .kinds import CONTACTS, Kind
from .properties import Property
from .store import COLUMNS, Props, Row, Store, Tx
from .values import checked, text

_CHUNK = 500
Given = Mapping[str, Any]


class Records:
    """The records of all objects. A ``system`` write may set what others cannot, and is not judged by its values."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.schema = store.schema
        self.edges = Edges(store)

    # Finding

    def row(self, db: sqlite3.Connection, kind: Kind, record_id: int) -> Row | None:
        found = db.execute(f"SELECT {COLUMNS} FROM {kind.name} WHERE id = ?", (record_id,)).fetchone()
        return Row(*found) if found else None

    def rows(self, db: sqlite3.Connection, kind: Kind, ids: Iterable[int]) -> dict[int, Row]:
        """Those that exist, by id."""
        wanted, found = list(ids), dict[int, Row]()
        for start in range(0, len(wanted), _CHUNK):
            part = wanted[start : start + _CHUNK]
            marks = ", ".join("?" * len(part))
            for one in db.execute(f"SELECT {COLUMNS} FROM {kind.name} WHERE id IN ({marks})", part):
                found[one[0]] = Row(*one)
        return found

    def follow(self, db: sqlite3.Connection, kind: Kind, record_id: int) -> Row | None:
        """The record an id leads to: that of a record that was merged away leads to the survivor."""
        row = self.row(db, kind, record_id)
        while row is not None and row.merged is not None:
            row = self.row(db, kind, row.merged)
        return row

    def holder(self, db: sqlite3.Connection, kind: Kind, name: str, value: str, live: bool = True) -> int | None:
        """The record that has a unique value."""
        found = db.execute(
            "SELECT id FROM holder WHERE kind = ? AND name = ? AND value = ? AND live = ? ORDER BY id DESC LIMIT 1",
            (kind.name, name, value.lower(), int(live)),
        ).fetchone()
        return found[0] if found else None

    def by_key(
        self, db: sqlite3.Connection, kind: Kind, key: str, id_property: str | None, archived: bool = False
    ) -> Row | None:
        """The record of an id or of a unique value, live or archived as asked for; refuses what can be neither."""
        if id_property in (None, "", "hs_object_id"):
            row = self.follow(db, kind, number(key))
        else:
            assert id_property is not None
            one = self.schema.live(kind).get(id_property)
            if one is None or not one.unique:
                raise invalid(f"Property {id_property} is not a unique property", propertyName=[id_property])
            held = self.holder(db, kind, id_property, key.strip(), live=not archived)
            row = self.row(db, kind, held) if held is not None else None
        if row is None or (row.archived is not None) is not archived:
            return None
        return row

    # Writing

    def create(
        self, tx: Tx, kind: Kind, given: Given, associations: Sequence[Any] = (), *, system: bool = False
    ) -> int:
        """A new record; returns its id."""
        values = {name: value for name, value in self._checked(kind, given, system).items() if value is not None}
        record_id = tx.number()
        now = clock.iso(tx.ms)
        source, label = ("CRM_UI", "CRM UI") if system else ("INTEGRATION", "Sandbox")
        props = derive.defaults(kind, values) | {
            kind.created: now,
            kind.modified: now,
            "hs_object_id": str(record_id),
            "hs_object_source": source,
            "hs_object_source_label": label,
        } | values  # fmt: skip
        missing = [name for name in kind.required if name not in props]
        if missing and not system:
            raise invalid(
                f"Error creating {kind.singular.upper()}. Some required properties were not set.", properties=missing
            )
        derive.calculate(self.schema, kind, props)
        self._judge_stage(kind, props, values, system)
        self._claim(tx, kind, record_id, {}, props, creating=True)
        self.insert(tx.db, kind, record_id, props, tx.ms)
        self.store.lag(tx, kind, [(record_id, None, tx.ms)])
        tx.tell(kind, "creation", objectId=record_id, changeFlag="NEW")
        self.edges.attach(tx, kind, record_id, associations)
        return record_id

    def insert(self, db: sqlite3.Connection, kind: Kind, record_id: int, props: Props, updated: int) -> None:
        db.execute(
            f"INSERT INTO {kind.name} (id, props, updated) VALUES (?, ?, ?)", (record_id, orjson.dumps(props), updated)
        )

    def update(self, tx: Tx, kind: Kind, row: Row, given: Given, *, system: bool = False) -> None:
        """Changes a live record. What changes nothing moves no stamp and is not told."""
        values = self._checked(kind, given, system)
        before = row.values()
        props = before | {name: value for name, value in values.items() if value is not None}
        for name in values.keys() & props.keys():
            if values[name] is None:
                del props[name]
        derive.calculate(self.schema, kind, props)
        self._judge_stage(kind, props, values, system)
        changed = [name for name in before.keys() | props.keys() if before.get(name) != props.get(name)]
        if changed:
            self._claim(tx, kind, row.id, before, props)
            self._put(tx, kind, row, before, props, changed)

    def _put(self, tx: Tx, kind: Kind, row: Row, before: Props, props: Props, changed: Sequence[str]) -> None:
        """Stores a record's new state."""
        props[kind.modified] = clock.iso(tx.ms)
        tx.db.executemany(
            "INSERT INTO history VALUES (?, ?, ?, ?, ?, ?)",
            [(kind.name, row.id, name, before.get(name), tx.ms, tx.source[0]) for name in changed],
        )
        tx.db.execute(
            f"UPDATE {kind.name} SET props = ?, updated = ? WHERE id = ?", (orjson.dumps(props), tx.ms, row.id)
        )
        self.store.lag(tx, kind, [(row.id, row.props, row.updated)])
        for name in sorted(changed):
            tx.tell(
                kind, "propertyChange", objectId=row.id, propertyName=name, propertyValue=props.get(name, "")
            )  # fmt: skip

    def archive(self, tx: Tx, kind: Kind, row: Row) -> None:
        """Into the recycle bin. The stamp of the last change does not move."""
        tx.db.execute(f"UPDATE {kind.name} SET archived = ? WHERE id = ?", (tx.ms, row.id))
        tx.db.execute("UPDATE OR REPLACE holder SET live = 0 WHERE kind = ? AND id = ?", (kind.name, row.id))
        self.store.lag(tx, kind, [(row.id, row.props, row.updated)])
        tx.tell(kind, "deletion", objectId=row.id, changeFlag="DELETED")

    def restore(self, tx: Tx, kind: Kind, row: Row) -> None:
        """Back from the recycle bin, unless another record has taken what is unique to this one."""
        if row.archived is None:
            raise invalid(f"Record {row.id} is not archived")
        held = tx.db.execute("SELECT name, value FROM holder WHERE kind = ? AND id = ?", (kind.name, row.id)).fetchall()
        for name, value in held:
            if (other := self.holder(tx.db, kind, name, value)) is not None:
                raise _taken(kind, name, value, other)
        tx.db.execute(f"UPDATE {kind.name} SET archived = NULL WHERE id = ?", (row.id,))
        tx.db.execute("UPDATE holder SET live = 1 WHERE kind = ? AND id = ?", (kind.name, row.id))
        self.store.lag(tx, kind, [(row.id, None, row.updated)])
        tx.tell(kind, "restore", objectId=row.id, changeFlag="RESTORED")

    def erase(self, tx: Tx, kind: Kind, row: Row) -> None:
        """Away for good, with all traces: what privacy law asks for."""
        for table in ("holder", "history", "edge"):
            tx.db.execute(f"DELETE FROM {table} WHERE kind = ? AND id = ?", (kind.name, row.id))
        tx.db.execute("DELETE FROM edge WHERE to_kind = ? AND to_id = ?", (kind.name, row.id))
        tx.db.execute(f"DELETE FROM {kind.name} WHERE id = ? OR merged = ?", (row.id, row.id))
        if row.archived is None:
            tx.tell(kind, "deletion", objectId=row.id, changeFlag="DELETED")
        tx.tell(kind, "privacyDeletion", objectId=row.id)

    def merge(self, tx: Tx, kind: Kind, primary: Row, other: Row) -> int:
        """Two records become a new one. The primary's values win; both old ids lead to the new record."""
        if not kind.merges:
            raise invalid(f"{kind.noun} records cannot be merged")
        if primary.id == other.id:
            raise invalid("Cannot merge a record with itself")
        winner, loser = primary.values(), other.values()
        record_id = tx.number()
        gone = [
            key
            for row, values in ((primary, winner), (other, loser))
            for key in (*values.get("hs_merged_object_ids", "").split(";"), str(row.id))
            if key
        ]
        props = loser | winner
        moved = len(props) - len(winner)
        props |= {
            "hs_object_id": str(record_id),
            "hs_merged_object_ids": ";".join(dict.fromkeys(gone)),
            kind.created: min(winner[kind.created], loser[kind.created]),
            kind.modified: clock.iso(tx.ms),
        }
        if kind is CONTACTS:
            derive.merge_contacts(props, winner, loser, gone, tx.ms)
        for row in (primary, other):
            tx.db.execute(f"UPDATE {kind.name} SET merged = ? WHERE id = ?", (record_id, row.id))
            self.store.lag(tx, kind, [(row.id, row.props, row.updated)])
        # Of a unique property the survivor keeps one value; addresses it all keeps, as additional ones.
        for name, value in tx.db.execute(
            "SELECT name, value FROM holder WHERE kind = ? AND id IN (?, ?)", (kind.name, primary.id, other.id)
        ).fetchall():
            if name == "email" or props.get(name, "").lower() == value:
                tx.db.execute(
                    "INSERT OR IGNORE INTO holder VALUES (?, ?, ?, ?, 1)", (kind.name, name, value, record_id)
                )
        tx.db.execute("DELETE FROM holder WHERE kind = ? AND id IN (?, ?)", (kind.name, primary.id, other.id))
        self.insert(tx.db, kind, record_id, props, tx.ms)
        self.store.lag(tx, kind, [(record_id, None, tx.ms)])
        self.edges.move(tx, kind, (primary.id, other.id), record_id)
        tx.tell(
            kind,
            "merge",
            objectId=record_id,
            primaryObjectId=primary.id,
            mergedObjectIds=[other.id],
            newObjectId=record_id,
            numberOfPropertiesMoved=moved,
        )
        return record_id

    # Checking

    def _checked(self, kind: Kind, given: Given, system: bool) -> dict[str, str | None]:
        """The texts to keep; a refusal that names all properties that are not taken."""
        live, good, bad = self.schema.live(kind), dict[str, str | None](), list[BadValue]()
        for name, value in given.items():
            one = live.get(name)
            if one is None:
                bad.append(BadValue(name, value, "PROPERTY_DOESNT_EXIST", f'Property "{name}" does not exist'))
            elif system:
                good[name] = text(value)
            elif one.read_only:
                message = f'"{name}" is a read only property; its value cannot be set.'
                bad.append(BadValue(name, value, "READ_ONLY_VALUE", message))
            else:
                kept = checked(one, value)
                if isinstance(kept, BadValue):
                    bad.append(kept)
                else:
                    good[name] = kept
        if bad:
            raise bad_values(bad)
        return good

    def _judge_stage(self, kind: Kind, props: Props, values: Mapping[str, Any], system: bool) -> None:
        """A stage has to belong to its pipeline, an owner to the account."""
        bad = []
        names = derive.STAGES.get(kind.name)
        if names is not None and not system and names[1] in props and values.keys() & set(names):
            pipeline, stage = props.get(names[0]), props[names[1]]
            if self.schema.stage(kind.name, pipeline, stage) is None:
                known = [
                    one["id"] for one in self.schema.pipelines(kind.name).get(pipeline or "", {}).get("stages", [])
                ]
                message = f"{stage} was not one of the allowed options: [{', '.join(known)}]"
                bad.append(BadValue(names[1], stage, "INVALID_OPTION", message))
        owner = values.get("hubspot_owner_id")
        if owner and not system and not self.has_owner(owner):
            bad.append(BadValue("hubspot_owner_id", owner, "INVALID_OPTION", f"{owner} is no owner of this account"))
        if bad:
            raise bad_values(bad)

    def has_owner(self, owner: str) -> bool:
        if not owner.isdigit():
            return False
        return self.store.reader.execute("SELECT 1 FROM owner WHERE id = ?", (int(owner),)).fetchone() is not None

    def _claim(self, tx: Tx, kind: Kind, record_id: int, before: Props, props: Props, creating: bool = False) -> None:
        """Takes the record's unique values, or says who has them."""
        for one in self.schema.live(kind).values():
            if not one.unique or before.get(one.name) == props.get(one.name):
                continue
            value, old = props.get(one.name), before.get(one.name)
            if value is not None:
                other = self.holder(tx.db, kind, one.name, value)
                if other is not None and other != record_id:
                    raise _taken(kind, one.name, value, other)
            if old is not None:
                tx.db.execute(
                    "DELETE FROM holder WHERE kind = ? AND name = ? AND value = ? AND live = 1 AND id = ?",
                    (kind.name, one.name, old.lower(), record_id),
                )
            if value is not None:
                claim(tx.db, kind, one, value, record_id)


def claim(db: sqlite3.Connection, kind: Kind, one: Property, value: str, record_id: int) -> None:
    """Notes who has a unique value."""
    db.execute("INSERT OR IGNORE INTO holder VALUES (?, ?, ?, ?, 1)", (kind.name, one.name, value.lower(), record_id))


def _taken(kind: Kind, name: str, value: str, other: int) -> ApiError:
    if kind is CONTACTS and name == "email":
        return conflict(kind.noun, other)
    message = f"{value} is already the value of {name} of record {other}"
    return bad_values([BadValue(name, value, "CONFLICTING_UNIQUE_VALUE", message)])


def number(key: Any) -> int:
    """A record's id as a number; the vendor's refusal if it is none."""
    shown = str(key).strip()
    if not shown.isascii() or not shown.isdigit():
        raise unknown_id(shown)
    if len(shown) > 18:
        raise not_found()
    return int(shown)
