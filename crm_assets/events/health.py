"""Health is progress: what waits, and for how long."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from crm_assets.store import streams
from crm_assets.store.database import Database

STALLED_SECONDS = 900.0
"""Work that has waited for longer than changes are ever gathered does not move, whatever the processes say."""


def health(db: Database, connections: Iterable[str]) -> dict[str, Any]:
    """``{"ok": bool, "connections": {name: {…}}}``; not ok when the oldest change has waited too long.

    Counted is what this process should move: hints to re-read, and writes to send unless the connection is paused.
    Writes that wait for a person are no lack of progress; ``crm-assets status`` tells about them.
    """
    told = {name: _connection(db, name) for name in sorted(connections)}
    stalled = any((entry["oldest_unsynced_seconds"] or 0) > STALLED_SECONDS for entry in told.values())
    return {"ok": not stalled, "connections": told}


def _connection(db: Database, connection: str) -> dict[str, Any]:
    with db.transaction() as conn:
        row = conn.execute(
            """SELECT i.waiting, o.waiting, extract(epoch FROM clock_timestamp() - least(i.oldest, o.oldest))::float8
                 FROM (SELECT count(*) AS waiting, min(received_at) AS oldest FROM crm_assets.inbox
                        WHERE connection = %(c)s AND state IN ('pending', 'claimed')) i,
                      (SELECT count(*) AS waiting, min(created_at) AS oldest FROM crm_assets.unarrived
                        WHERE connection = %(c)s AND state IN ('pending', 'sending')
                          AND NOT EXISTS (SELECT FROM crm_assets.connection_state s
                                           WHERE s.connection = %(c)s AND s.paused)) o""",
            {"c": connection},
        ).fetchone()
        told = streams.heard(conn, connection)
    assert row is not None
    return {
        "inbox_pending": row[0],
        "outbox_pending": row[1],
        "oldest_unsynced_seconds": None if row[2] is None else round(row[2], 3),
        "streams": told,
    }
