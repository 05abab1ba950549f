"""Status: what an operator asks first, as one value."""

from __future__ import annotations

from typing import Any

from psycopg import sql

from crm_assets.store.database import Conn, Database, statement
from crm_assets.store.ddl import stage_schema


def status(db: Database) -> dict[str, Any]:
    """``{"ok": bool, "connections": {…}}`` as documented for ``crm-assets status --json``.

    ``ok`` is false when something needs a person: a rejected or unknown write, an open conflict, open drift,
    deletions that a guard holds, or an object that reconciliation found incomplete.
    """
    with db.transaction() as conn:
        described = conn.execute(
            "SELECT connection, object FROM crm_assets.object ORDER BY connection, object"
        ).fetchall()
        connections: dict[str, dict[str, Any]] = {}
        for connection, table in described:
            entry = connections.setdefault(connection, _connection(conn, connection))
            entry["objects"][table] = _object(conn, connection, table)
        needs_person = conn.execute(
            """SELECT EXISTS (SELECT FROM crm_assets.unarrived WHERE state IN ('rejected', 'unknown', 'conflict'))
                   OR EXISTS (SELECT FROM crm_assets.conflict WHERE state = 'open')
                   OR EXISTS (SELECT FROM crm_assets.drift WHERE state = 'open')
                   OR EXISTS (SELECT FROM crm_assets.guard WHERE state = 'open')
                   OR EXISTS (SELECT FROM crm_assets.inbox WHERE state = 'failed')
                   OR EXISTS (SELECT FROM crm_assets.cursor WHERE complete IS FALSE)"""
        ).fetchone()
    return {"ok": not (needs_person and needs_person[0]), "connections": connections}


def _connection(conn: Conn, connection: str) -> dict[str, Any]:
    conflicts = conn.execute(
        "SELECT count(*) FROM crm_assets.conflict WHERE connection = %s AND state = 'open'", (connection,)
    ).fetchone()
    held = conn.execute(
        """SELECT guard_id, object, direction, rows, records FROM crm_assets.guard
            WHERE connection = %s AND state = 'open' ORDER BY guard_id""",
        (connection,),
    ).fetchall()
    return {
        "objects": {},
        "outbox": _counts(conn, "outbox", connection),
        "inbox": _counts(conn, "inbox", connection),
        "conflicts": conflicts[0] if conflicts else 0,
        "guards": [dict(zip(("guard_id", "object", "direction", "rows", "records"), row, strict=True)) for row in held],
        "quota": {
            name: {"used": used, "limit": limit}
            for name, used, limit in conn.execute(
                'SELECT name, used, "limit" FROM crm_assets.quota_usage WHERE connection = %s ORDER BY name',
                (connection,),
            )
        },
    }


def _counts(conn: Conn, table: str, connection: str) -> dict[str, int]:
    return {
        state: int(count)
        for state, count in conn.execute(
            statement(
                "SELECT state, count(*) FROM {t} WHERE connection = %s GROUP BY state ORDER BY state",
                t=sql.Identifier("crm_assets", table),
            ),
            (connection,),
        )
    }


def _object(conn: Conn, connection: str, table: str) -> dict[str, Any]:
    cursor = conn.execute(
        "SELECT cursor, complete, complete_as_of FROM crm_assets.cursor WHERE connection = %s AND object = %s",
        (connection, table),
    ).fetchone()
    position, complete, as_of = cursor or (None, None, None)
    return {
        "rows": row_count(conn, connection, table),
        "cursor": position,
        "complete": complete,
        "complete_as_of": as_of.isoformat() if as_of else None,
        "oldest_unsynced_seconds": oldest_unsynced_seconds(conn, connection, table),
    }


def row_count(conn: Conn, connection: str, table: str) -> int:
    """Live rows of a mirror, pending creates included."""
    row = conn.execute(
        statement("SELECT count(*) FROM {t} WHERE _deleted_at IS NULL", t=sql.Identifier(connection, table))
    ).fetchone()
    return int(row[0]) if row else 0


def oldest_unsynced_seconds(conn: Conn, connection: str, table: str) -> float | None:
    """Age of the oldest change, in either direction, that has not reached the other end; None if nothing waits."""
    row = conn.execute(
        statement(
            """SELECT extract(epoch FROM clock_timestamp() - min(at)) FROM (
                   SELECT min(created_at) AS at FROM crm_assets.unarrived
                    WHERE connection = %(c)s AND object = %(o)s AND state <> 'rejected'
                   UNION ALL
                   SELECT min(received_at) FROM crm_assets.inbox
                    WHERE connection = %(c)s AND object = %(o)s AND state IN ('pending', 'claimed')
                   UNION ALL
                   SELECT min(_observed_at) FROM {stage} s
                    WHERE s._load IS NULL OR s._load < 0
                       OR s._load IN (SELECT load_id FROM crm_assets.load WHERE state = 'landed')
               ) waiting""",
            stage=sql.Identifier(stage_schema(connection), table),
        ),
        {"c": connection, "o": table},
    ).fetchone()
    return None if row is None or row[0] is None else round(float(row[0]), 3)
