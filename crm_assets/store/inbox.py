"""The inbox: hints that a record changed. Each one stands for a read of that record by id, and holds no values.

A hint is ``pending`` until a worker claims it. A claim is a lease: when its owner dies, the hint is due again at the
end of the lease. Reading a record twice is harmless, so a lease may be shorter than the longest call.
"""

from __future__ import annotations

import os
import secrets
import socket
import threading
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from crm_assets.core.model import Change, Unread
from crm_assets.core.naming import snake
from crm_assets.store.database import Conn

CHANNEL = "crm_assets_inbox"
"""NOTIFY channel; the payload is the connection. A hint only: whoever listens also polls."""

LEASE = timedelta(seconds=15)
"""How long the hints of a killed worker wait for the next one."""

_FIRST_DELAY = timedelta(seconds=1)
_LONGEST_DELAY = timedelta(minutes=5)
# A record may have several hints waiting; this many are looked at for each record that is asked for.
_LOOK_AHEAD = 5


@dataclass(frozen=True, slots=True)
class Claim:
    """Hints of one object under a lease. ``ids`` are distinct, the longest waiting first.

    ``at`` is the database's clock when they were taken: what is read for them begins later. ``more``: others may be
    due as well.
    """

    connection: str
    table: str
    owner: str
    seqs: tuple[int, ...]
    ids: tuple[str, ...]
    at: datetime | None = None
    more: bool = False

    def __bool__(self) -> bool:
        return bool(self.seqs)


@dataclass(frozen=True, slots=True)
class Backlog:
    """What waits in the inbox of a connection, and for how many seconds the oldest has waited (None: nothing)."""

    pending: int
    oldest_seconds: float | None


def add(conn: Conn, connection: str, changes: Iterable[Change]) -> int:
    """Keep the changes that are new; those whose event id is known already are ignored. Returns how many were new.

    The object is kept by its table name. Locks are taken in the order of the event ids, so that two deliveries
    of the same events cannot block each other.
    """
    by_event = {change.event_id: change for change in changes}
    if not by_event:
        return 0
    ordered = [by_event[event_id] for event_id in sorted(by_event)]
    added = conn.execute(
        """INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, at)
           SELECT %s, e.* FROM unnest(%s::text[], %s::text[], %s::text[], %s::text[], %s::timestamptz[]) e
           ON CONFLICT (connection, event_id) DO NOTHING""",
        (
            connection,
            [_storable(change.event_id) for change in ordered],
            [_storable(snake(change.object)) for change in ordered],
            [_storable(change.record_id) for change in ordered],
            [_storable(change.change) for change in ordered],
            [change.at for change in ordered],
        ),
    ).rowcount
    if added:
        notify(conn, connection)
    return added


def storable(change: Change) -> bool:
    """Whether Postgres can hold an event's texts as they are."""
    texts = (change.event_id, change.object, change.record_id, change.change)
    return all(_storable(text) == text for text in texts)


def set_aside(conn: Conn, connection: str, unread: Unread) -> None:
    """Keep an event that cannot be read, as failed, for a person to see."""
    conn.execute(
        """INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, state, reason, done_at)
           VALUES (%s, %s, %s, '', 'unreadable', 'failed', %s, clock_timestamp())
           ON CONFLICT (connection, event_id) DO NOTHING""",
        (connection, *map(_storable, (unread.event_id, snake(unread.object), unread.reason))),
    )


def _storable(text: str) -> str:
    """What Postgres cannot hold is spelled out: one such event must not hold back those that come after it."""
    return text.replace("\0", "\\x00").encode("utf-8", "backslashreplace").decode()


def reread(conn: Conn, connection: str, table: str, ids: Iterable[str], reason: str) -> int:
    """Ask for a fresh read of records, whatever has been read of them before. Returns how many were asked for."""
    asked = conn.execute(
        """INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, reason)
           SELECT %s, 'reread:' || gen_random_uuid(), %s, e.id, 'reread', %s FROM unnest(%s::text[]) e (id)""",
        (connection, table, reason, sorted(set(ids))),
    ).rowcount
    if asked:
        notify(conn, connection)
    return asked


def due(conn: Conn, connection: str) -> list[str]:
    """Objects that have hints to be claimed now, the longest waiting first."""
    rows = conn.execute(
        """SELECT object FROM crm_assets.inbox
            WHERE connection = %s AND state IN ('pending', 'claimed') AND next_try_at <= clock_timestamp()
            GROUP BY object ORDER BY min(next_try_at)""",
        (connection,),
    ).fetchall()
    return [row[0] for row in rows]


