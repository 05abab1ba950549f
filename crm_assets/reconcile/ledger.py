"""Where verdicts are kept: ``crm_assets.cursor`` for the object, ``crm_assets.drift`` for each finding."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from crm_assets.core.compare import Finding, Kind
from crm_assets.store.database import Conn, Database

_KINDS = [kind.value for kind in Kind]


def open_ids(db: Database, connection: str, table: str) -> set[str]:
    """Records that an earlier comparison left different, those that the CRM knows."""
    with db.transaction() as conn:
        rows = conn.execute(
            """SELECT DISTINCT id FROM crm_assets.drift
                WHERE connection = %s AND object = %s AND state = 'open' AND kind = ANY (%s)
                  AND NOT (kind = 'extra' AND cause IN ('unsent write', 'rejected write'))""",
            (connection, table, _KINDS),
        ).fetchall()
    return {row[0] for row in rows}


def ask(db: Database, connection: str, table: str, rows: int, records: int) -> int:
    """The open question whether so many records shall be repaired; ``crm_assets.approve`` answers it."""
    with db.transaction() as conn:
        made = conn.execute(
            """INSERT INTO crm_assets.guard AS g (connection, object, direction, rows, records)
               VALUES (%s, %s, 'repair', %s, %s)
               ON CONFLICT (connection, object, direction) WHERE state = 'open'
                   DO UPDATE SET rows = excluded.rows, records = excluded.records
               RETURNING guard_id""",
            (connection, table, rows, records),
        ).fetchone()
    assert made is not None
    return int(made[0])


def store(
    db: Database,
    connection: str,
    table: str,
    as_of: datetime,
    complete: bool,
    equal_to: datetime | None,
    findings: Iterable[Finding],
    mended: Iterable[Finding],
) -> None:
    """Open drift for the findings, close what no longer holds, keep what was mended as closed, and remember the
    verdict, in one transaction. ``equal_to``: below this version nothing differs."""
    with db.transaction() as conn:
        _keep(conn, connection, table, findings)
        _keep(conn, connection, table, mended)
        still = [(one.id, one.kind, one.field) for one in findings]
        conn.execute(
            """UPDATE crm_assets.drift d SET state = 'closed', closed_at = clock_timestamp()
                WHERE connection = %s AND object = %s AND state = 'open' AND kind = ANY (%s)
                  AND NOT EXISTS (SELECT FROM unnest(%s::text[], %s::text[], %s::text[]) AS s (id, kind, field)
                                   WHERE (s.id, s.kind, s.field) = (d.id, d.kind, d.field))""",
            (connection, table, _KINDS, [s[0] for s in still], [s[1] for s in still], [s[2] for s in still]),
        )
        conn.execute(
            """INSERT INTO crm_assets.cursor AS c (connection, object, complete, complete_as_of, equal_to)
               VALUES (%s, %s, %s, %s, %s)
               ON CONFLICT (connection, object) DO UPDATE
                   SET complete = excluded.complete, complete_as_of = excluded.complete_as_of,
                       equal_to = coalesce(excluded.equal_to, c.equal_to)""",
            (connection, table, complete, as_of, equal_to),
        )


def equal_to(db: Database, connection: str, table: str) -> datetime | None:
    """Below which version the last comparison that found nothing had looked."""
    with db.transaction() as conn:
        row = conn.execute(
            "SELECT equal_to FROM crm_assets.cursor WHERE connection = %s AND object = %s", (connection, table)
        ).fetchone()
    return row[0] if row else None


def _keep(conn: Conn, connection: str, table: str, findings: Iterable[Finding]) -> None:
    conn.cursor().executemany(
        """INSERT INTO crm_assets.drift (connection, object, id, kind, field, cause)
           VALUES (%s, %s, %s, %s, %s, %s)
           ON CONFLICT (connection, object, id, kind, field) WHERE state = 'open'
               DO UPDATE SET seen_at = clock_timestamp(), cause = excluded.cause""",
        [(connection, table, one.id, one.kind, one.field, one.cause) for one in findings],
    )
