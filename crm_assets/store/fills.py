"""Fills: what is still to be read for rows that are in the mirror already, and how far each fill has come."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from crm_assets.store.database import Conn, Database

ROWS = "*"
"""In place of a column: the rows that a changed ``where`` brings in."""


@dataclass(frozen=True, slots=True)
class Fill:
    """Columns that are filled in one read. ``begun_at`` is the database's clock before the first request of it."""

    columns: tuple[str, ...]
    place: str | None
    begun_at: datetime


def ask(conn: Conn, connection: str, table: str, columns: Iterable[str]) -> None:
    """From now on these columns are to be filled, from the beginning."""
    for column in columns:
        conn.execute(
            """INSERT INTO crm_assets.fill (connection, object, "column") VALUES (%s, %s, %s)
               ON CONFLICT (connection, object, "column") DO UPDATE
                   SET place = NULL, rows = 0, asked_at = clock_timestamp(), begun_at = NULL, done_at = NULL""",
            (connection, table, column),
        )


def begin(db: Database, connection: str, table: str) -> list[Fill]:
    """What is to be filled. Columns that stand at the same place are read together."""
    with db.transaction() as conn:
        conn.execute(
            """UPDATE crm_assets.fill SET begun_at = clock_timestamp()
                WHERE connection = %s AND object = %s AND done_at IS NULL AND begun_at IS NULL""",
            (connection, table),
        )
        rows = conn.execute(
            """SELECT array_agg("column" ORDER BY "column"), place, min(begun_at) FROM crm_assets.fill
                WHERE connection = %s AND object = %s AND done_at IS NULL
                GROUP BY ("column" = '*'), place ORDER BY min(asked_at)""",
            (connection, table),
        ).fetchall()
    return [Fill(tuple(columns), place, begun_at) for columns, place, begun_at in rows]


def keep(db: Database, connection: str, table: str, fill: Fill, place: str | None, rows: int) -> None:
    """Remember how far the fill has come; without a place it is done."""
    with db.transaction() as conn:
        conn.execute(
            """UPDATE crm_assets.fill
                  SET place = %(place)s, rows = rows + %(rows)s,
                      done_at = CASE WHEN %(place)s::text IS NULL THEN clock_timestamp() END
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
