"""From this vendor's records to pages. All values are text whatever their type; an empty one is none."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json

from crm_assets.connectors.cast import as_text, typed_page
from crm_assets.connectors.hubspot.describe import MERGED
from crm_assets.core.model import Object, Page


def page_of_lists(obj: Object, bodies: Sequence[bytes]) -> Page | None:
    """Replies of a list as they came, read in one go. None if they have to be read record by record (``page_of``)."""
    names = [f.name for f in obj.fields]
    properties = pa.struct([(name, pa.string()) for name in {*names, MERGED}])
    record = pa.struct(
        [("id", pa.string()), ("archived", pa.bool_()), ("updatedAt", pa.string()), ("properties", properties)]
    )
    # Each reply on a line of its own: a line feed is never part of a JSON string.
    lines = b"\n".join(body.replace(b"\n", b" ") for body in bodies)
    if b"\\u0000" in lines:
        return None
    try:
        replies = pa_json.read_json(
            io.BytesIO(lines),
            parse_options=pa_json.ParseOptions(
                explicit_schema=pa.schema([("results", pa.list_(record))]), unexpected_field_behavior="ignore"
            ),
            read_options=pa_json.ReadOptions(block_size=len(lines) + 1, use_threads=False),
        )
    except pa.ArrowInvalid:
        return None
    if replies["results"].null_count or len(replies) != len(bodies):
        return None
    records = replies["results"].combine_chunks().flatten()
    shown = records.field("properties")
    columns = {name: _none_if_empty(shown.field(name)) for name in {*names, MERGED}}
    ids = records.field("id")
    if obj.version_field is not None:
        columns[obj.version_field] = pc.coalesce(columns[obj.version_field], records.field("updatedAt"))
    raw = pa.table({obj.id_field: ids} | {name: columns[name] for name in names})
    merged = pc.is_valid(columns[MERGED])
    losers = zip(ids.filter(merged).to_pylist(), columns[MERGED].filter(merged).to_pylist(), strict=True)
    return replace(
        typed_page(obj, raw, pc.fill_null(records.field("archived"), False)),
        merged=tuple(pair for survivor, named in losers for pair in _pairs(survivor, named)),
    )


def _none_if_empty(column: pa.Array) -> pa.Array:
    return pc.if_else(pc.equal(column, ""), None, column)


def page_of(obj: Object, records: Sequence[dict[str, Any]]) -> Page:
    """Records as lists, searches and batch reads show them, with the records that were merged into them."""
    flat = [_flat(obj, record) for record in records]
    columns = {name: [row.get(name) for row in flat] for name in (obj.id_field, *(f.name for f in obj.fields))}
    raw = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    deleted = pa.array([record.get("archived") is True for record in records], pa.bool_())
    return replace(typed_page(obj, raw, deleted), merged=tuple(_merged(records)))


def _flat(obj: Object, record: dict[str, Any]) -> dict[str, str | None]:
    """The properties, with the id and, where the cursor's property is empty, the record's own date."""
    flat = {name: as_text(value) or None for name, value in record["properties"].items()}
    if obj.version_field is not None and flat.get(obj.version_field) is None:
        flat[obj.version_field] = record.get("updatedAt")
    flat[obj.id_field] = str(record["id"])
    return flat


def _merged(records: Sequence[dict[str, Any]]) -> Sequence[tuple[str, str]]:
    """(loser, survivor) of each record that was merged away."""
    return [
        pair for record in records for pair in _pairs(str(record["id"]), str(record["properties"].get(MERGED) or ""))
    ]


def _pairs(survivor: str, named: str) -> Sequence[tuple[str, str]]:
    return [(loser, survivor) for loser in named.split(";") if loser and loser != survivor]
