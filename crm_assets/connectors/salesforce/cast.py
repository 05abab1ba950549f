"""From this vendor's wire to pages: JSON of query replies, and the CSV of Bulk results.

pyarrow reads a whole page into the described types. Only a page that holds something it cannot read, or that Postgres
cannot store, goes through text, where the record that is to blame is found and the others are kept.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json

from crm_assets.connectors.cast import as_text, cast, page_of, typed_page
from crm_assets.core.arrow import ARROW_TYPES
from crm_assets.core.model import FieldType, Object, Page

_DELETED = "IsDeleted"


_BLOCK = 1 << 20
"""Bytes that are parsed at once; blocks are parsed side by side."""


def page_from_reply(obj: Object, body: bytes) -> Page | None:
    """A query's reply as it came, ``Page.next`` being its nextRecordsUrl. None if it has to be read record by record
    (``page_from_json``)."""
    if b"\\u0000" in body:
        return None
    kinds = {f.name: f.type for f in obj.fields}
    wire = {name: _json_type(kind) for name, kind in kinds.items()}
    record = pa.struct(
        [(name, kind) for name, kind in ({_DELETED: pa.bool_(), obj.id_field: pa.string()} | wire).items()]
    )
    schema = pa.schema([("records", pa.list_(record)), ("done", pa.bool_()), ("nextRecordsUrl", pa.string())])
    try:
        reply = pa_json.read_json(
            io.BytesIO(body),
            parse_options=pa_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore"),
            read_options=pa_json.ReadOptions(block_size=len(body) + 1, use_threads=False),
        )
        done, following = reply["done"].to_pylist(), reply["nextRecordsUrl"].to_pylist()
        if done != [following == [None]] or reply["records"].null_count:  # a page that is not the last names the next
            return None
        records = reply["records"].combine_chunks().flatten()
        found = dict(zip(record.names, records.flatten(), strict=True))
        columns = {
            name: found[name] if wire[name] == ARROW_TYPES[kind] else cast(kind, found[name])
            for name, kind in kinds.items()
        }
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
        return None
    deleted = pc.fill_null(found[_DELETED], False)
    return _with_merges(obj, page_of(obj, {obj.id_field: found[obj.id_field], **columns}, deleted, following[0]))


def _json_type(kind: FieldType) -> pa.DataType:
    """Dates and times are text in JSON."""
    textual = (FieldType.DATE, FieldType.TIME, FieldType.TIMESTAMP)
    return pa.string() if kind in textual else ARROW_TYPES[kind]


def page_from_json(obj: Object, records: Sequence[dict[str, Any]], following: str | None = None) -> Page:
    """Records of a query reply; values are what JSON gave (numbers as int or Decimal)."""
    names = [obj.id_field, *(f.name for f in obj.fields)]
    columns = {name: [as_text(record.get(name)) for record in records] for name in names}
    deleted = [record.get(_DELETED) is True for record in records]
    table = pa.table({name: pa.array(values, pa.string()) for name, values in columns.items()})
    return _with_merges(obj, typed_page(obj, table, pa.array(deleted, pa.bool_()), following))


def page_from_csv(obj: Object, body: bytes, following: str | None = None) -> Page:
    """One page of Bulk results. Null and empty text look the same there and are both null."""
    names = [obj.id_field, *(f.name for f in obj.fields)]
    if b"\x00" not in body:
        # A time ends in a Z, which pyarrow does not take.
        times = [f for f in obj.fields if f.type is FieldType.TIME]
        kinds = {f.name: ARROW_TYPES[f.type] for f in obj.fields} | dict.fromkeys((f.name for f in times), pa.string())
        try:
            table = _read(body, {_DELETED: pa.bool_(), obj.id_field: pa.string()} | kinds)
            if set(names) <= set(table.column_names):
                columns = {name: table[name] for name in names} | {f.name: cast(f.type, table[f.name]) for f in times}
                return _with_merges(obj, page_of(obj, columns, _flags(table), following))
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            pass
    table = _read(body, dict.fromkeys([*names, _DELETED], pa.string()))
    missing = [name for name in names if name not in table.column_names]
    if missing:
        raise ValueError(f"the result of {obj.name} lacks the columns {', '.join(missing)}")
    return _with_merges(obj, typed_page(obj, table, _flags(table), following))


def _read(body: bytes, types: dict[str, pa.DataType]) -> pa.Table:
    try:
        return _read_in_blocks(body, types, _BLOCK)
    except pa.ArrowInvalid as error:
        if "straddling" not in str(error):
            raise
        # A record longer than a block: the page is one block.
        return _read_in_blocks(body, types, len(body) + 1)


def _read_in_blocks(body: bytes, types: dict[str, pa.DataType], block: int) -> pa.Table:
    return pa_csv.read_csv(
        io.BytesIO(body),
        read_options=pa_csv.ReadOptions(block_size=block),
        parse_options=pa_csv.ParseOptions(newlines_in_values=True),
        # Only the empty value is null: "NA" is Namibia, and "NULL" is somebody's name.
        convert_options=pa_csv.ConvertOptions(
            column_types=types,
            null_values=[""],
            true_values=["true"],
            false_values=["false"],
            strings_can_be_null=True,
            quoted_strings_can_be_null=True,
        ),
    )


def _flags(table: pa.Table) -> Any:
    """Which records are in the recycle bin."""
    if _DELETED not in table.column_names:
        return pa.array([False] * table.num_rows, pa.bool_())
    flags = table[_DELETED]
    return pc.fill_null(flags if pa.types.is_boolean(flags.type) else pc.equal(flags, "true"), False)


def _with_merges(obj: Object, page: Page) -> Page:
    """A record that was merged away is deleted and names the one that was kept."""
    fld = obj.by_name.get("MasterRecordId")
    if fld is None:
        return page
    lost = page.table.filter(pc.and_(page.table["_deleted"], pc.is_valid(page.table[fld.column])))
    return replace(page, merged=tuple(zip(lost["id"].to_pylist(), lost[fld.column].to_pylist(), strict=True)))
