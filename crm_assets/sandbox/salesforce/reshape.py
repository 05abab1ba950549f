"""What an admin does to an object: adds, renames, retypes and drops fields, changes a list of choices, and takes the
right to see an object or a field away from the user whom calls run as."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from . import formulas
from .errors import error, not_found
from .fields import NUMBERS, Field, of_type
from .objects import SObject, standard, text
from .schema import column, quote
from .store import Store
from .values import RefusedError, accept

_SYSTEM = frozenset(
    {
        "Id",
        "IsDeleted",
        "MasterRecordId",
        "Name",
        "OwnerId",
        "CreatedDate",
        "CreatedById",
        "LastModifiedDate",
        "LastModifiedById",
        "SystemModstamp",
    }
)
_CUSTOM = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,37}__c")
_FOREIGN_NAMES = {"number": "double", "text": "string", "checkbox": "boolean", "integer": "int"}


def change(store: Store, body: Any) -> SObject:
    """Does one action; the new schema is kept beside the records, whose stamps do not move."""
    if not isinstance(body, Mapping):
        raise ValueError("an object with object, action and field is needed")
    wanted, action, name = str(body.get("object")), str(body.get("action")), str(body.get("field") or "")
    kind = store.schema.find(wanted)
    if kind is None and action == "add" and _CUSTOM.fullmatch(wanted):
        kind = _create(store, wanted)
        if not name:
            return kind
    if kind is None:
        raise not_found(f"no such object: {wanted}")
    if not name and action in _RIGHTS:
        with store.setup():
            store.schema.hide(kind.name, action == "hide")
        return kind
    if not name.replace("_", "").isalnum() or name[0].isdigit():
        raise ValueError(f"field: {name!r} is no name for a field")
    known = kind.find(name)
    with store.setup() as db:
        if action == "add":
            if known:
                raise error(400, "DUPLICATE_DEVELOPER_NAME", f"There is already a field named {name} on {kind.name}")
            fields = _add(db, kind, name, body)
        elif action not in _ACTIONS:
            raise ValueError(f"action: {action!r} is none of add, {', '.join(_ACTIONS)}")
        elif known is None:
            raise error(404, "NOT_FOUND", f"There is no field {name} on {kind.name}")
        elif known.name in _SYSTEM and action != "picklist":
            raise error(400, "INVALID_FIELD", f"{known.name} is a system field")
        else:
            fields = _ACTIONS[action](db, kind, known, body)
        changed = replace(kind, fields=fields)
        store.schema.save(changed)
        formulas.check(store.schema)
        store.schema.indexes()
    return changed


def _create(store: Store, name: str) -> SObject:
    """A custom object: its name, and what every object has."""
    with store.setup():
        used = {one.prefix for one in store.schema.objects.values()}
        prefix = next(free for number in range(1000) if (free := f"a{number:02d}") not in used)
        kind = standard(name, prefix, text("Name", 80, name_field=True))
        store.schema.create([kind])
        store.schema.indexes()
    return kind


def _add(db: sqlite3.Connection, kind: SObject, name: str, body: Mapping[str, Any]) -> tuple[Field, ...]:
    if body.get("formula") or body.get("rollup"):
        return (*kind.fields, formulas.make(name, _type(body), body))
    field = of_type(name, _type(body))
    if field.type in ("picklist", "multipicklist"):
        field = field.but(picklist=_choices(body.get("to") or body.get("values") or []))
    if field.type == "reference":
        field = field.but(
            reference_to=(str(body.get("to") or "Account"),),
            relationship=name.removesuffix("__c") + "__r" if name.endswith("__c") else name.removesuffix("Id"),
        )
    db.execute(f"ALTER TABLE {quote(kind.name)} ADD COLUMN {column(field)}")
    if field.type == "boolean":
        db.execute(f"UPDATE {quote(kind.name)} SET {quote(name)} = 0")
    return (*kind.fields, field)


def _type(body: Mapping[str, Any]) -> str:
    wanted = str(body.get("type") or "string")
    return _FOREIGN_NAMES.get(wanted.lower(), wanted.lower())


def _choices(given: Any) -> tuple[str, ...]:
    return tuple(str(one) for one in (given if isinstance(given, list) else [given]))


def _swap(kind: SObject, old: Field, *new: Field) -> tuple[Field, ...]:
    return tuple(one for field in kind.fields for one in (new if field.name == old.name else (field,)))


def _drop_indexes(db: sqlite3.Connection, kind: SObject, field: Field) -> None:
    db.execute(f"DROP INDEX IF EXISTS {quote(f'{kind.name}_{field.name}')}")


def _rename(db: sqlite3.Connection, kind: SObject, field: Field, body: Mapping[str, Any]) -> tuple[Field, ...]:
    to = str(body.get("to") or "")
    if not to.replace("_", "").isalnum() or to[0].isdigit():
        raise ValueError(f"to: {to!r} is no name for a field")
    if kind.find(to):
        raise error(400, "DUPLICATE_DEVELOPER_NAME", f"There is already a field named {to} on {kind.name}")
    if field.stored:
        _drop_indexes(db, kind, field)
        db.execute(f"ALTER TABLE {quote(kind.name)} RENAME COLUMN {quote(field.name)} TO {quote(to)}")
    return _swap(kind, field, field.but(name=to, label=""))


def _retype(db: sqlite3.Connection, kind: SObject, field: Field, body: Mapping[str, Any]) -> tuple[Field, ...]:
    """Values that the new type takes are kept; the others are lost, as when an admin changes a type."""
    if field.derived:
        raise ValueError(f"{field.name} is calculated; drop it and add another one")
    made = of_type(field.name, _type(body))
    made = made.but(label=field.label, createable=field.createable, updateable=field.updateable)

    def convert(value: Any) -> Any:
        if value is None:
            return 0 if made.type == "boolean" else None
        if field.type == "boolean":
            value = "true" if value else "false"
        elif field.type in NUMBERS and made.type not in NUMBERS:
            value = f"{value:.15g}"
        try:
            return accept(made, value)
        except RefusedError:
            return 0 if made.type == "boolean" else None

    db.create_function("convert_value", 1, convert)
    _drop_indexes(db, kind, field)
    # A new column, not the old one with other values: how texts compare is fixed when a column is made.
    table, old, new = quote(kind.name), quote(field.name), quote("_new")
    db.execute(f"ALTER TABLE {table} ADD COLUMN {column(made.but(name='_new'))}")
    db.execute(f"UPDATE {table} SET {new} = convert_value({old})")
    db.execute(f"ALTER TABLE {table} DROP COLUMN {old}")
    db.execute(f"ALTER TABLE {table} RENAME COLUMN {new} TO {old}")
    return _swap(kind, field, made)


def _drop(db: sqlite3.Connection, kind: SObject, field: Field, body: Mapping[str, Any]) -> tuple[Field, ...]:
    if field.stored:
        _drop_indexes(db, kind, field)
        db.execute(f"ALTER TABLE {quote(kind.name)} DROP COLUMN {quote(field.name)}")
    return _swap(kind, field)


def _picklist(db: sqlite3.Connection, kind: SObject, field: Field, body: Mapping[str, Any]) -> tuple[Field, ...]:
    """A list replaces the choices, one text is added; the type may be ``restricted`` or ``unrestricted``."""
    to = body.get("to", body.get("values"))
    choices = _choices(to) if isinstance(to, list) else (*field.picklist, *(_choices(to) if to else ()))
    restricted = {"restricted": True, "unrestricted": False}.get(str(body.get("type")), field.restricted)
    if field.type not in ("picklist", "multipicklist", "combobox"):
        field = field.but(type="picklist")
    return _swap(kind, field, field.but(picklist=tuple(dict.fromkeys(choices)), restricted=restricted))


def _see(db: sqlite3.Connection, kind: SObject, field: Field, body: Mapping[str, Any]) -> tuple[Field, ...]:
    return _swap(kind, field, field.but(hidden=body["action"] == "hide"))


_RIGHTS = frozenset({"hide", "show"})
_ACTIONS: dict[str, Callable[[sqlite3.Connection, SObject, Field, Mapping[str, Any]], tuple[Field, ...]]] = {
    "rename": _rename,
    "retype": _retype,
    "drop": _drop,
    "picklist": _picklist,
    "hide": _see,
    "show": _see,
}
