"""The first load from CSV files: every value as it stands in the file, whatever its field would allow.

A file is named for its record type and has field names as its header; ``item.quantity`` and the like are the fields
of one line. What a file points to and no file has is made up: subsidiaries, currencies and items by their names,
customers by their ids, entries of lists.
"""

from __future__ import annotations

import csv
import re
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import loading
from .errors import ApiError
from .fields import Field, RecordType
from .objects import ITEM_LINES, STANDARD
from .schema import Schema
from .store import Row
from .values import accept

Rows = list[dict[str, str]]
_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,8})?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_FLAGS = {"T": "T", "F": "F", "true": "T", "false": "F"}
_LINE = "item."


def read(folder: Path) -> dict[str, Rows]:
    """The files of a folder by record type; ValueError for a file of no type, or without ids."""
    known = {one.name.lower(): one.name for one in STANDARD}
    found: dict[str, Rows] = {}
    for path in sorted(folder.glob("*.csv")):
        name = known.get(path.stem.replace("_", "").lower())
        if name is None:
            raise ValueError(f"{path}: no such record type; known: {', '.join(known.values())}")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        if any(not (row.get("id") or "").isdecimal() for row in rows):
            raise ValueError(f"{path}: each row needs an id, a whole number")
        found[name] = rows
    return found


def infer(name: str, values: Sequence[str]) -> Field:
    """The type of an unknown column, from what stands in it; it becomes a field of the record type."""
    if values and all(value in _FLAGS for value in values):
        return Field(name, "boolean")
    if values and all(_NUMBER.fullmatch(value) for value in values):
        return Field(name, "number")
    if values and all(_DATE.fullmatch(value) for value in values):
        return Field(name, "date")
    if values and all("T" in value and _DATE.match(value) for value in values):
        return Field(name, "date-time")
    return Field(name, length=max([300, *map(len, values)]))


def fit(kind: RecordType, rows: Rows) -> RecordType:
    """The record type as its file needs it: unknown columns added, texts long enough."""
    fields = {field.name: field for field in kind.fields}
    for column in rows[0] if rows else ():
        if column.startswith(_LINE):
            continue
        values = [row[column] for row in rows if row[column]]
        known = kind.find(column) or infer(column, values)
        if known.type == "string":
            known = known.but(length=max([known.length, *map(len, values)]))
        fields[known.name] = known
    return replace(kind, fields=tuple(fields.values()))


def load(db: sqlite3.Connection, schema: Schema, files: dict[str, Rows]) -> int:
    """Makes the tables and fills them; returns the number of records."""
    schema.create([fit(kind, files.get(kind.name, [])) for kind in STANDARD])
    load = _Load(db, schema, files)
    count = sum(load.type(kind) for kind in schema.types.values() if kind.name in files)
    count += load.generated()
    schema.indexes()
    return count


