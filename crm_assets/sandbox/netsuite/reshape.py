"""What an admin does to a record type: adds, renames, retypes and drops fields, changes a list of choices."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from .errors import ApiError, Problem, no_type, user_error
from .fields import Choices, Field, RecordType
from .records import mark
from .schema import Schema, quote
from .store import Store
from .values import accept, plain

_SYSTEM = frozenset({"id", "externalId", "dateCreated", "createdDate", "lastModifiedDate"})
_FOREIGN = {"text": "string", "textarea": "string", "email": "string", "phone": "string", "checkbox": "boolean",
            "int": "integer", "double": "number", "currency": "number", "datetime": "date-time", "reference": "ref",
            "picklist": "enum", "select": "enum"}  # fmt: skip
_TYPES = frozenset({"string", "number", "integer", "boolean", "date", "date-time", "ref", "enum"})


def change(store: Store, order: Mapping[str, Any]) -> RecordType:
    """Does one action; the records' stamps do not move."""
    kind = store.schema.find(str(order.get("object")))
    if kind is None:
        raise no_type(str(order.get("object")))
    action, name = str(order.get("action")), str(order.get("field") or "")
    if action != "add" and action not in _ACTIONS:
        raise ValueError(f"action: {action!r} is none of add, {', '.join(_ACTIONS)}")
    _check_name(name)
    known = kind.find(name)
    with store.setup() as db:
        if action == "add":
            if known or kind.sublist(name):
                raise user_error(f"There is already a field {name} on {kind.name}.", name)
            fields = _add(store.schema, kind, name, order)
        elif known is None:
            raise ApiError(404, Problem(f"There is no field {name} on {kind.name}.", "NONEXISTENT_ID"))
        elif known.name in _SYSTEM:
            raise user_error(f"{known.name} is a system field.", known.name)
        else:
            fields = _ACTIONS[action](db, store.schema, kind, known, order)
        changed = replace(kind, fields=fields)
        store.schema.save(changed)
        store.schema.indexes()
    return changed


def _check_name(name: str) -> None:
    if not name.replace("_", "").isalnum() or name[0].isdigit():
        raise ValueError(f"field: {name!r} is no name for a field")


def _type(order: Mapping[str, Any]) -> str:
    given = str(order.get("type") or "string").lower()
    found = _FOREIGN.get(given, given)
    if found not in _TYPES:
        raise ValueError(f"type: {given!r} is none of {', '.join(sorted(_TYPES))}")
    return found


def _choices(values: Any) -> Choices:
    """From ids, or from ids and names: ``["A"]``, ``{"A": "Open"}``."""
    if isinstance(values, Mapping):
        return tuple((str(key), str(name)) for key, name in values.items())
    if not isinstance(values, list):
        raise ValueError("to: a list of choices is needed")
    return tuple((str(one), str(one)) for one in values)


def _made(name: str, kind: str, order: Mapping[str, Any]) -> Field:
    if kind == "enum":
        return Field(name, kind, choices=_choices(order.get("to") or []))
    if kind == "ref":
        return Field(name, kind, to=(str(order.get("to") or "customer"),))
    return Field(name, kind, length=300 if kind == "string" else 0)


def _fresh(schema: Schema, kind: RecordType, field: Field) -> Field:
    """The field with a column that no other field of its table has; the column is made."""
    taken = {one.column for other in schema.together(kind.table) for one in other.fields}
    column, count = field.name.lower(), 1
    while column in taken or column == kind.marker:
        count += 1
        column = f"{field.name.lower()}__{count}"
    made = field.but(column=column)
    schema.column(kind.table, made)
    return made


def _add(schema: Schema, kind: RecordType, name: str, order: Mapping[str, Any]) -> tuple[Field, ...]:
    return (*kind.fields, _fresh(schema, kind, _made(name, _type(order), order)))


def _swap(kind: RecordType, old: Field, *new: Field) -> tuple[Field, ...]:
    return tuple(one for field in kind.fields for one in (new if field is old else (field,)))


def _copy(db: sqlite3.Connection, kind: RecordType, old: Field, new: Field, convert: Callable[[Any], Any]) -> None:
    """Moves the values to the new column; the old one is left empty."""
    table, source = quote(kind.table), quote(old.column)
    rows = db.execute(f"SELECT id, {source} FROM {table} WHERE {source} NOTNULL{mark(kind)}").fetchall()
    db.executemany(
        f"UPDATE {table} SET {quote(new.column)} = ?, {source} = NULL WHERE id = ?",
        [(convert(value), key) for key, value in rows],
    )


def _rename(
    db: sqlite3.Connection, schema: Schema, kind: RecordType, old: Field, order: Mapping[str, Any]
) -> tuple[Field, ...]:
    name = str(order.get("to") or "")
    _check_name(name)
    if kind.find(name):
        raise user_error(f"There is already a field {name} on {kind.name}.", name)
    new = _fresh(schema, kind, old.but(name=name, title=""))
    _copy(db, kind, old, new, lambda value: value)
    return _swap(kind, old, new)


def _retype(
    db: sqlite3.Connection, schema: Schema, kind: RecordType, old: Field, order: Mapping[str, Any]
) -> tuple[Field, ...]:
    """What the new type cannot hold is lost, as the vendor warns."""
    wanted = _type({"type": order.get("type") or order.get("to")})
    new = _fresh(schema, kind, _made(old.name, wanted, order))

    def convert(value: Any) -> Any:
        shown = plain(old, value)
        try:
            return accept(new, shown if isinstance(shown, str) or wanted != "string" else str(shown))
        except ApiError:
            return None

    _copy(db, kind, old, new, convert)
    return _swap(kind, old, new)


def _drop(
    db: sqlite3.Connection, schema: Schema, kind: RecordType, old: Field, order: Mapping[str, Any]
) -> tuple[Field, ...]:
    shared = [one for other in schema.together(kind.table) for one in other.fields if one.column == old.column]
    if len(shared) == 1:
        db.execute(f"UPDATE {quote(kind.table)} SET {quote(old.column)} = NULL")
    return _swap(kind, old)


def _picklist(
    db: sqlite3.Connection, schema: Schema, kind: RecordType, old: Field, order: Mapping[str, Any]
) -> tuple[Field, ...]:
    return _swap(kind, old, old.but(type="enum", choices=_choices(order.get("to") or order.get("values") or [])))


_ACTIONS = {"rename": _rename, "retype": _retype, "drop": _drop, "picklist": _picklist}
