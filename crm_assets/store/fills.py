"""Fills: what is still to be read for rows that are in the mirror already, and how far each fill has come.

A refresh is the fill of columns that have values already: what the CRM calculates changes without a trace.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta

from crm_assets.store.database import Conn, Database

ROWS = "*"
"""In place of a column: the rows that a changed ``where`` brings in."""


@dataclass(frozen=True, slots=True)
class Fill:
    """Columns that are filled in one read. ``begun_at`` is the database's clock before the first request of it."""

    columns: tuple[str, ...]
    place: str | None
    begun_at: datetime
    refresh: bool = False


def ask(conn: Conn, connection: str, table: str, columns: Iterable[str]) -> None:
    """From now on these columns are to be filled, from the beginning."""
    for column in sorted(columns):
        conn.execute(
            """INSERT INTO crm_assets.fill (connection, object, "column") VALUES (%s, %s, %s)
               ON CONFLICT (connection, object, "column") DO UPDATE
                   SET place = NULL, rows = 0, asked_at = clock_timestamp(), begun_at = NULL, done_at = NULL,
                       refresh = false""",
            (connection, table, column),
        )


def refresh(conn: Conn, connection: str, table: str, columns: Iterable[str]) -> None:
    """These columns are to be read again for all records, from now on. A fill that is under way comes to its end
    first, so that asking often does not keep it from ever getting there."""
    conn.execute(
        """INSERT INTO crm_assets.fill AS f (connection, object, "column", refresh)
           SELECT %s, %s, c, true FROM unnest(%s::text[]) c ORDER BY c
           ON CONFLICT (connection, object, "column") DO UPDATE
               SET asked_at = clock_timestamp(), done_at = NULL,
                   refresh = f.done_at IS NOT NULL OR f.refresh,
                   place = CASE WHEN f.done_at IS NULL THEN f.place END,
                   begun_at = CASE WHEN f.done_at IS NULL THEN f.begun_at END,
                   rows = CASE WHEN f.done_at IS NULL THEN f.rows ELSE 0 END""",
        (connection, table, list(columns)),
    )


def refreshed(conn: Conn, connection: str, table: str, columns: Iterable[str], as_of: datetime) -> None:
    """All records were read as they were at ``as_of`` or later: their calculated columns are as young as that."""
    conn.execute(
        """INSERT INTO crm_assets.fill AS f (connection, object, "column", refresh, begun_at, done_at)
           SELECT %(connection)s, %(table)s, c, true, %(as_of)s, %(as_of)s FROM unnest(%(columns)s::text[]) c ORDER BY c
           ON CONFLICT (connection, object, "column") DO UPDATE
               SET refresh = true, place = NULL, begun_at = excluded.begun_at, done_at = excluded.done_at
             WHERE f.asked_at <= %(as_of)s AND (f.done_at IS NULL OR f.done_at < %(as_of)s)""",
        {"connection": connection, "table": table, "columns": list(columns), "as_of": as_of},
    )


def stale(conn: Conn, connection: str, table: str, columns: Iterable[str], every: timedelta) -> list[str]:
    """Those of the calculated columns that were read for all records longer ago than ``every``, or never."""
    rows = conn.execute(
        """SELECT c FROM unnest(%(columns)s::text[]) c
            WHERE NOT EXISTS (
                SELECT FROM crm_assets.fill f
                 WHERE f.connection = %(connection)s AND f.object = %(table)s AND f."column" = c
                   AND (f.done_at IS NULL OR f.begun_at > clock_timestamp() - %(every)s)) ORDER BY c""",
        {"connection": connection, "table": table, "columns": list(columns), "every": every},
    ).fetchall()
    return [row[0] for row in rows]


def begin(db: Database, connection: str, table: str) -> list[Fill]:
    """What is to be filled. Columns that stand at the same place are read together."""
    with db.transaction() as conn:
        _lock(conn, connection, table)
        conn.execute(
            """UPDATE crm_assets.fill SET begun_at = clock_timestamp()
                WHERE connection = %s AND object = %s AND done_at IS NULL AND begun_at IS NULL""",
            (connection, table),
        )
        rows = conn.execute(
            """SELECT array_agg("column" ORDER BY "column"), place, min(begun_at), refresh FROM crm_assets.fill
                WHERE connection = %s AND object = %s AND done_at IS NULL
                GROUP BY ("column" = '*'), refresh, place ORDER BY refresh, min(asked_at)""",
            (connection, table),
        ).fetchall()
    return [Fill(tuple(columns), place, begun_at, again) for columns, place, begun_at, again in rows]


def keep(db: Database, connection: str, table: str, fill: Fill, place: str | None, rows: int) -> None:
    """Remember how far the fill has come; without a place it is done, or begins anew if it was asked for meanwhile."""
    with db.transaction() as conn:
        _lock(conn, connection, table)
        conn.execute(
            """UPDATE crm_assets.fill
                  SET place = %(place)s, rows = rows + %(rows)s,
                      begun_at = CASE WHEN %(place)s::text IS NOT NULL OR asked_at <= begun_at THEN begun_at END,
                      refresh = refresh OR %(place)s::text IS NULL,
                      done_at = CASE WHEN %(place)s::text IS NULL AND asked_at <= begun_at THEN clock_timestamp() END
                WHERE connection = %(connection)s AND object = %(table)s AND "column" = ANY (%(columns)s)
                  AND begun_at IS NOT NULL""",
            {
                "place": place,
                "rows": rows,
                "connection": connection,
                "table": table,
                "columns": list(fill.columns),
            },
        )


def _lock(conn: Conn, connection: str, table: str) -> None:
    """In the order in which everybody takes these rows: a refresh may be asked for meanwhile."""
    conn.execute(
        """SELECT 1 FROM crm_assets.fill WHERE connection = %s AND object = %s AND done_at IS NULL
            ORDER BY "column" FOR UPDATE""",
        (connection, table),
    )
