"""Stage: observations waiting for ``apply``. Single changes and small loads are COPYed here; large ones arrive through
``mirror``."""

from __future__ import annotations

import io
from collections.abc import Iterable, Sequence
from datetime import datetime

import pyarrow as pa
import pyarrow.csv as pa_csv
from psycopg import sql

from crm_assets.core.errors import RetriableError
from crm_assets.core.model import Object, Page, Source
from crm_assets.store import catalog, merges
from crm_assets.store.database import Conn, Database, statement
from crm_assets.store.ddl import stage_schema


def put(
    conn: Conn, connection: str, obj: Object, page: Page, source: Source, observed_at: datetime, *, wake: bool = True
) -> int:
    """Stage the records of a page, visible to ``apply`` at commit. Returns their number.

    ``observed_at`` is the database's clock before the request was sent. The page is cast to the described schema
    first; one that does not fit raises and nothing is staged. What the page says about merges is noted with it.
    Without ``wake`` nobody is told: for those who call ``apply`` themselves.
    RetriableError if the object was described anew meanwhile: the page may lack a column, and would empty it.
    """
    if not catalog.is_current(conn, connection, obj):
        raise RetriableError(f"{connection}.{obj.table} was described anew while it was read; it is read again")
    merges.note(conn, connection, obj.table, page.merged, observed_at)
    if page.table.num_rows == 0:
        return 0
    table = page.table.select(obj.page_schema().names).cast(obj.page_schema())
    with conn.cursor().copy(_copy(connection, obj, ["_source", "_observed_at", *table.column_names])) as copy:
        for row in zip(*(column.to_pylist() for column in table.columns), strict=True):
            copy.write_row((source.value, observed_at, *row))
    if wake:
        _notify(conn, connection)
    return int(table.num_rows)


def put_load(conn: Conn, connection: str, obj: Object, table: pa.Table) -> int:
    """Stage the rows of a load, each stamped with it: ``apply`` takes them once the load has landed."""
    into = _copy(connection, obj, table.column_names) + sql.SQL(" (FORMAT csv)")
    with conn.cursor().copy(into) as copy:
        copy.write(as_csv(table))
    return int(table.num_rows)


def as_csv(rows: pa.Table) -> bytes:
    """For COPY: null without quotes and text in them, which is how it tells null from empty text."""
    sink = io.BytesIO()
    pa_csv.write_csv(rows, sink, pa_csv.WriteOptions(include_header=False))
    return sink.getvalue()


def put_deleted(
    conn: Conn,
    connection: str,
    obj: Object,
    deleted: Iterable[tuple[str, datetime | None]],
    source: Source,
    observed_at: datetime,
) -> int:
    """Stage deletions: ids, each with the time the vendor names, or None when a primary read found nothing."""
    rows = list(deleted)
    if not rows:
        return 0
    with conn.cursor().copy(_copy(connection, obj, ["_source", "_observed_at", "id", "_version", "_deleted"])) as copy:
        for record_id, at in rows:
            version = None if obj.version_text else at
            copy.write_row((source.value, observed_at, record_id, version, True))
    _notify(conn, connection)
    return len(rows)


def reply(conn: Conn, connection: str, table: str, seq: int, record_id: str | None) -> None:
    """Stage the outcome of an outbox row, for ``apply`` to do the mirror's part of it."""
    conn.execute(
        statement(
            "INSERT INTO {t} (_source, _observed_at, _outbox, _deleted, id) "
            "VALUES ('reply', clock_timestamp(), %s, false, %s)",
            t=sql.Identifier(stage_schema(connection), table),
        ),
        (seq, record_id),
    )
    _notify(conn, connection)


def waiting(conn: Conn, connection: str, table: str) -> int:
    """How many observations wait in the stage (those of loads that are still landing included)."""
    row = conn.execute(
        statement("SELECT count(*) FROM {t}", t=sql.Identifier(stage_schema(connection), table))
    ).fetchone()
    assert row is not None
    return int(row[0])


def unapplied(db: Database, connection: str, tables: Sequence[str]) -> list[str]:
    """Those of the objects whose stage holds what ``apply`` may take."""
    if not tables:
        return []
    # One statement for all: it is asked every second.
    asked = sql.SQL(" UNION ALL ").join(
        sql.SQL("SELECT {name}::text WHERE EXISTS (SELECT FROM {stage} WHERE _load IS NULL)").format(
            name=sql.Literal(table), stage=sql.Identifier(stage_schema(connection), table)
        )
        for table in tables
    )
    landed = "SELECT object FROM crm_assets.load WHERE connection = %s AND object = ANY(%s) AND state = 'landed'"
    with db.transaction() as conn:
        found = conn.execute(sql.SQL("{} UNION {}").format(asked, statement(landed)), (connection, list(tables)))
        return [row[0] for row in found]


def _copy(connection: str, obj: Object, columns: list[str]) -> sql.Composed:
    return statement(
        "COPY {t} ({c}) FROM STDIN",
        t=sql.Identifier(stage_schema(connection), obj.table),
        c=sql.SQL(", ").join(map(sql.Identifier, columns)),
    )


def _notify(conn: Conn, connection: str) -> None:
    conn.execute("SELECT pg_notify('crm_assets_stage', %s)", (connection,))
