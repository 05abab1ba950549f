"""Sweeps: objects that have to be read again because nobody could say which of their records changed.

The request is durable and any read that covers it settles it, whoever makes that read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from crm_assets.core.model import Gap
from crm_assets.core.naming import snake
from crm_assets.store.database import Conn

CHANNEL = "crm_assets_sweep"
"""NOTIFY channel; the payload is the connection."""

_FIRST_PAUSE = timedelta(seconds=1)
_LONGEST_PAUSE = timedelta(minutes=5)

DUE = """next_try_at <= clock_timestamp() AND NOT EXISTS (
    SELECT FROM crm_assets.cursor c
     WHERE (c.connection, c.object) = (sweep.connection, sweep.object) AND c.lease_until > clock_timestamp())"""
"""SQL of the condition that a sweep waits for somebody: one whose object is being read right now does not."""


@dataclass(frozen=True, slots=True)
class Sweep:
    """An object to be read: all of it, or what changed since the last read."""

    table: str
    whole: bool
    reason: str


def ask(conn: Conn, connection: str, gaps: Iterable[Gap]) -> int:
    """Keep what has to be read; requests for the same object become one. Returns how many objects are concerned.

    An object that has never been read is left out: its first read is still to come.
    """
    asked = 0
    for gap in gaps:
        asked += conn.execute(
            """INSERT INTO crm_assets.sweep AS s (connection, object, whole, until, reason)
               SELECT connection, object, %(whole)s, %(until)s, %(reason)s FROM crm_assets.cursor
                WHERE connection = %(connection)s AND object = %(table)s AND cursor IS NOT NULL
               ON CONFLICT (connection, object) DO UPDATE
                   SET whole = s.whole OR excluded.whole, until = greatest(s.until, excluded.until),
                       reason = excluded.reason, asked_at = clock_timestamp(), attempts = 0,
                       next_try_at = clock_timestamp()""",
            {
                "whole": gap.whole,
                "until": gap.until,
                "reason": gap.reason,
                "connection": connection,
                "table": snake(gap.object),
            },
        ).rowcount
    if asked:
        conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, connection))
    return asked


def claim(conn: Conn, connection: str) -> Sweep | None:
    """The sweep that has waited longest; it is due again after a pause that grows with each attempt."""
    row = conn.execute(
        f"""UPDATE crm_assets.sweep
               SET attempts = attempts + 1,
                   next_try_at = clock_timestamp()
                       + least(%(first)s::interval * power(2, least(attempts, 20)), %(longest)s::interval)
             WHERE (connection, object) = (
                       SELECT connection, object FROM crm_assets.sweep
                        WHERE connection = %(connection)s AND {DUE}
                        ORDER BY next_try_at LIMIT 1 FOR UPDATE SKIP LOCKED)
         RETURNING object, whole, reason""",
        {"connection": connection, "first": _FIRST_PAUSE, "longest": _LONGEST_PAUSE},
    ).fetchone()
    return None if row is None else Sweep(*row)


def postpone(conn: Conn, connection: str, table: str, until: datetime) -> None:
    """Not before the vendor's window moves."""
    conn.execute(
        "UPDATE crm_assets.sweep SET next_try_at = %s WHERE connection = %s AND object = %s",
        (until, connection, table),
    )


def forget(conn: Conn, connection: str, table: str) -> None:
    """Drop the request of an object that is not synced any more."""
    conn.execute("DELETE FROM crm_assets.sweep WHERE connection = %s AND object = %s", (connection, table))


def covered(conn: Conn, connection: str, table: str, *, full: bool, begun: datetime, high: datetime | None) -> bool:
    """Settle the request that a read has answered; ``begun`` is the database's time before its first call.

    An incremental read answers up to ``high`` of the vendor's time, a full one all that had happened by then.
    """
    return (
        conn.execute(
            """DELETE FROM crm_assets.sweep
                WHERE connection = %(connection)s AND object = %(table)s AND asked_at <= %(begun)s
                  AND (%(full)s OR (NOT whole AND (until IS NULL OR until < %(high)s)))""",
            {"connection": connection, "table": table, "begun": begun, "full": full, "high": high},
        ).rowcount
        > 0
    )
