"""What a transaction did → change events, as the vendor's Change Data Capture tells them.

Source: Change Data Capture Developer Guide, "Change Event Body Fields" and "Merged Change Events".
"""

from __future__ import annotations

import difflib
import io
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import fastavro

from crm_assets.sandbox.salesforce import clock
from crm_assets.sandbox.salesforce.objects import SObject
from crm_assets.sandbox.salesforce.store import Change, Row

from .schemas import EventSchema, Place

ORIGIN = "com/salesforce/api/rest/67.0"
_DIFF_FROM = 1000
"""Characters from which a changed long text is told as a difference."""
_MOST_MERGED = 500
_WHOLE = frozenset({"CREATE", "UNDELETE"})
"""Changes that tell all fields that have a value; a deletion tells none."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event on its way to the log."""

    entity: str
    schema_id: str
    id: str
    payload: bytes


@dataclass(frozen=True, slots=True)
class Commit:
    """What the events of one transaction have in common."""

    number: int
    at_ms: int
    user: str
    key: str

    def header(self, entity: str, change: str, ids: Sequence[str], sequence: int, **bitmaps: list[str]) -> Row:
        return {
            "entityName": entity,
            "recordIds": list(ids),
            "changeType": change,
            "changeOrigin": ORIGIN,
            "transactionKey": self.key,
            "sequenceNumber": sequence,
            "commitTimestamp": self.at_ms,
            "commitNumber": self.number,
            "commitUser": self.user,
            "nulledFields": [],
            "diffFields": [],
            "changedFields": [],
        } | bitmaps


def merged(changes: Iterable[Change]) -> list[list[Change]]:
    """Neighbours that did the same to records of the same object become one event."""
    groups: list[list[Change]] = []
    for one in changes:
        last = groups[-1] if groups else None
        if (
            last
            and len(last) < _MOST_MERGED
            and _same(last[0], one)
            and one.record_id not in {c.record_id for c in last}
        ):
            last.append(one)
        else:
            groups.append([one])
    return groups


def _same(one: Change, other: Change) -> bool:
    if (one.object, one.change) != (other.object, other.change):
        return False
    # Which part of a long text changed differs from record to record.
    return _told(one) == _told(other) and not any(
        len(v) > _DIFF_FROM for v in one.values.values() if isinstance(v, str)
    )


def _told(change: Change) -> Row:
    return {} if change.change == "delete" else {name: v for name, v in change.values.items() if name != "Id"}


def event(kind: SObject, schema: EventSchema, commit: Commit, group: Sequence[Change], sequence: int) -> Event:
    """The event of changes that are the same but for the record."""
    first = group[0]
    change = first.change.upper()
    body: Row = {}
    bitmaps: dict[str, list[str]] = {}
    if change in _WHOLE:
        body, _ = _values(kind, schema, {name: value for name, value in first.values.items() if value is not None}, {})
    elif change == "UPDATE":
        body, diffs = _values(kind, schema, first.values, first.before)
        told = {name: schema.places[name] for name in first.values if name in schema.places}
        bitmaps = {
            "changedFields": bitmap(told.values()),
            "nulledFields": bitmap(place for name, place in told.items() if first.values[name] is None),
            "diffFields": bitmap(told[name] for name in diffs),
        }
    header = commit.header(kind.name, change, [one.record_id for one in group], sequence, **bitmaps)
    return encoded(kind.name, schema, {"ChangeEventHeader": header} | body)


def encoded(entity: str, schema: EventSchema, body: Row) -> Event:
    out = io.BytesIO()
    fastavro.schemaless_writer(out, schema.parsed, body)
    return Event(entity, schema.id, str(uuid.uuid4()), out.getvalue())


def bitmap(places: Iterable[Place]) -> list[str]:
    """Which fields: one bit each, bit 0 for the header; ``N-0x…`` for parts of the compound at position N."""
    top = 0
    parts: dict[int, int] = {}
    for place in places:
        if place.part is None:
            top |= 1 << place.position
        else:
            parts[place.position] = parts.get(place.position, 0) | 1 << place.part_position
    return [*([_hex(top)] if top else []), *(f"{position}-{_hex(bits)}" for position, bits in sorted(parts.items()))]


def _hex(bits: int) -> str:
    return "0x" + bits.to_bytes((bits.bit_length() + 7) // 8, "big").hex().upper()


def _values(kind: SObject, schema: EventSchema, values: Row, before: Row) -> tuple[Row, list[str]]:
    """The event's fields, and the names of those that are told as a difference."""
    body: Row = {}
    diffs: list[str] = []
    for name, value in values.items():
        place, field = schema.places.get(name), kind.find(name)
        if place is None or field is None:
            continue
        told = _avro(field.type, value)
        if isinstance(told, str) and len(told) > _DIFF_FROM and before.get(name):
            told = "".join(difflib.unified_diff(_lines(before[name]), _lines(told), n=0))
            diffs.append(name)
        if place.part is None:
            body[place.name] = told
        else:
            body.setdefault(place.name, {})[place.part] = told
    return body, diffs


def _lines(text: str) -> list[str]:
    return text.splitlines(keepends=True)


def _avro(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "datetime":
        return int(clock.parse(value).timestamp() * 1000)
    if kind == "date":
        return (date.fromisoformat(value) - date(1970, 1, 1)).days * 86_400_000
    if kind == "boolean":
        return bool(value)
    return value
