"""Who changed what: what ``apply`` changed on behalf of the CRM, kept in ``crm_assets.change``.

The product's changes are the outbox; the view ``crm_assets.audit`` shows both in one order. A change is kept in the
transaction that makes it, with the columns that changed and nothing else.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import timedelta
from typing import Any
from uuid import UUID

import simplejson
from psycopg import sql
from psycopg.types.json import Jsonb

from crm_assets.core.model import Field
from crm_assets.store.database import Conn, statement

_OURS = ["row_id", "id", "_version", "_observed_at", "_deleted_at"]
"""Columns of a mirror table that are no fields of the record."""

_acting: ContextVar[str | None] = ContextVar("crm_assets_acting", default=None)


def process() -> str:
    """Who works here: a run of Dagster, a relay, or else the process (``host:pid``)."""
    return _acting.get() or f"{socket.gethostname()}:{os.getpid()}"


@contextmanager
def acting_as(name: str) -> Iterator[None]:
    """Inside, what this thread does is done by ``name``."""
    before = _acting.get()
    _acting.set(name)
    try:
        yield
    finally:
        _acting.set(before)


def old_and_new(fields: tuple[Field, ...], old: str, new: str) -> sql.Composable:
    """Two jsonb expressions, ``old, new``: the columns of these fields in which two rows differ.

    Text put together and parsed once is several times faster here than an aggregate over a row per column.
    """
    return sql.SQL(", ").join(
        statement(
            "('{{' || array_to_string(ARRAY[{pairs}]::text[], ',') || '}}')::jsonb",
            pairs=sql.SQL(", ").join(
                statement(
                    "CASE WHEN {o} IS DISTINCT FROM {n} THEN {key} || coalesce(to_jsonb({shown})::text, 'null') END",
                    o=sql.Identifier(old, f.column),
                    n=sql.Identifier(new, f.column),
                    key=sql.Literal(f"{simplejson.dumps(f.column)}:"),
                    shown=sql.Identifier(shown, f.column),
                )
                for f in fields
            ),
        )
        for shown in (old, new)
    )


def whole(row: sql.Composable) -> sql.Composable:
    """All that a row has, as jsonb: the values of a record that came or went."""
    return statement("jsonb_strip_nulls(to_jsonb({row}) - {ours}::text[])", row=row, ours=sql.Literal(_OURS))


def note(
    conn: Conn,
    connection: str,
    table: str,
    op: str,
    row_id: UUID | None,
    record_id: str,
    *,
    old: Any = None,
    new: Any = None,
    version: Any = None,
    source: str | None = None,
) -> None:
    """Keep one change of the CRM; ``old`` and ``new`` are rows as jsonb (column → value)."""
    conn.execute(
        """INSERT INTO crm_assets.change (connection, object, op, row_id, id, old, new, version, source, process)
           VALUES (%(connection)s, %(table)s, %(op)s, %(row_id)s, %(id)s,
                   jsonb_strip_nulls(%(old)s::jsonb - %(ours)s::text[]),
                   jsonb_strip_nulls(%(new)s::jsonb - %(ours)s::text[]), %(version)s, %(source)s, %(process)s)""",
        {
            "connection": connection,
            "table": table,
            "op": op,
            "row_id": row_id,
            "id": record_id,
            "old": None if old is None else Jsonb(old),
            "new": None if new is None else Jsonb(new),
            "version": None if version is None else str(version),
            "source": source,
            "ours": _OURS,
            "process": process(),
        },
    )


def first_loads(conn: Conn, connection: str, table: str) -> list[int]:
    """Landed reads of everything into a mirror that was never complete: their records came with the first load."""
    return [
        row[0]
        for row in conn.execute(
            """SELECT load_id FROM crm_assets.load
                WHERE connection = %s AND object = %s AND state = 'landed' AND kind = 'full' AND from_cursor IS NULL""",
            (connection, table),
        )
    ]


def summarize(conn: Conn, connection: str, table: str, high: str) -> None:
    """One change for all the records of a first load that has come to its end."""
    conn.execute(
        """INSERT INTO crm_assets.change (connection, object, op, new, source, process)
           SELECT %(connection)s, %(table)s, 'load', jsonb_build_object('records', coalesce(sum(rows), 0)), 'list',
                  %(process)s
             FROM crm_assets.load
            WHERE connection = %(connection)s AND object = %(table)s AND kind = 'full' AND from_cursor IS NULL
              AND high = %(high)s AND state = 'applied'""",
        {"connection": connection, "table": table, "high": high, "process": process()},
    )


def purge_writes(conn: Conn, older_than: timedelta, limit: int = 10_000) -> int:
    """Forget writes of the product that were settled long ago, with their settled conflicts.

    What waits for a person stays, and so does all of a record of which a write is still unsettled: its earlier ones
    explain it. Looked at are the first rows up to one that is too young: rows are made in the order of time.
    """
    return conn.execute(
        """WITH gone AS (
               DELETE FROM crm_assets.outbox WHERE seq IN (
                   SELECT o.seq FROM crm_assets.outbox o
                    WHERE o.seq < coalesce((SELECT y.seq FROM crm_assets.outbox y
                                             WHERE y.created_at >= clock_timestamp() - %(kept)s AND y.split_of IS NULL
                                             ORDER BY y.seq LIMIT 1), 9223372036854775807)
                      AND o.settled_at < clock_timestamp() - %(kept)s
                      AND o.state IN ('confirmed', 'superseded', 'discarded')
                      AND NOT EXISTS (
                          SELECT FROM crm_assets.outbox u
                           WHERE u.connection = o.connection AND u.object = o.object AND u.row_id = o.row_id
                             AND u.state NOT IN ('confirmed', 'superseded', 'discarded'))
                    ORDER BY o.seq LIMIT %(limit)s FOR UPDATE OF o SKIP LOCKED)
               RETURNING seq),
           settled AS (
               DELETE FROM crm_assets.conflict c USING gone WHERE c.seq = gone.seq AND c.state = 'resolved')
           SELECT FROM gone""",
        {"kept": older_than, "limit": limit},
    ).rowcount


def purge(conn: Conn, older_than: timedelta, limit: int = 10_000) -> int:
    """Forget old changes of the CRM."""
    return conn.execute(
        """DELETE FROM crm_assets.change WHERE change_id IN (
               SELECT change_id FROM crm_assets.change WHERE at < clock_timestamp() - %s ORDER BY at LIMIT %s)""",
        (older_than, limit),
    ).rowcount
