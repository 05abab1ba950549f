"""What the relay did, for Dagster to show as asset events, and the sign that it lives."""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from psycopg.types.json import Jsonb

from crm_assets.store.database import Conn, Database

FRESH = timedelta(seconds=10)
"""A process whose last heartbeat is older does not count as alive."""

RELAY = "relay"


@dataclass(frozen=True, slots=True)
class Activity:
    """One piece of work on one object. ``counts`` are records by what happened to them."""

    seq: int
    connection: str
    table: str
    kind: str
    counts: Mapping[str, int]
    at: datetime


def record(conn: Conn, connection: str, table: str, kind: str, counts: Mapping[str, int]) -> None:
    """Keep what was done; counts of zero are left out, and nothing done leaves no record.

    To be the last statement of a transaction: writers of a connection take turns until their commit, so that records
    become visible in the order of their numbers and a reader of ``since`` misses none.
    """
    told = {name: count for name, count in counts.items() if count}
    if told:
        conn.execute("SELECT pg_advisory_xact_lock(hashtext('crm_assets.activity'), hashtext(%s))", (connection,))
        conn.execute(
            "INSERT INTO crm_assets.activity (connection, object, kind, counts) VALUES (%s, %s, %s, %s)",
            (connection, table, kind, Jsonb(told)),
        )


def since(conn: Conn, connection: str, seq: int, limit: int = 10_000) -> list[Activity]:
    """Activities of a connection after ``seq``, oldest first."""
    rows = conn.execute(
        """SELECT seq, connection, object, kind, counts, at FROM crm_assets.activity
            WHERE connection = %s AND seq > %s ORDER BY seq LIMIT %s""",
        (connection, seq, limit),
    ).fetchall()
    return [Activity(*row) for row in rows]


def purge(conn: Conn, older_than: timedelta, limit: int = 10_000) -> int:
    """Forget old activities and the heartbeats of processes long gone."""
    conn.execute("DELETE FROM crm_assets.heartbeat WHERE at < clock_timestamp() - %s", (older_than,))
    return conn.execute(
        """DELETE FROM crm_assets.activity WHERE seq IN (
               SELECT seq FROM crm_assets.activity WHERE at < clock_timestamp() - %s ORDER BY seq LIMIT %s)""",
        (older_than, limit),
    ).rowcount


def relay_process() -> str:
    """What a relay calls its process."""
    return f"{RELAY}:{socket.gethostname()}:{os.getpid()}"


def heartbeat(db: Database, process: str, connection: str | None = None, *, kind: str = RELAY) -> None:
    """Say that ``process`` is alive (and works for ``connection``)."""
    with db.transaction() as conn:
        conn.execute(
            """INSERT INTO crm_assets.heartbeat (process, kind, connection, pid, host) VALUES (%s, %s, %s, %s, %s)
               ON CONFLICT (process) DO UPDATE
                   SET kind = excluded.kind, connection = excluded.connection, at = clock_timestamp(),
                       pid = excluded.pid, host = excluded.host""",
            (process, kind, connection, os.getpid(), socket.gethostname()),
        )


def farewell(db: Database, process: str) -> None:
    """Remove the heartbeat of a process that ends as asked, so that others take over at once."""
    with db.transaction() as conn:
        conn.execute("DELETE FROM crm_assets.heartbeat WHERE process = %s", (process,))


def relay_alive(db: Database, connection: str | None = None) -> bool:
    """Whether a relay has shown itself lately (for this connection, if one is named)."""
    with db.transaction() as conn:
        row = conn.execute(
            """SELECT EXISTS (SELECT FROM crm_assets.heartbeat
                WHERE kind = %s AND at > clock_timestamp() - %s AND (%s::text IS NULL OR connection = %s))""",
            (RELAY, FRESH, connection, connection),
        ).fetchone()
    return bool(row and row[0])
