"""Where verdicts are kept: ``crm_assets.cursor`` for the object, ``crm_assets.drift`` for each finding."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from crm_assets.core.compare import Finding, Kind
from crm_assets.store.database import Database

_KINDS = [kind.value for kind in Kind]


def store(
    db: Database, connection: str, table: str, as_of: datetime, complete: bool, findings: Iterable[Finding]
) -> None:
    """Open drift for the findings, close what no longer holds, and remember the verdict, in one transaction."""
    with db.transaction() as conn:
        for finding in findings:
            conn.execute(
                """INSERT INTO crm_assets.drift (connection, object, id, kind, field, cause)
                   VALUES (%s, %s, %s, %s, %s, 'unexplained')
                   ON CONFLICT (connection, object, id, kind, field) WHERE state = 'open'
                       DO UPDATE SET seen_at = clock_timestamp()""",
                (connection, table, finding.id, finding.kind, finding.field),
            )
        conn.execute(
            """UPDATE crm_assets.drift SET state = 'closed', closed_at = clock_timestamp()
                WHERE connection = %s AND object = %s AND state = 'open' AND kind = ANY (%s) AND seen_at < %s""",
            (connection, table, _KINDS, as_of),
        )
        conn.execute(
            """INSERT INTO crm_assets.cursor (connection, object, complete, complete_as_of) VALUES (%s, %s, %s, %s)
               ON CONFLICT (connection, object) DO UPDATE
                   SET complete = excluded.complete, complete_as_of = excluded.complete_as_of""",
            (connection, table, complete, as_of),
        )
