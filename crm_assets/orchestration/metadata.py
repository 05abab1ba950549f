"""What Dagster shows of assets and runs: schemas, lineage, numbers. Never a value of a record."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.orchestration.naming import api_key

if TYPE_CHECKING:
    from crm_assets.core.model import Field, Object
    from crm_assets.mirror.report import SyncReport

_OURS = (
    ("row_id", "uuid", "Stable for ever; the product's foreign keys point here."),
    ("id", "text", "The CRM's id; null until a created row is confirmed."),
)
_OURS_LAST = (
    ("_version", "timestamptz", "The CRM's cursor value of the record."),
    ("_observed_at", "timestamptz", "Of the observation that last changed or settled the row."),
    ("_deleted_at", "timestamptz", "Set only where a foreign key of the product kept a deleted row."),
)


def column_schema(spec: ConnectionSpec, obj: Object) -> dg.TableSchema:
    """Columns of the mirror, each with the CRM field it shows and, if the CRM calculates it, how old it may be."""
    first = [dg.TableColumn(name, kind, description=text) for name, kind, text in _OURS]
    last = [dg.TableColumn(name, kind, description=text) for name, kind, text in _OURS_LAST]
    fields = [
        dg.TableColumn(
            fld.column,
            fld.type.value,
            description=f"{fld.label} ({obj.name}.{fld.name}, {fld.vendor_type})"
            + ("" if fld.writable else ", read-only in the CRM")
            + (f"; calculated: {staleness(spec, obj, fld)}" if fld.calculated else ""),
            constraints=dg.TableColumnConstraints(nullable=True, unique=fld.unique),
        )
        for fld in obj.fields
    ]
    return dg.TableSchema(columns=[*first, *fields, *last])


def api_schema(obj: Object) -> dg.TableSchema:
    """Fields of the object in the CRM."""
    return dg.TableSchema(
        columns=[dg.TableColumn(obj.id_field, "id"), *(dg.TableColumn(f.name, f.vendor_type) for f in obj.fields)]
    )


def column_lineage(connection: str, obj: Object) -> dg.TableColumnLineage:
    """Each column from its field."""
    key = api_key(connection, obj.table)
    pairs = [("id", obj.id_field), *((fld.column, fld.name) for fld in obj.fields)]
    if obj.version_field:
        pairs.append(("_version", obj.version_field))
    return dg.TableColumnLineage(
        deps_by_column={column: [dg.TableColumnDep(asset_key=key, column_name=name)] for column, name in pairs}
    )


def staleness(spec: ConnectionSpec, obj: Object, fld: Field) -> str:
    """How old a value may be that the CRM calculates: it changes without its record's version."""
    every = spec.rules(obj).calculated_every
    oldest = f"at most {every / timedelta(hours=1):g} h old" if every else "as old as its row's last read"
    seen = [
        f"{own}.{field}"
        for own, field in fld.through
        if (link := obj.by_name.get(own)) is not None and spec.objects.keys() & set(link.reference_to)
    ]
    if fld.rolls_up:
        seen.append(f"mirrored records that refer to {obj.name}")
    return f"{oldest}; read again as soon as a change of {', '.join(seen)} is in the mirror" if seen else oldest


def table_metadata(spec: ConnectionSpec, obj: Object) -> dict[str, Any]:
    """Metadata of a mirror that does not change from run to run."""
    metadata: dict[str, Any] = {
        "dagster/column_schema": column_schema(spec, obj),
        "dagster/column_lineage": column_lineage(spec.connection, obj),
        "dagster/table_name": f"{spec.connection}.{obj.table}",
    }
    if obj.left_out:
        metadata["fields_left_out"] = ", ".join(f"{name} ({kind})" for name, kind in obj.left_out)
    if obj.calculated:
        metadata["calculated_columns"] = dg.MetadataValue.table(
            [
                dg.TableRecord({"column": fld.column, "staleness": staleness(spec, obj, fld)})
                for fld in obj.fields
                if fld.calculated
            ]
        )
    return metadata


def sync_metadata(report: SyncReport, row_count: int | None) -> dict[str, Any]:
    """The numbers of one sync; ``row_count`` are the live rows of the mirror after it."""
    numbers: dict[str, Any] = {
        "mode": report.mode,
        "resumed": report.resumed,
        "rows_read": report.rows_read,
        "rows_applied": report.applied,
        "rows_unchanged": report.unchanged,
        "rows_deleted": report.deleted,
        "rows_set_aside": report.set_aside,
        "rows_waiting": report.waiting,
        "rows_filled": report.filled,
        "rows_left_the_choice": report.left,
        "columns_filling": ", ".join(report.filling),
        "api_calls": report.api_calls,
        "seconds": round(report.seconds, 3),
        "rows_per_second": round(report.rows_per_second, 1),
        "window_low": report.low.isoformat() if report.low else "the beginning",
        "window_high": report.high.isoformat() if report.high else "",
        "cursor": report.cursor or "",
    }
    return numbers if row_count is None else numbers | {"dagster/row_count": row_count}
