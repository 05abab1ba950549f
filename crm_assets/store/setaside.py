"""Records that cannot be stored are set aside, each with its reason, while the rest of their page goes on."""

from __future__ import annotations

from collections.abc import Iterable

from crm_assets.core.model import Poison
from crm_assets.store.database import Conn


def record(conn: Conn, connection: str, table: str, poisons: Iterable[Poison]) -> int:
    """Keep what was set aside as open drift of kind ``set_aside``. Returns how many records that was."""
    count = 0
    for poison in poisons:
        conn.execute(
            """INSERT INTO crm_assets.drift (connection, object, id, kind, field, cause, reason)
               VALUES (%s, %s, %s, 'set_aside', %s, 'cannot be stored', %s)
               ON CONFLICT (connection, object, id, kind, field) WHERE state = 'open'
                   DO UPDATE SET reason = excluded.reason, seen_at = clock_timestamp()""",
            (connection, table, poison.id, poison.field, poison.reason),
        )
        count += 1
    return count


def clear(conn: Conn, connection: str, table: str, ids: Iterable[str]) -> int:
    """Close what was set aside or held back for these ids; their records have been stored or deleted since."""
    return conn.execute(
        """UPDATE crm_assets.drift SET state = 'closed', closed_at = clock_timestamp()
            WHERE connection = %s AND object = %s AND kind IN ('set_aside', 'delete_blocked') AND state = 'open'
              AND id = ANY (%s)""",
        (connection, table, list(ids)),
    ).rowcount
