"""From replies of SuiteQL to pages. All values are text: T and F for booleans, nothing at all for null."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.json as pa_json
import simplejson

from crm_assets.connectors.cast import as_text, typed_page
from crm_assets.connectors.netsuite.kinds import Kind
from crm_assets.core.model import FieldType, Object, Page

UTC = ZoneInfo("UTC")


@dataclass(frozen=True, slots=True)
class Reply:
    """Rows as text columns, by the names that the query gave them; ``more``: there are rows behind the last one."""

    columns: Mapping[str, Any]
    more: bool

    @property
    def ids(self) -> list[str]:
        return list(self.columns["id"].to_pylist())

    def last(self, key: str = "id") -> str | None:
        """The key behind which to go on; None behind the last row."""
        column = self.columns[key]
        return column[len(column) - 1].as_py() if self.more and len(column) else None


def reply_of(body: bytes, names: list[str]) -> Reply:
    return _at_once(body, names) or _one_by_one(body, names)


def _at_once(body: bytes, names: list[str]) -> Reply | None:
    if b"\\u0000" in body:
        return None
    row = pa.struct([(name, pa.string()) for name in dict.fromkeys(names)])
    try:
        table = pa_json.read_json(
            io.BytesIO(body),
            parse_options=pa_json.ParseOptions(
                explicit_schema=pa.schema([("items", pa.list_(row)), ("hasMore", pa.bool_())]),
                unexpected_field_behavior="ignore",
            ),
            read_options=pa_json.ReadOptions(block_size=len(body) + 1, use_threads=False),
        )
    except pa.ArrowInvalid:
        return None
    if table["items"].null_count or table["hasMore"].null_count or len(table) != 1:
        return None
    rows = table["items"].combine_chunks().flatten()
    return Reply({name: rows.field(name) for name in row.names}, table["hasMore"][0].as_py())


def _one_by_one(body: bytes, names: list[str]) -> Reply:
    reply = simplejson.loads(body, use_decimal=True)
    columns = {name: pa.array([as_text(row.get(name)) for row in reply["items"]], pa.string()) for name in names}
    return Reply(columns, bool(reply["hasMore"]))


def page_of(kind: Kind, obj: Object, reply: Reply, zone: ZoneInfo, following: str | None = None) -> Page:
    """The rows as records of the object."""
    raw = {f.name: _plain(f.type, reply.columns[kind.column(f.name)], zone) for f in obj.fields}
    table = pa.table({obj.id_field: reply.columns["id"], **raw})
    return typed_page(obj, table, pa.array([False] * table.num_rows, pa.bool_()), following)


def _plain(kind: FieldType, column: pa.Array, zone: ZoneInfo) -> pa.Array:
    match kind:
        case FieldType.BOOLEAN:
            return pc.if_else(pc.equal(column, "T"), "true", pc.if_else(pc.equal(column, "F"), "false", column))
        case FieldType.TIMESTAMP:
            return in_utc(column, zone)
        case _:
            return column


def in_utc(column: pa.Array, zone: ZoneInfo) -> pa.Array:
    """Instants of the account's time zone as text in UTC. Of an hour that comes twice, the first is meant."""
    if zone.key == UTC.key:
        return pc.binary_join_element_wise(column, "Z", "")
    local = pc.cast(column, pa.timestamp("s"))
    known = pc.assume_timezone(local, zone.key, ambiguous="earliest", nonexistent="earliest")
    return pc.strftime(pc.cast(known, pa.timestamp("s", "UTC")), "%Y-%m-%dT%H:%M:%SZ")
