"""The first load from CSV files: every value as it stands in the file, whatever its property would allow."""

from __future__ import annotations

import csv
import re
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from . import clock, owners, pipelines
from .filling import Filling
from .kinds import COMPANIES, KINDS, Kind, find
from .properties import Property, labelled
from .schema import Schema
from .standard import all_properties
from .values import RefusedError, accept

_NUMBER = re.compile(r"-?(?:0|[1-9]\d{0,14})(?:\.\d{1,8})?")
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_COMPANY = "company_id"
_OWNERS = "owners"
_SOMEBODY = {"id": "7001", "email": "owner@acme.example", "firstName": "Ana", "lastName": "Owner"}
"""An account belongs to somebody."""
Rows = list[dict[str, str]]


def read(folder: Path) -> dict[str, Rows]:
    """The files of a folder by object or ``owners``; ValueError for one of no object, or without ids."""
    found: dict[str, Rows] = {}
    for path in sorted(folder.glob("*.csv")):
        kind = find(path.stem)
        if kind is None and path.stem != _OWNERS:
            raise ValueError(f"{path}: there is no object {path.stem}")
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = list(csv.DictReader(file))
        if not all((row.get("id") or "").isdigit() for row in rows):
            raise ValueError(f"{path}: each row needs a number as its id")
        found[kind.name if kind else _OWNERS] = rows
    return found


def infer(name: str, values: Sequence[str]) -> Property:
    """The type of a column that no account has, from what stands in it."""
    made = Property(name, name.replace("_", " ").title(), custom=True, origin=clock.now())
    if values and all(value in ("true", "false") for value in values):
        return made.but(type="bool")
    if values and all(_NUMBER.fullmatch(value) for value in values):
        return made.but(type="number")
    if values and all(_DATE.fullmatch(value) for value in values):
        return made.but(type="date")
    if values and all("T" in value and _fits(made.but(type="datetime"), value) for value in values):
        return made.but(type="datetime")
    return made


def _fits(one: Property, value: str) -> bool:
    try:
        accept(one, value)
    except RefusedError:
        return False
    return True


def widen(one: Property, values: Iterable[str]) -> Property:
    """A property that can hold what the file says: with more options, or text."""
    if one.closed:
        known = {value for value, _ in one.options}
        return one.but(
            options=(*one.options, *labelled(value for value in dict.fromkeys(values) if value not in known))
        )
    if one.type == "string" or all(_fits(one, value) for value in values):
        return one
    return one.but(type="string", field_type="text")


def load(db: sqlite3.Connection, schema: Schema, files: dict[str, Rows]) -> int:
    """Fills the tables; returns the number of records."""
    for kind, known in all_properties():
        rows, by_name = files.get(kind.name, []), {one.name: one for one in known}
        for column in rows[0] if rows else ():
            if column in ("id", _COMPANY):
                continue
            values = [row[column] for row in rows if row[column]]
            one = by_name.get(column)
            group = f"{kind.singular}information"
            by_name[column] = infer(column, values).but(group=group) if one is None else widen(one, values)
        schema.save(kind, *by_name.values())
    for name, body in pipelines.standard().items():
        schema.save_pipeline(name, body)
    now = clock.now()
    for row in files.get(_OWNERS, [_SOMEBODY]):
        owners.put(db, int(row["id"]), {name: row[name] for name in owners.FIELDS if row.get(name)}, now, now)
    filling = Filling(db, schema)
    loaded = [(kind, files[kind.name]) for kind in KINDS if kind.name in files]
    count = sum(filling.records(kind, _records(kind, rows)) for kind, rows in loaded)
    for kind, rows in loaded:
        pairs = [(int(row["id"]), int(row[_COMPANY])) for row in rows if (row.get(_COMPANY) or "").isdigit()]
        filling.associate(kind, COMPANIES, pairs, primary=True)
    filling.finish()
    return count


def _records(kind: Kind, rows: Rows) -> Iterator[tuple[int, dict[str, str]]]:
    for row in rows:
        props = {name: value for name, value in row.items() if value and name not in ("id", _COMPANY)}
        for name in (kind.created, kind.modified):
            if name in props and _fits(Property(name, name, "datetime"), props[name]):
                props[name] = clock.iso(clock.parse(props[name]))
        yield int(row["id"]), props
