"""From this vendor's wire to pages: JSON records of queries, and the CSV of Bulk results."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv

from crm_assets.connectors.cast import as_text, typed_page
from crm_assets.core.model import Object, Page


def page_from_json(obj: Object, records: Sequence[dict[str, Any]], following: str | None = None) -> Page:
    """Records of a query reply; values are what JSON gave (numbers as int or Decimal)."""
    names = [obj.id_field, *(f.name for f in obj.fields)]
    columns = {name: [as_text(record.get(name)) for record in records] for name in names}
    deleted = [record.get("IsDeleted") is True for record in records]
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return _with_merges(obj, typed_page(obj, table, pa.array(deleted, pa.bool_()), following))


def page_from_csv(obj: Object, body: bytes, following: str | None = None) -> Page:
    """One page of Bulk results. Null and empty text look the same there and are both null."""
    names = [obj.id_field, *(f.name for f in obj.fields)]
    table = pa_csv.read_csv(
        io.BytesIO(body),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        # Only the empty value is null: "NA" is Namibia, and "NULL" is somebody's name.
        convert_options=pa_csv.ConvertOptions(
            column_types={name: pa.string() for name in [*names, "IsDeleted"]},
            null_values=[""],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ValueError(f"the result of {obj.name} lacks the columns {', '.join(missing)}")
    if "IsDeleted" in table.column_names:
        flags = pc.fill_null(pc.equal(table["IsDeleted"], "true"), False)
    else:
        flags = pa.array([False] * table.num_rows, pa.bool_())
    return _with_merges(obj, typed_page(obj, table, flags, following))


def _with_merges(obj: Object, page: Page) -> Page:
    """A record that was merged away is deleted and names the one that was kept."""
    fld = obj.by_name.get("MasterRecordId")
    if fld is None:
        return page
    lost = page.table.filter(pc.and_(page.table["_deleted"], pc.is_valid(page.table[fld.column])))
    return replace(page, merged=tuple(zip(lost["id"].to_pylist(), lost[fld.column].to_pylist(), strict=True)))
