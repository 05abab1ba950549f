"""Associations: which records belong together, in which sense. Each is kept from both sides."""

from __future__ import annotations

import itertools
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from .errors import ApiError, invalid
from .kinds import Kind, find
from .store import Store, Tx


@dataclass(frozen=True, slots=True)
class EdgeType:
    """One sense of an association in one direction. Without a label it is the plain one that every pair has."""

    kind: str
    to_kind: str
    type: int
    inverse: int
    name: str
    label: str | None = None
    custom: bool = False

    @property
    def category(self) -> str:
        return "USER_DEFINED" if self.custom else "HUBSPOT_DEFINED"

    @property
    def primary(self) -> bool:
        return self.label == "Primary" and not self.custom

    def api(self) -> dict[str, Any]:
        return {"category": self.category, "typeId": self.type, "label": self.label}


_PLAIN = """
contacts companies 279 280; contacts deals 4 3; contacts tickets 15 16; contacts calls 193 194; contacts emails 197 198;
contacts meetings 199 200; contacts notes 201 202; contacts tasks 203 204; companies deals 342 341;
companies tickets 340 339; companies calls 181 182; companies emails 185 186; companies meetings 187 188;
companies notes 189 190; companies tasks 191 192; deals tickets 27 28; deals line_items 19 20; deals calls 205 206;
deals emails 209 210; deals meetings 211 212; deals notes 213 214; deals tasks 215 216; tickets calls 219 220;
tickets emails 223 224; tickets meetings 225 226; tickets notes 227 228; tickets tasks 229 230;
contacts contacts 449 449; companies companies 450 450; deals deals 451 451
"""
_PRIMARY = "contacts companies 1 2; deals companies 5 6; tickets companies 26 25"
_FIRST_CUSTOM = 1


def _standard() -> list[EdgeType]:
    plain = [one.split() for one in _PLAIN.split(";")]
    primary = [one.split() for one in _PRIMARY.split(";")]
    labelled = {(first, second) for first, second, _, _ in primary}
    labelled |= {(second, first) for first, second in labelled}
    made = []
    for entries, label in ((plain, None), (primary, "Primary")):
        for first, second, there, back in entries:
            for kind, to_kind, one, other in {(first, second, there, back), (second, first, back, there)}:
                name = f"{_noun(kind)}_to_{_noun(to_kind)}"
                if label is None and (kind, to_kind) in labelled:
                    name += "_unlabeled"
                made.append(EdgeType(kind, to_kind, int(one), int(other), name, label))
    return made


def _noun(name: str) -> str:
    kind = find(name)
    assert kind is not None
    return kind.singular


STANDARD = _standard()


