"""The limit: the least that has to happen between the wire and a table with its two unique indexes, and nothing else.

Pages are downloaded, parsed by pyarrow and copied in binary in one go; the indexes are built after the rows.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.json as pa_json
from adbc_driver_postgresql import dbapi

from crm_assets_tests.bench.records import TYPES, hubspot_name
from crm_assets_tests.bench.server import ROOT

ARROW = {
    "boolean": pa.bool_(),
    "currency": pa.decimal128(38, 18),
    "int": pa.int64(),
    "date": pa.date32(),
    "datetime": pa.timestamp("us", "UTC"),
}
_SQL = {
    "boolean": "boolean",
    "currency": "numeric",
    "int": "bigint",
    "date": "date",
    "datetime": "timestamptz",
}
_JOINED = 500
"""Small pages that are parsed in one go."""


class Wire:
    """One connection to the server."""

    def __init__(self, url: str) -> None:
        self._http = HTTPConnection(urlsplit(url).netloc)

    def get(self, target: str) -> tuple[bytes, Any]:
        self._http.request("GET", target)
        reply = self._http.getresponse()
        return reply.read(), reply.headers


def bulk(url: str) -> Iterator[pa.Table]:
    wire, locator = Wire(url), "0"
    types = {"Id": pa.string(), **{name: ARROW.get(kind, pa.string()) for name, kind in TYPES.items()}}
    options = pa_csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=True)
    while locator != "null":
        body, headers = wire.get(f"{ROOT}/jobs/query/750/results?locator={locator}")
        locator = headers["Sforce-Locator"]
        yield pa_csv.read_csv(
            io.BytesIO(body), convert_options=options, parse_options=pa_csv.ParseOptions(newlines_in_values=True)
        )


def rest(url: str, first: str = f"{ROOT}/query/all-0") -> Iterator[pa.Table]:
    wire, target = Wire(url), first
    fields = {"Id": pa.string(), **{name: _json(kind) for name, kind in TYPES.items()}}
    while target:
        body, _ = wire.get(target)
        tail = body[: body.index(b'"records"')]
        found = _parse(body, "records", pa.struct(list(fields.items())))
        yield _cast(found, list(fields))
        target = json.loads(tail.rstrip(b",") + b"}").get("nextRecordsUrl", "")


def hubspot(url: str) -> Iterator[pa.Table]:
    wire, after = Wire(url), "0"
    names = [hubspot_name(name) for name in TYPES]
    record = pa.struct([("id", pa.string()), ("properties", pa.struct([(name, pa.string()) for name in names]))])
    bodies: list[bytes] = []
    while after:
        body, _ = wire.get(f"/crm/v3/objects/contacts?limit=100&after={after}")
        bodies.append(body)
        place = body.rfind(b'"after":"')
        after = body[place + 9 : body.index(b'"', place + 9)].decode() if place > 0 else ""
        if len(bodies) == _JOINED or not after:
            found = _parse(b"\n".join(bodies), "results", record)
            flat = found.field("properties").flatten()
            columns = dict(zip(names, flat, strict=True))
            table = pa.table({"Id": found.field("id"), **{name: columns[hubspot_name(name)] for name in TYPES}})
            yield _cast(table, list(table.column_names))
            bodies = []


def _json(kind: str) -> pa.DataType:
    """What pyarrow reads from JSON by itself; dates and instants are cast afterwards."""
    return pa.string() if kind in ("date", "datetime") else ARROW.get(kind, pa.string())


def _parse(body: bytes, name: str, record: pa.DataType) -> Any:
    options = pa_json.ParseOptions(
        explicit_schema=pa.schema([(name, pa.list_(record))]), unexpected_field_behavior="ignore"
    )
    read = pa_json.ReadOptions(block_size=len(body) + 1, use_threads=False)
    return (
        pa_json.read_json(io.BytesIO(body), parse_options=options, read_options=read)[name].combine_chunks().flatten()
    )


def _cast(found: Any, names: list[str]) -> pa.Table:
    table = pa.table(dict(zip(names, found.flatten(), strict=True))) if not isinstance(found, pa.Table) else found
    columns = {}
    for name in table.column_names:
        target = ARROW.get(TYPES.get(name, ""), pa.string())
        column = table[name]
        if pa.types.is_timestamp(target):
            column = pa.compute.replace_substring(column, "+0000", "Z")
        columns[name] = column.cast(target)
    return pa.table(columns)


def columns_sql() -> str:
    return ", ".join(f'"{name}" {_SQL.get(kind, "text")}' for name, kind in TYPES.items())


def copy(database: str, tables: Iterator[pa.Table]) -> None:
    """Everything into ``public.contact`` in one COPY, then the indexes."""
    schema = pa.schema([("Id", pa.string()), *((n, ARROW.get(k, pa.string())) for n, k in TYPES.items())])
    batches = (batch for table in tables for batch in table.cast(schema).combine_chunks().to_batches())
    with psycopg.connect(database, autocommit=True) as conn:
        conn.execute(f'CREATE TABLE public.contact (row_id uuid DEFAULT uuidv7(), "Id" text, {columns_sql()})')
        with dbapi.connect(database) as adbc:
            with adbc.cursor() as cursor:
                reader = pa.RecordBatchReader.from_batches(schema, batches)
                cursor.adbc_ingest("contact", reader, mode="append", db_schema_name="public")
            adbc.commit()
        conn.execute("CREATE UNIQUE INDEX ON public.contact (row_id)")
        conn.execute('CREATE UNIQUE INDEX ON public.contact ("Id")')
