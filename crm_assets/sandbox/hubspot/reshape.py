"""What an admin does to an object: adds, renames, retypes and drops properties, changes a list of options."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Mapping
from typing import Any

import orjson

from . import clock
from .errors import ApiError, invalid
from .kinds import Kind
from .properties import TYPES, Property, labelled
from .store import Store
from .values import RefusedError, accept

_FOREIGN = {"text": "string", "boolean": "bool", "checkbox": "bool", "integer": "number", "picklist": "enumeration"}
_SYSTEM = frozenset({"hs_object_id", "createdate", "hs_createdate", "lastmodifieddate", "hs_lastmodifieddate"})
Convert = Callable[[str], str | None]


def change(store: Store, kind: Kind, order: Mapping[str, Any]) -> None:
    """Does one action; the records' stamps do not move."""
    action, name = str(order.get("action")), str(order.get("field") or "")
    if not name.replace("_", "").isalnum() or name[0].isdigit():
        raise ValueError(f"field: {name!r} is no name for a property")
    one = store.schema.live(kind).get(name)
    if action == "add":
        if one is not None:
            raise ApiError(409, f"A property named '{name}' already exists.", "CONFLICT")
    elif one is None:
        raise ApiError(404, f"property '{name}' does not exist", "OBJECT_NOT_FOUND")
    elif name in _SYSTEM:
        raise invalid(f"{name} is a system property")
    with store.setup() as db:
        if one is None:
            store.schema.save(kind, _new(kind, name, order))
        elif action == "drop":
            store.schema.save(kind, one.but(archived=clock.now()))
        elif action == "rename":
            _rename(store, db, kind, one, str(order.get("to") or ""))
        elif action == "retype":
            made = _typed(one, order).but(changed=clock.now())
            store.schema.save(kind, made)
            _rewrite(db, kind, one.name, one.name, lambda value: _converted(made, value))
        elif action == "picklist":
            store.schema.save(kind, _picklist(one, order))
        else:
            raise ValueError(f"action: {action!r} is none of add, rename, retype, drop, picklist")


def _new(kind: Kind, name: str, order: Mapping[str, Any]) -> Property:
    made = Property(name, name, group=f"{kind.singular}information", custom=True, origin=clock.now())
    made = _typed(made, order)
    return made.but(options=_options(order)) if made.type == "enumeration" else made


def _typed(one: Property, order: Mapping[str, Any]) -> Property:
    wanted = str(order.get("type") or "string").lower()
    wanted = _FOREIGN.get(wanted, wanted)
    if wanted not in TYPES:
        raise ValueError(f"type: {wanted!r} is none of {', '.join(TYPES)}")
    return one.but(type=wanted, field_type="", external=False, options=one.options if wanted == "enumeration" else ())


def _options(order: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    to = order.get("to", order.get("values")) or []
    return labelled(str(value) for value in (to if isinstance(to, list) else [to]))


def _picklist(one: Property, order: Mapping[str, Any]) -> Property:
    """A list replaces the options, one text is added."""
    to = order.get("to", order.get("values"))
    options = _options(order) if isinstance(to, list) else tuple(dict.fromkeys((*one.options, *_options(order))))
    if one.type != "enumeration":
        one = one.but(type="enumeration", field_type="")
    return one.but(options=options, external=False, changed=clock.now())


def _converted(made: Property, value: str) -> str | None:
    """Values that the new type takes are kept; the others are lost."""
    try:
        return accept(made, value)
    except RefusedError:
        return None


def _rename(store: Store, db: sqlite3.Connection, kind: Kind, one: Property, to: str) -> None:
    if not to.replace("_", "").isalnum() or to[0].isdigit():
        raise ValueError(f"to: {to!r} is no name for a property")
    if to in store.schema.known(kind):
        raise ApiError(409, f"A property named '{to}' already exists.", "CONFLICT")
    store.schema.forget(kind, one.name)
    store.schema.save(kind, one.but(name=to, label=to, changed=clock.now()))
    _rewrite(db, kind, one.name, to, lambda value: value)
    for table in ("holder", "history"):
        db.execute(f"UPDATE {table} SET name = ? WHERE kind = ? AND name = ?", (to, kind.name, one.name))


def _rewrite(db: sqlite3.Connection, kind: Kind, old: str, new: str, convert: Convert) -> None:
    """Puts each record's value under a name, converted."""
    path = '$."' + old + '"'
    rows = db.execute(f"SELECT id, props FROM {kind.name} WHERE json_extract(props, ?) NOTNULL", (path,)).fetchall()
    made = []
    for record_id, props in rows:
        values = orjson.loads(props)
        value = convert(values.pop(old))
        if value is not None:
            values[new] = value
        made.append((orjson.dumps(values), record_id))
    db.executemany(f"UPDATE {kind.name} SET props = ? WHERE id = ?", made)
