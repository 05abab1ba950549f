"""From this vendor's records to pages. All values are text whatever their type; an empty one is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa

from crm_assets.connectors.cast import as_text, typed_page
from crm_assets.connectors.hubspot.describe import MERGED
from crm_assets.core.model import Object, Page


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
        (loser, survivor)
        for record in records
        if (survivor := str(record["id"]))
        for loser in str(record["properties"].get(MERGED) or "").split(";")
        if loser and loser != survivor
    ]
