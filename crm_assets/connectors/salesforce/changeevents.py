"""Change events: from Avro to hints.

Source: Change Data Capture Developer Guide, "Change Event Header Fields", "Gap Events" and "Overflow Events"; Pub/Sub
API guide, "Event Deserialization Considerations".
"""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import fastavro

from crm_assets.core.model import Change, Gap, Object

_RECORD_ID = re.compile(r"(?!0{15})[0-9A-Za-z]{15}(?:[0-9A-Za-z]{3})?")


@dataclass(frozen=True)
class Schema:
    """The schema of an object's events: as Avro reads with it, and its fields in the order that bitmaps count them."""

    entity: str
    avro: Any
    fields: tuple[str, ...]
    parts: Mapping[int, tuple[str, ...]]
    """Names of the parts of a compound field, by its place."""

    @classmethod
    def parse(cls, text: str) -> Schema:
        """ValueError for what is no schema of change events."""
        try:
            raw = json.loads(text)
            stem = str(raw["name"]).removesuffix("ChangeEvent")
            named: dict[str, tuple[str, ...]] = {}
            parts = {place: found for place, one in enumerate(raw["fields"]) if (found := _parts(one["type"], named))}
            return cls(
                # FooBar__ChangeEvent tells of FooBar__c.
                f"{stem}c" if stem.endswith("__") else stem,
                fastavro.parse_schema(raw),
                tuple(str(one["name"]) for one in raw["fields"]),
                parts,
            )
        except (KeyError, TypeError, AttributeError, fastavro.schema.SchemaParseException) as error:
            raise ValueError(f"no schema of change events: {type(error).__name__}") from error


def read(event_id: str, payload: bytes, schema: Schema, objects: Mapping[str, Object]) -> Iterator[Change | Gap]:
    """What an event tells of these objects; nothing for any other. ValueError for what cannot be read."""
    header = _header(payload, schema)
    obj = objects.get(header["entityName"])
    if obj is None:
        return
    kind, ids = str(header["changeType"]), [str(one) for one in header["recordIds"]]
    at = datetime.fromtimestamp(header["commitTimestamp"] / 1000, UTC)
    if kind == "GAP_OVERFLOW":
        # Each of the changes moved its record's stamp.
        yield Gap(obj.name, "a transaction changed more records than the stream tells one by one", until=at)
    elif not ids or not all(_RECORD_ID.fullmatch(one) for one in ids):
        # A change below the application, which moves no stamp, may name a range of ids such as 001*.
        yield Gap(obj.name, f"{kind} names no records", whole=True, until=at)
    elif kind != "UPDATE" or concerns(obj, changed(schema, [*header["changedFields"], *header["nulledFields"]])):
        for one in ids:
            yield Change(f"{event_id}:{one}", obj.name, one, kind.lower(), at)


def changed(schema: Schema, bitmaps: Iterable[str]) -> set[str]:
    """The fields that bitmaps name; a part of a compound as ``BillingAddress.City``.

    ``0x…`` counts the fields of the schema from the lowest bit, ``N-0x…`` the parts of the compound at place N.
    """
    found: set[str] = set()
    for one in bitmaps:
        place, _, digits = one.rpartition("-")
        names = schema.parts[int(place)] if place else schema.fields
        prefix = f"{schema.fields[int(place)]}." if place else ""
        number = int(digits, 16)
        found |= {prefix + names[bit] for bit in range(number.bit_length()) if number >> bit & 1}
    return found


def concerns(obj: Object, fields: Iterable[str]) -> bool:
    """Whether an update of these fields can change what is kept of the object.

    Not if only some fields are kept, and none of these: then the version alone is behind, until the next regular read.
    A restriction or a calculated field may depend on any field.
    """
    if obj.where is not None or any(fld.calculated for fld in obj.fields):
        return True
    return any(name is None or name in obj.by_name for name in map(_field_name, fields))


def _field_name(name: str) -> str | None:
    """The object's own field behind an event's; None if that cannot be told from the name."""
    compound, _, part = name.rpartition(".")
    if not compound:
        return name
    if compound == "Name":
        return part
    return compound.removesuffix("Address") + part if compound.endswith("Address") else None


def _header(payload: bytes, schema: Schema) -> Mapping[str, Any]:
    try:
        event: Any = fastavro.schemaless_reader(io.BytesIO(payload), schema.avro, None)
        header = event["ChangeEventHeader"]
        for name in ("entityName", "changeType", "recordIds", "commitTimestamp", "changedFields", "nulledFields"):
            header[name]
    except Exception as error:  # Avro raises whatever the bytes make it stumble over
        raise ValueError(f"{schema.entity}: an event does not fit its schema ({type(error).__name__})") from error
    return dict(header)


def _parts(kind: Any, named: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """The names within a record type; one that was defined before is known by its name."""
    for one in kind if isinstance(kind, Sequence) and not isinstance(kind, str) else [kind]:
        if isinstance(one, Mapping) and one.get("type") == "record":
            named[one["name"]] = tuple(str(field["name"]) for field in one["fields"])
            return named[one["name"]]
        if isinstance(one, str) and (known := named.get(one.rpartition(".")[2])):
            return known
    return ()