class _Load:
    """One load; keeps track of what is made up."""

    def __init__(self, db: sqlite3.Connection, schema: Schema, files: dict[str, Rows]) -> None:
        self._db = db
        self._schema = schema
        self._files = files
        self._known = {name: {int(row["id"]) for row in rows} for name, rows in files.items()}
        self._made: dict[str, dict[str, Row]] = {"subsidiary": {"Parent Company": {"name": "Parent Company"}}}
        self._made["currency"] = {} if "currency" in files else {"USD": {"name": "USD", "symbol": "USD"}}
        self._next = max([100, *(key for ids in self._known.values() for key in ids)])
        if "subsidiary" in files:
            del self._made["subsidiary"]
        for made in self._made.values():
            for row in made.values():
                row["id"] = 1

    def type(self, kind: RecordType) -> int:
        rows, lines = [], []
        for given in self._files[kind.name]:
            row = loading.complete(kind, self._row(kind, given))
            rows.append(row)
            line = self._line(kind, given, row)
            if line is not None:
                lines.append((row["id"], row["lastmodifieddate"], line))
        count = loading.records(self._db, kind, rows)
        loading.lines(self._db, ITEM_LINES, lines)
        return count

    def _row(self, kind: RecordType, given: dict[str, str]) -> Row:
        row: Row = {}
        for name, text in given.items():
            field = kind.find(name)
            if field is not None and text != "":
                row[field.column] = self._value(field, text)
        if "status" in given and kind.table == "transaction":
            row["status"] = _by_name(kind.index["status"], given["status"])
        for name in ("subsidiary", "currency"):
            if name in kind.index and kind.name not in ("subsidiary", "currency"):
                row.setdefault(name, 1)
        return row

    def _value(self, field: Field, text: str) -> Any:
        if field.type == "ref":
            return self._reference(field, text)
        if field.type == "enum":
            return _by_name(field, text)
        if field.type == "string":
            return text
        try:
            return accept(field, text)
        except ApiError as failed:
            raise ValueError(f"seed file: {failed}") from None

    def _reference(self, field: Field, text: str) -> int:
        """An id as it stands; a name becomes the record or the list entry of this name."""
        record = next((name for name in field.to if name in self._schema.types), None)
        if record is None:
            return self._entry(field.to[0], text)
        if text.isdecimal():
            number = int(text)
            if not any(number in self._known.get(name, ()) for name in field.to):
                self._made.setdefault(record, {}).setdefault(text, {"id": number})
            return number
        if record not in self._made or text not in self._made[record]:
            for row in self._files.get(record, []):
                if text in (row.get("name"), row.get("symbol"), row.get("itemId"), row.get("entityId")):
                    return int(row["id"])
            self._next += 1
            made = self._made.setdefault(record, {})
            made[text] = {"id": 1 if not made and record in ("subsidiary", "currency") else self._next}
        return int(self._made[record][text]["id"])

    def _entry(self, name: str, text: str) -> int:
        if text.isdecimal():
            return int(text)
        known = self._db.execute("SELECT id FROM _list WHERE list = ? AND name = ?", (name, text)).fetchone()
        if known:
            return int(known[0])
        number = self._db.execute("SELECT coalesce(max(id), 0) + 1 FROM _list WHERE list = ?", (name,)).fetchone()[0]
        self._db.execute("INSERT INTO _list VALUES (?, ?, ?)", (name, number, text))
        return int(number)

    def _line(self, kind: RecordType, given: dict[str, str], row: Row) -> Row | None:
        """The line that the columns speak of: ``item.…``, or a memo that names what was sold for the total."""
        if kind.sublist("item") is None:
            return None
        line: Row = {"line": 1}
        for field in ITEM_LINES.fields:
            text = given.get(f"{_LINE}{field.name}")
            if text:
                line[field.column] = self._item(text) if field.name == "item" else accept(field, text)
        if len(line) == 1:
            if not row["memo"] or row["total"] is None:
                return None
            line |= {"item": self._item(row["memo"]), "quantity": 1, "rate": row["total"], "amount": row["total"]}
            line["description"] = row["memo"]
        return line

    def _item(self, text: str) -> int:
        """A sold product is a non-inventory item unless a file of items has it."""
        return self._reference(Field("item", "ref", to=("nonInventorySaleItem",)), text)

    def generated(self) -> int:
        """The records that were pointed to."""
        count = 0
        for name, made in self._made.items():
            kind = self._schema.types[name]
            rows = []
            for text, given in made.items():
                row: Row = (
                    {"name": text} if "name" in kind.index else {"itemid": text} if "itemid" in kind.index else {}
                )
                if name == "currency":
                    row |= {
                        "symbol": text[:3].upper(),
                        "exchangerate": 1,
                        "isbasecurrency": "T" if given["id"] == 1 else "F",
                    }
                elif name == "subsidiary":
                    row |= {"currency": 1, "legalname": text}
                elif name in ("customer", "vendor"):
                    row |= {"companyname": f"{kind.name.capitalize()} {text}", "subsidiary": 1, "currency": 1}
                elif name in ("contact", "employee"):
                    row |= {"lastname": f"{kind.name.capitalize()} {text}", "subsidiary": 1}
                rows.append(loading.complete(kind, row | given))
            count += loading.records(self._db, kind, rows)
        return count


def _by_name(field: Field, text: str) -> str:
    """The id of a choice that a file gives by id or by name; what is no choice stays as it is."""
    for key, name in field.choices:
        if text in (key, name):
            return key
    return text
