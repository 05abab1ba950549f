"""Change events' Avro schemas, from the fields of an object.

The parts of a compound field (a person's name, an address) are a record of their own in the place of the compound.
"""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import Any

import fastavro

from crm_assets.sandbox.salesforce.fields import Field
from crm_assets.sandbox.salesforce.objects import SObject

NAMESPACE = "com.sforce.eventbus"
CHANGES = ("CREATE", "UPDATE", "DELETE", "UNDELETE")
CHANGE_TYPES = (*CHANGES, *(f"GAP_{one}" for one in CHANGES), "GAP_OVERFLOW", "SNAPSHOT")

_ABSENT = frozenset({"Id", "IsDeleted", "SystemModstamp"})
"""Fields that change events do not have: the header says these things."""

_TYPES = {"boolean": "boolean", "int": "int", "double": "double", "currency": "double", "percent": "double",
          "date": "long", "datetime": "long"}  # fmt: skip
_NAME_PARTS = ("Salutation", "FirstName", "LastName")
_ADDRESS_PARTS = ("Street", "City", "State", "PostalCode", "Country")
_ADDRESS_NUMBERS = ("Latitude", "Longitude")

_HEADER = {
    "name": "ChangeEventHeader",
    "type": {
        "type": "record",
        "name": "ChangeEventHeader",
        "fields": [
            {"name": "entityName", "type": "string"},
            {"name": "recordIds", "type": {"type": "array", "items": "string"}},
            {"name": "changeType", "type": {"type": "enum", "name": "ChangeType", "symbols": list(CHANGE_TYPES)}},
            {"name": "changeOrigin", "type": "string"},
            {"name": "transactionKey", "type": "string"},
            {"name": "sequenceNumber", "type": "int"},
            {"name": "commitTimestamp", "type": "long"},
            {"name": "commitNumber", "type": "long"},
            {"name": "commitUser", "type": "string"},
            {"name": "nulledFields", "type": {"type": "array", "items": "string"}},
            {"name": "diffFields", "type": {"type": "array", "items": "string"}},
            {"name": "changedFields", "type": {"type": "array", "items": "string"}},
        ],
    },
}


@dataclass(frozen=True, slots=True)
class Place:
    """Where a field stands in an event: the name and number of its top-level field, and of its part of a compound."""

    name: str
    position: int
    part: str | None = None
    part_position: int = 0


@dataclass(frozen=True)
class EventSchema:
    """The schema of one object's change events."""

    id: str
    json: str
    parsed: Any
    places: dict[str, Place]
    """By the object's field names."""


def event_name(entity: str) -> str:
    """``Account`` → ``AccountChangeEvent``, ``Foo__c`` → ``Foo__ChangeEvent``."""
    return f"{entity.removesuffix('c') if entity.endswith('__c') else entity}ChangeEvent"


def build(kind: SObject) -> EventSchema:
    """The schema as the object's fields are now."""
    fields: list[dict[str, Any]] = [_HEADER]
    places: dict[str, Place] = {}
    compounds = {one.compound for one in kind.fields if one.compound}
    defined: set[str] = set()
    for field in kind.fields:
        if field.name in _ABSENT or field.compound or field.derived or field.type == "base64":
            continue
        position = len(fields)
        if field.name not in compounds:
            fields.append(_nullable(field.name, _TYPES.get(field.type, "string")))
            places[field.name] = Place(field.name, position)
            continue
        own = {one.name: one for one in kind.fields if one.compound == field.name}
        record, parts = _compound(field, own)
        fields.append(_nullable(field.name, record["name"] if record["name"] in defined else record))
        defined.add(record["name"])
        for number, (part, name) in enumerate(parts):
            if name in own:
                places[name] = Place(field.name, position, part, number)
    schema = {"type": "record", "name": event_name(kind.name), "namespace": NAMESPACE, "fields": fields}
    text = json.dumps(schema, separators=(",", ":"))
    digest = hashlib.md5(text.encode(), usedforsecurity=False).digest()
    return EventSchema(
        base64.urlsafe_b64encode(digest).decode().rstrip("="), text, fastavro.parse_schema(json.loads(text)), places
    )


def _nullable(name: str, kind: Any) -> dict[str, Any]:
    return {"name": name, "type": ["null", kind], "default": None}


def _compound(field: Field, own: dict[str, Field]) -> tuple[dict[str, Any], list[tuple[str, str]]]:
    """The record of a compound, and its parts with the object's fields that they show."""
    if field.type == "address":
        prefix = field.name.removesuffix("Address")
        parts = [(part, f"{prefix}{part}") for part in _ADDRESS_PARTS]
        members = [_nullable(part, "string") for part, _ in parts]
        members += [_nullable(part, "double") for part in _ADDRESS_NUMBERS]
        members.append(_nullable("GeocodeAccuracy", "string"))
        return {"type": "record", "name": "Address", "fields": members}, parts
    parts = [(part, part) for part in _NAME_PARTS if part in own]
    members = [_nullable(part, "string") for part, _ in parts]
    return {"type": "record", "name": "PersonName", "fields": members}, parts