class Edges:
    """The associations of the account, and the senses they may have."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._types = {(one.kind, one.to_kind, one.type): one for one in STANDARD}
        self._types |= self._custom(store.reader)

    def _custom(self, db: sqlite3.Connection) -> dict[tuple[str, str, int], EdgeType]:
        rows = db.execute("SELECT kind, to_kind, type, inverse, name, text FROM label").fetchall()
        return {
            (kind, to, one): EdgeType(kind, to, one, back, name, text, True) for kind, to, one, back, name, text in rows
        }

    def types(self, kind: Kind, to_kind: Kind) -> list[EdgeType]:
        """All senses between two objects, in one direction."""
        return [one for (first, second, _), one in self._types.items() if (first, second) == (kind.name, to_kind.name)]

    def type(self, kind: str, to_kind: str, type_id: int) -> EdgeType | None:
        return self._types.get((kind, to_kind, type_id))

    def plain(self, kind: Kind, to_kind: Kind) -> EdgeType:
        """The sense that every pair of these objects has."""
        for one in self.types(kind, to_kind):
            if one.label is None:
                return one
        raise invalid(f"No default association type between {kind.singular} and {to_kind.singular}")

    def add_plain(self, db: sqlite3.Connection, kind: Kind, to_kind: Kind) -> None:
        """The plain sense between an object of the account's own and another, both directions."""
        there, back = self._free(2)
        name = f"{kind.singular}_to_{to_kind.singular}"
        sides = [
            (kind.name, to_kind.name, there, back, name),
            (to_kind.name, kind.name, back, there, f"{name}_inverse"),
        ]
        db.executemany("INSERT INTO label VALUES (?, ?, ?, ?, ?, NULL)", sides)
        self._types = self._types | self._custom(db)

    def _free(self, count: int) -> list[int]:
        """Numbers for senses of the account's own, behind its last one; none of them is a standard sense's."""
        taken = {one.type for one in STANDARD}
        last = max([_FIRST_CUSTOM - 1, *(one.type for one in self._types.values() if one.custom)])
        return list(islice((number for number in itertools.count(last + 1) if number not in taken), count))

    def add_label(self, kind: Kind, to_kind: Kind, name: str, label: str, inverse_label: str | None) -> list[EdgeType]:
        """A sense of the account's own, both directions."""
        if any(one.label == label or one.name == name for one in self.types(kind, to_kind)):
            raise ApiError(409, f"There is already a label {label}", "CONFLICT")
        self.plain(kind, to_kind)
        with self._store.setup() as db:
            there, *other = self._free(1 if inverse_label is None else 2)
            back = other[0] if other else there
            made = [(kind.name, to_kind.name, there, back, name, label)]
            if kind is not to_kind or there != back:
                back_name = name if inverse_label is None else f"{name}_inverse"
                made.append((to_kind.name, kind.name, back, there, back_name, inverse_label or label))
            db.executemany("INSERT INTO label VALUES (?, ?, ?, ?, ?, ?)", made)
        self._types = self._types | self._custom(self._store.reader)
        return [self._types[one[0], one[1], one[2]] for one in made]

    def rename_label(self, kind: Kind, to_kind: Kind, type_id: int, label: str) -> None:
        self._own(kind, to_kind, type_id)
        with self._store.setup() as db:
            db.execute(
                "UPDATE label SET text = ? WHERE kind = ? AND to_kind = ? AND type = ?",
                (label, kind.name, to_kind.name, type_id),
            )
        self._types = self._types | self._custom(self._store.reader)

    def drop_label(self, kind: Kind, to_kind: Kind, type_id: int) -> None:
        """Takes a sense away, and the associations that have it lose it."""
        one = self._own(kind, to_kind, type_id)
        both = ((one.kind, one.to_kind, one.type), (one.to_kind, one.kind, one.inverse))
        with self._store.setup() as db:
            for first, second, number in both:
                for table in ("label", "edge"):
                    where = (first, second, number)
                    db.execute(f"DELETE FROM {table} WHERE kind = ? AND to_kind = ? AND type = ?", where)
        self._types = {key: value for key, value in self._types.items() if key not in both}

    def _own(self, kind: Kind, to_kind: Kind, type_id: int) -> EdgeType:
        one = self.type(kind.name, to_kind.name, type_id)
        if one is None or not one.custom:
            raise invalid(f"Association type {type_id} is not a label of this account")
        return one

    # Writing

    def attach(self, tx: Tx, kind: Kind, record_id: int, wanted: Sequence[Any]) -> None:
        """The associations given with a new record: ``[{"to": {"id"}, "types": [{"associationTypeId"}]}]``."""
        for one in wanted:
            try:
                to_id, specs = int(one["to"]["id"]), list(one["types"])
                numbers = [int(spec["associationTypeId"]) for spec in specs]
            except (TypeError, KeyError, ValueError):
                raise invalid("associations: a record and its association types are needed") from None
            found = [known for number in numbers for known in self._types.values()
                     if known.kind == kind.name and known.type == number]  # fmt: skip
            if not found or len({known.to_kind for known in found}) != 1:
                raise invalid(f"No association types {numbers} of {kind.singular}")
            to_kind = self._store.schema.find(found[0].to_kind)
            assert to_kind is not None
            self.add(tx, kind, record_id, to_kind, to_id, found)

    def add(
        self, tx: Tx, kind: Kind, record_id: int, to_kind: Kind, to_id: int, types: Iterable[EdgeType]
    ) -> list[EdgeType]:
        """Associates two live records; the plain sense always comes along. Returns all senses they have now."""
        plain = self.plain(kind, to_kind)
        for one_kind, key in ((kind, record_id), (to_kind, to_id)):
            if not self.is_live(tx.db, one_kind, key):
                raise ApiError(404, f"{one_kind.noun} {key} does not exist", "OBJECT_NOT_FOUND", {"id": [str(key)]})
        had = {one.type for one in self.between(tx.db, kind, record_id, to_kind, to_id)}
        for one in dict.fromkeys([plain, *types]):
            if one.type in had:
                continue
            if one.primary:
                self._unseat(tx, kind, record_id, to_kind, one)
            self._put(tx, one, record_id, to_id)
        return self.between(tx.db, kind, record_id, to_kind, to_id)

    def _unseat(self, tx: Tx, kind: Kind, record_id: int, to_kind: Kind, one: EdgeType) -> None:
        """A record has one primary company at most."""
        # The primary side is that of the company: of contact and company, the contact has one.
        if to_kind.name != "companies":
            return
        for (to_id,) in tx.db.execute(
            "SELECT to_id FROM edge WHERE kind = ? AND id = ? AND to_kind = ? AND type = ?",
            (kind.name, record_id, to_kind.name, one.type),
        ).fetchall():
            self._take(tx, one, record_id, to_id)

    def remove(
        self, tx: Tx, kind: Kind, record_id: int, to_kind: Kind, to_id: int, types: Iterable[int] | None = None
    ) -> None:
        """Takes senses away; without the plain one, or with no senses named, nothing of the association is left."""
        held = self.between(tx.db, kind, record_id, to_kind, to_id)
        named = set(types) if types is not None else None
        whole = named is None or any(one.label is None and one.type in named for one in held)
        for one in held:
            if whole or (named is not None and one.type in named):
                self._take(tx, one, record_id, to_id)

    def _put(self, tx: Tx, one: EdgeType, record_id: int, to_id: int) -> None:
        sides = {
            (one.kind, record_id, one.to_kind, to_id, one.type),
            (one.to_kind, to_id, one.kind, record_id, one.inverse),
        }
        tx.db.executemany("INSERT OR IGNORE INTO edge VALUES (?, ?, ?, ?, ?)", sides)
        self._tell(tx, one, record_id, to_id, removed=False)

    def _take(self, tx: Tx, one: EdgeType, record_id: int, to_id: int) -> None:
        for side in (
            (one.kind, record_id, one.to_kind, to_id, one.type),
            (one.to_kind, to_id, one.kind, record_id, one.inverse),
        ):
            tx.db.execute("DELETE FROM edge WHERE kind = ? AND id = ? AND to_kind = ? AND to_id = ? AND type = ?", side)
        self._tell(tx, one, record_id, to_id, removed=True)

    def _tell(self, tx: Tx, one: EdgeType, record_id: int, to_id: int, removed: bool) -> None:
        for kind, to_kind, here, there in (
            (one.kind, one.to_kind, record_id, to_id),
            (one.to_kind, one.kind, to_id, record_id),
        ):
            teller, other = self._store.schema.kind(kind), self._store.schema.kind(to_kind)
            tx.tell(
                teller,
                "associationChange",
                associationType=f"{teller.singular}_to_{other.singular}".upper(),
                fromObjectId=here,
                toObjectId=there,
                associationRemoved=removed,
                isPrimaryAssociation=one.primary,
            )

    def move(self, tx: Tx, kind: Kind, old: Sequence[int], new: int) -> None:
        """The associations of merged records become those of the survivor; of two primary companies one stays."""
        for key in old:
            for to_kind, to_id, type_id in tx.db.execute(
                "SELECT to_kind, to_id, type FROM edge WHERE kind = ? AND id = ?", (kind.name, key)
            ).fetchall():
                one = self._types[kind.name, to_kind, type_id]
                tx.db.execute(
                    "DELETE FROM edge WHERE kind = ? AND id = ? AND to_kind = ? AND to_id = ?",
                    (to_kind, to_id, kind.name, key),
                )
                if to_kind == kind.name and to_id in old:
                    continue
                seated = one.primary and to_kind == "companies" and tx.db.execute(
                    "SELECT 1 FROM edge WHERE kind = ? AND id = ? AND to_kind = ? AND type = ?",
                    (kind.name, new, to_kind, type_id),
                ).fetchone()  # fmt: skip
                if not seated:
                    sides = {(kind.name, new, to_kind, to_id, one.type), (to_kind, to_id, kind.name, new, one.inverse)}
                    tx.db.executemany("INSERT OR IGNORE INTO edge VALUES (?, ?, ?, ?, ?)", sides)
            tx.db.execute("DELETE FROM edge WHERE kind = ? AND id = ?", (kind.name, key))

    # Reading

    def is_live(self, db: sqlite3.Connection, kind: Kind, record_id: int) -> bool:
        sql = f"SELECT 1 FROM {kind.name} WHERE id = ? AND archived IS NULL AND merged IS NULL"
        return db.execute(sql, (record_id,)).fetchone() is not None

    def between(self, db: sqlite3.Connection, kind: Kind, record_id: int, to_kind: Kind, to_id: int) -> list[EdgeType]:
        """The senses of one pair."""
        rows = db.execute(
            "SELECT type FROM edge WHERE kind = ? AND id = ? AND to_kind = ? AND to_id = ? ORDER BY type",
            (kind.name, record_id, to_kind.name, to_id),
        )
        return [self._types[kind.name, to_kind.name, one] for (one,) in rows]

    def of(
        self, db: sqlite3.Connection, kind: Kind, ids: Sequence[int], to_kind: Kind, after: int = 0
    ) -> Mapping[int, dict[int, list[EdgeType]]]:
        """The associations of live records with live records of another object: by id, then by the other's id."""
        found: dict[int, dict[int, list[EdgeType]]] = {}
        for start in range(0, len(ids), 500):
            part = ids[start : start + 500]
            rows = db.execute(
                f"SELECT e.id, e.to_id, e.type FROM edge e JOIN {to_kind.name} t ON t.id = e.to_id"
                f" JOIN {kind.name} f ON f.id = e.id"
                " WHERE t.archived IS NULL AND f.archived IS NULL AND e.kind = ? AND e.to_kind = ? AND e.to_id >= ?"
                f" AND e.id IN ({', '.join('?' * len(part))}) ORDER BY e.id, e.to_id, e.type",
                (kind.name, to_kind.name, after, *part),
            )
            for record_id, to_id, type_id in rows:
                one = self._types[kind.name, to_kind.name, type_id]
                found.setdefault(record_id, {}).setdefault(to_id, []).append(one)
        return found
