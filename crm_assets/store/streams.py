"""Streams: the place up to which each has been followed, moved in the transaction that keeps what it told.

One session at a time follows a topic. The right to do so is a session-level advisory lock on the very connection that
keeps what is heard: when that connection is gone, so is the right, and nothing more can be kept with it.
"""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import psycopg

from crm_assets.core.model import Heard
from crm_assets.store import inbox, sweeps
from crm_assets.store.database import Conn, Database, plain_url

FRESH = timedelta(minutes=10)
"""A stream that has told nothing for longer, not even that it is there, does not count as followed."""


class Follower:
    """Follows one topic for one connection. Not shared between threads; the URL must not lead through a pooler."""

    def __init__(self, url: str, connection: str, topic: str) -> None:
        self._url = plain_url(url)
        self._connection = connection
        self._topic = topic
        self._conn: psycopg.Connection[tuple[Any, ...]] | None = None

    def hold(self) -> bool:
        """Whether the right to follow is ours; asks for it if it is not."""
        if self._conn is not None and not self._conn.broken:
            return True
        self.close()
        conn = psycopg.connect(
            self._url, autocommit=True, application_name="crm_assets stream", options="-c timezone=UTC"
        )
        row = conn.execute(
            "SELECT pg_try_advisory_lock(hashtext('crm_assets.stream'), hashtext(%s))",
            (f"{self._connection} {self._topic}",),
        ).fetchone()
        if row is None or not row[0]:
            conn.close()
            return False
        self._conn = conn
        return True

    def place(self) -> bytes | None:
        """Where to go on; None to begin at this moment."""
        row = self._held.execute(
            "SELECT place FROM crm_assets.stream WHERE connection = %s AND topic = %s", (self._connection, self._topic)
        ).fetchone()
        return None if row is None or row[0] is None else bytes(row[0])

    def keep(self, heard: Heard) -> int:
        """Hints, requests for reads and the new place, in one transaction. Returns how many hints were new."""
        with self._held.transaction():
            conn: Conn = self._held
            for one in heard.unread:
                inbox.set_aside(conn, self._connection, one)
            added = inbox.add(conn, self._connection, heard.changes)
            sweeps.ask(conn, self._connection, heard.gaps)
            conn.execute(
                """INSERT INTO crm_assets.stream AS s (connection, topic, place, heard_at)
                   VALUES (%s, %s, %s, clock_timestamp())
                   ON CONFLICT (connection, topic) DO UPDATE
                       SET place = coalesce(excluded.place, s.place), heard_at = excluded.heard_at, trouble = NULL""",
                (self._connection, self._topic, heard.place),
            )
        return added

    def close(self) -> None:
        if self._conn is not None:
            with suppress(psycopg.Error):
                self._conn.close()
            self._conn = None

    @property
    def _held(self) -> Conn:
        assert self._conn is not None, "hold() comes first"
        return self._conn


def trouble(db: Database, connection: str, topic: str, reason: str) -> None:
    """Say why a stream cannot be followed now."""
    with db.transaction() as conn:
        conn.execute(
            """INSERT INTO crm_assets.stream (connection, topic, trouble) VALUES (%s, %s, %s)
               ON CONFLICT (connection, topic) DO UPDATE SET trouble = excluded.trouble""",
            (connection, topic, reason),
        )


def fresh(conn: Conn, connection: str) -> bool:
    """Whether a stream of the connection is followed and told something lately."""
    row = conn.execute(
        """SELECT EXISTS (SELECT FROM crm_assets.stream
                           WHERE connection = %s AND trouble IS NULL AND heard_at > clock_timestamp() - %s)""",
        (connection, FRESH),
    ).fetchone()
    return bool(row and row[0])


def heard(conn: Conn, connection: str) -> dict[str, dict[str, Any]]:
    """By topic: seconds since it told something, and what is the trouble with it."""
    rows = conn.execute(
        """SELECT topic, round(extract(epoch FROM clock_timestamp() - heard_at), 3)::float8, trouble
             FROM crm_assets.stream WHERE connection = %s ORDER BY topic""",
        (connection,),
    ).fetchall()
    return {topic: {"heard_seconds_ago": seconds, "trouble": reason} for topic, seconds, reason in rows}