def claim(conn: Conn, connection: str, table: str, limit: int, lease: timedelta = LEASE) -> Claim:
    """Take the hints of up to ``limit`` records of one object; what others hold is left to them.

    ``next_try_at`` of a claimed hint is the end of its lease: one condition finds both what is due and what a dead
    worker left behind.
    """
    rows = conn.execute(
        """SELECT seq, record_id, clock_timestamp() FROM crm_assets.inbox
            WHERE connection = %s AND object = %s AND state IN ('pending', 'claimed')
              AND next_try_at <= clock_timestamp()
            ORDER BY next_try_at, seq LIMIT %s FOR UPDATE SKIP LOCKED""",
        (connection, table, limit * _LOOK_AHEAD),
    ).fetchall()
    ids = tuple(dict.fromkeys(record_id for _, record_id, _ in rows))[:limit]
    chosen = set(ids)
    seqs = tuple(seq for seq, record_id, _ in rows if record_id in chosen)
    # A name for this one claim: a worker that lost its lease cannot settle what another holds by now.
    owner = f"{socket.gethostname()}:{os.getpid()}:{threading.get_ident()}:{secrets.token_hex(4)}"
    if seqs:
        conn.execute(
            """UPDATE crm_assets.inbox
                  SET state = 'claimed', claimed_by = %(owner)s, attempts = attempts + 1,
                      lease_until = clock_timestamp() + %(lease)s, next_try_at = clock_timestamp() + %(lease)s
                WHERE seq = ANY (%(seqs)s)""",
            {"owner": owner, "lease": lease, "seqs": list(seqs)},
        )
    more = len(seqs) < len(rows) or len(rows) == limit * _LOOK_AHEAD
    return Claim(connection, table, owner, seqs, ids, rows[0][2] if rows else None, more)


def finish(
    conn: Conn,
    held: Claim,
    state: Literal["done", "failed", "ignored"] = "done",
    reason: str | None = None,
    ids: Sequence[str] | None = None,
) -> int:
    """Settle hints of the claim (those of ``ids``, or all). Returns how many were still held."""
    return conn.execute(
        """UPDATE crm_assets.inbox
              SET state = %(state)s, reason = coalesce(%(reason)s, reason), done_at = clock_timestamp(),
                  claimed_by = NULL, lease_until = NULL
            WHERE seq = ANY (%(seqs)s) AND state = 'claimed' AND claimed_by = %(owner)s
              AND (%(ids)s::text[] IS NULL OR record_id = ANY (%(ids)s))""",
        {
            "state": state,
            "reason": reason,
            "seqs": list(held.seqs),
            "owner": held.owner,
            "ids": None if ids is None else list(ids),
        },
    ).rowcount


def release(
    conn: Conn,
    held: Claim,
    reason: str,
    *,
    after: timedelta | None = None,
    until: datetime | None = None,
    ids: Sequence[str] | None = None,
) -> int:
    """Give hints back to be tried again: ``until`` or ``after`` as the vendor said, else later with each attempt."""
    return conn.execute(
        """UPDATE crm_assets.inbox
              SET state = 'pending', reason = %(reason)s, claimed_by = NULL, lease_until = NULL,
                  next_try_at = coalesce(%(until)s::timestamptz, clock_timestamp() + coalesce(%(after)s::interval,
                      least(%(first)s::interval * power(2, least(attempts, 20) - 1), %(longest)s::interval)))
            WHERE seq = ANY (%(seqs)s) AND state = 'claimed' AND claimed_by = %(owner)s
              AND (%(ids)s::text[] IS NULL OR record_id = ANY (%(ids)s))""",
        {
            "reason": reason,
            "until": until,
            "after": after,
            "first": _FIRST_DELAY,
            "longest": _LONGEST_DELAY,
            "seqs": list(held.seqs),
            "owner": held.owner,
            "ids": None if ids is None else list(ids),
        },
    ).rowcount


def counts(conn: Conn, connection: str) -> dict[str, int]:
    """Hints by state."""
    rows = conn.execute(
        "SELECT state, count(*) FROM crm_assets.inbox WHERE connection = %s GROUP BY state ORDER BY state",
        (connection,),
    ).fetchall()
    return dict(rows)


def backlog(conn: Conn, connection: str) -> Backlog:
    """What waits now; cheap also when the inbox holds a long history."""
    row = conn.execute(
        """SELECT count(*), extract(epoch FROM clock_timestamp() - min(received_at))::float8
             FROM crm_assets.inbox WHERE connection = %s AND state IN ('pending', 'claimed')""",
        (connection,),
    ).fetchone()
    assert row is not None
    return Backlog(row[0], row[1])


def pushed(conn: Conn, connection: str) -> set[str]:
    """Objects of which the vendor has pushed an event within the last day."""
    rows = conn.execute(
        """SELECT DISTINCT object FROM crm_assets.inbox
            WHERE connection = %s AND change <> 'reread' AND received_at > clock_timestamp() - interval '1 day'""",
        (connection,),
    ).fetchall()
    return {row[0] for row in rows}


def events_arrive(conn: Conn, connection: str) -> bool:
    """Whether the vendor has pushed an event within the last day: without any, nothing tells of its changes."""
    row = conn.execute(
        """SELECT EXISTS (SELECT FROM crm_assets.inbox
                           WHERE connection = %s AND change <> 'reread'
                             AND received_at > clock_timestamp() - interval '1 day')""",
        (connection,),
    ).fetchone()
    return bool(row and row[0])


def purge(conn: Conn, connection: str, older_than: timedelta, limit: int = 10_000) -> int:
    """Forget settled hints, except failed ones. An event that the vendor repeats after that is one more read."""
    return conn.execute(
        """DELETE FROM crm_assets.inbox WHERE seq IN (
               SELECT seq FROM crm_assets.inbox
                WHERE connection = %s AND state IN ('done', 'ignored') AND done_at < clock_timestamp() - %s
                ORDER BY seq LIMIT %s)""",
        (connection, older_than, limit),
    ).rowcount


def notify(conn: Conn, connection: str) -> None:
    """Wake who listens for hints of the connection, once this transaction commits."""
    conn.execute("SELECT pg_notify(%s, %s)", (CHANNEL, connection))
