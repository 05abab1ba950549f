"""The first load from CSV files: every value as it stands in the file, whatever its field would allow."""

from __future__ import annotations

import csv
import re
import sqlite3
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import clock, ids
from .fields import NUMBERS, TEXTS, Field, of_type
from .objects import STANDARD, SObject, standard
from .records import derived, insert
from .schema import Schema
from .values import RefusedError, accept

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.(\d{1,8}))?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_FLAGS = {"true", "false"}
Rows = list[dict[str, str]]


def read(folder: Path) -> dict[str, Rows]:
    """The files of a folder by object name; ValueError for a file without ids."""
    known = {one.name.lower(): one.name for one in STANDARD}
    found: dict[str, Rows] = {}
    for path in sorted(folder.glob("*.csv")):
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        if any(ids.full(row.get("Id") or "") is None for row in rows):
            raise ValueError(f"{path}: each row needs an Id of 15 or 18 characters")
        found[known.get(path.stem.lower(), path.stem)] = rows
    return found


def unknown(files: dict[str, Rows]) -> list[SObject]:
    """Objects that only a file knows: the system fields and the external id, the rest from the columns."""
    names = {one.name for one in STANDARD}
    return [standard(name, rows[0]["Id"][:3]) for name, rows in files.items() if rows and name not in names]


def infer(name: str, values: Sequence[str]) -> Field:
    """The type of an unknown column, from what stands in it."""
    if values and all(value.lower() in _FLAGS for value in values):
        return of_type(name, "boolean")
    numbers = [_NUMBER.fullmatch(value) for value in values]
    if values and all(numbers):
        scale = max(len(match[1] or "") for match in numbers if match)
        return of_type(name, "double").but(scale=scale)
    if values and all(_DATE.fullmatch(value) for value in values) and _fits(of_type(name, "date"), values):
        return of_type(name, "date")
    if values and all("T" in value for value in values) and _fits(of_type(name, "datetime"), values):
        return of_type(name, "datetime")
    if max(map(len, values), default=0) > 255:
        return of_type(name, "textarea")
    return of_type(name, "string")


def _fits(field: Field, values: Iterable[str]) -> bool:
    try:
        for value in values:
            kept = accept(field, value)
            if field.type in NUMBERS and float(value) != kept:
                return False
    except (RefusedError, ValueError):
        return False
    return True


def widen(field: Field, values: Sequence[str]) -> Field:
    """A field that can hold what the file says: longer, with more choices, or text."""
    if field.type in ("picklist", "multipicklist"):
        more = [value for value in dict.fromkeys(values) if value not in field.picklist]
        field = field.but(picklist=(*field.picklist, *more))
    if field.type in TEXTS:
        longest = max(map(len, values), default=0)
        return field.but(length=longest) if longest > field.length else field
    if field.type in ("id", "reference") or _fits(field, values):
        return field
    found = infer(field.name, values)
    return field.but(type=found.type, length=found.length, precision=found.precision, scale=found.scale)


def fit(kind: SObject, rows: Rows) -> SObject:
    """The object as its file needs it."""
    if not rows:
        return kind
    fields = {field.name: field for field in kind.fields}
    for column in rows[0]:
        values = [row[column] for row in rows if row[column]]
        known = kind.find(column)
        made = widen(known, values) if known else infer(column, values)
        fields[made.name] = made
    return replace(kind, fields=tuple(fields.values()))


def keep(field: Field, value: str) -> Any:
    """A value of the file as the store holds it: texts to the letter, the rest by type."""
    if value == "":
        return None
    if field.type in ("id", "reference"):
        return ids.full(value) or value
    if field.type in TEXTS:
        return value
    return accept(field, value)


def load(db: sqlite3.Connection, schema: Schema, files: dict[str, Rows]) -> int:
    """Makes the tables and fills them; returns the number of records."""
    kinds = [fit(kind, files.get(kind.name, [])) for kind in (*STANDARD, *unknown(files))]
    schema.create(kinds)
    user = next((row["Id"] for row in files.get("User", [])), None)
    count = 0
    for kind in kinds:
        for given in files.get(kind.name, []):
            row: dict[str, Any] = {one.name: 0 if one.type == "boolean" else None for one in kind.stored}
            own = {}
            for name, value in given.items():
                field = kind.find(name)
                if field is not None:
                    own[field.name] = keep(field, value)
            row |= {name: value for name, value in own.items() if value is not None or row[name] is None}
            row |= {name: value for name, value in derived(kind, row, own).items() if own.get(name) is None}
            complete(row, user)
            insert(db, kind, row)
            count += 1
    schema.indexes()
    return count


def complete(row: dict[str, Any], user: str | None) -> None:
    """The system fields a file may leave out."""
    now = clock.stored(clock.now())
    stamp = row["SystemModstamp"] or row.get("LastModifiedDate") or row["CreatedDate"] or now
    row["SystemModstamp"] = stamp
    row["CreatedDate"] = row["CreatedDate"] or stamp
    row["LastModifiedDate"] = row["LastModifiedDate"] or stamp
    for name in ("CreatedById", "LastModifiedById"):
        row[name] = row[name] or user
    if "OwnerId" in row:
        row["OwnerId"] = row["OwnerId"] or user
    row["_at"] = stamp[:-1] + ".000Z"
