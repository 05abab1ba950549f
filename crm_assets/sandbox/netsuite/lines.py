"""The sublists of a record: reading them, and merging what a write says about them."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from .errors import content, user_error
from .fields import Field, Sublist
from .schema import quote
from .store import Row
from .values import accept

Resolve = Callable[[Field, Any], Any]
"""Turns a reference as it was given into an id."""


def read(db: sqlite3.Connection, sublist: Sublist, parents: Sequence[int]) -> dict[int, list[Row]]:
    """The lines of some records by record, in order; the main line of a transaction is none of them."""
    names = [field.column for field in sublist.stored]
    marks = ", ".join("?" * len(parents))
    key = quote(sublist.key.lower())
    sql = (
        f"SELECT _parent, {', '.join(map(quote, names))} FROM {quote(sublist.table)}"
        f" WHERE _parent IN ({marks}) AND {key} > 0 ORDER BY _parent, {key}"
    )
    found: dict[int, list[Row]] = {parent: [] for parent in parents}
    for parent, *values in db.execute(sql, tuple(parents)):
        found[parent].append(dict(zip(names, values, strict=True)))
    return found


def write(
    db: sqlite3.Connection, sublist: Sublist, parent: int, given: Any, replace: bool, stamp: str, resolve: Resolve
) -> list[Row]:
    """Merges lines by their key: a known key changes its line, others are added; with ``replace`` lines that are not
    named go. Returns all lines as they are now."""
    key = sublist.key.lower()
    before = {line[key]: line for line in read(db, sublist, [parent])[parent]}
    after = {} if replace else dict(before)
    last = max(before, default=0)
    for position, item in enumerate(_items(sublist, given)):
        where = f"{sublist.name}.items[{position}]"
        values = _values(sublist, item, where, resolve)
        number = values.get(key)
        if number is None or number not in before:
            last = number = last + 1
            empty: Row = {field.column: "F" if field.type == "boolean" else None for field in sublist.stored}
            values = empty | values
        else:
            values = before[number] | values
        values[key] = number
        missing = [one for one in sublist.fields if one.required and values[one.column] is None]
        if missing:
            raise user_error(f"Please enter value(s) for: {missing[0].title}.", f"{where}.{missing[0].name}")
        after[number] = _priced(values, item)
    for number in before.keys() - after.keys():
        db.execute(f"DELETE FROM {quote(sublist.table)} WHERE _parent = ? AND {quote(key)} = ?", (parent, number))
    for number, values in after.items():
        if before.get(number) != values:
            store(db, sublist, parent, values, stamp)
    return [after[number] for number in sorted(after)]


def store(db: sqlite3.Connection, sublist: Sublist, parent: int, values: Row, stamp: str) -> None:
    """Keeps one line, new or changed."""
    row = {"_parent": parent, "linelastmodifieddate": stamp} | values
    key = quote(sublist.key.lower())
    sets = ", ".join(f"{quote(name)} = excluded.{quote(name)}" for name in row if name != "_parent")
    db.execute(
        f"INSERT INTO {quote(sublist.table)} ({', '.join(map(quote, row))}) VALUES ({', '.join('?' * len(row))})"
        f" ON CONFLICT (_parent, {key}) DO UPDATE SET {sets}",
        tuple(row.values()),
    )


def remove(db: sqlite3.Connection, sublist: Sublist, parent: int) -> None:
    db.execute(f"DELETE FROM {quote(sublist.table)} WHERE _parent = ?", (parent,))


def _items(sublist: Sublist, given: Any) -> list[Mapping[str, Any]]:
    """The lines in a body: a collection, or a plain list."""
    items = given.get("items", []) if isinstance(given, Mapping) else given
    if not isinstance(items, list) or not all(isinstance(one, Mapping) for one in items):
        raise content(f"Invalid content in the request body: {sublist.name} needs items.", sublist.name)
    return items


def _values(sublist: Sublist, item: Mapping[str, Any], where: str, resolve: Resolve) -> Row:
    values: Row = {}
    inside = item.get(sublist.part) if sublist.part else None
    if inside is not None and not isinstance(inside, Mapping):
        raise content(f"Invalid content in the request body: {sublist.part} is a subrecord.", f"{where}.{sublist.part}")
    for fields, source in ((sublist.fields, item), (sublist.inside, inside or {})):
        for field in _named(fields, source):
            value = source[field.name]
            values[field.column] = resolve(field, value) if field.type == "ref" else accept(field, value)
    if sublist.key not in item and "id" in item:
        values[sublist.key.lower()] = accept(Field(sublist.key, "integer"), item["id"])
    return values


def _named(fields: Iterable[Field], source: Mapping[str, Any]) -> Iterable[Field]:
    return (field for field in fields if field.name in source)


def _priced(values: Row, item: Mapping[str, Any]) -> Row:
    """The amount follows from quantity and rate unless it is given."""
    quantity, rate = values.get("quantity"), values.get("rate")
    if "amount" in item or not (item.keys() & {"quantity", "rate"}) or quantity is None or rate is None:
        return values
    return values | {"amount": round(quantity * rate, 2)}
