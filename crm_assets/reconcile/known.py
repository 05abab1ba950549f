"""What the database knows of records that may differ: what is under way, and what did not arrive."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from psycopg import sql

from crm_assets.core.compare import WHOLE, Cause, Finding, Kind
from crm_assets.core.model import Object
from crm_assets.store.database import Database, statement
from crm_assets.store.ddl import stage_schema

STUCK = timedelta(minutes=15)
"""From this age on a write that could be sent and has not arrived is a difference; before, it is under way."""

_STUCK = "(o.state IN ('pending', 'sending', 'unknown') AND o.guard_id IS NULL AND o.created_at < now() - %(stuck)s)"
_OPEN = "o.state IN ('pending', 'sending', 'unknown', 'conflict')"


def under_way(db: Database, connection: str, obj: Object) -> set[str]:
    """Ids with a product's write unsettled, an observation still in the stage, or a re-read asked for."""
    with db.transaction() as conn:
        rows = conn.execute(
            statement(
                f"""SELECT coalesce(o.id, m.id) FROM crm_assets.unarrived o
                      LEFT JOIN {{m}} m ON m.row_id = o.row_id
                     WHERE o.connection = %(c)s AND o.object = %(o)s AND {_OPEN} AND NOT {_STUCK}
                    UNION SELECT id FROM {{s}} WHERE _load IS NULL
                    UNION SELECT id FROM crm_assets.floor WHERE connection = %(c)s AND object = %(o)s
                    UNION SELECT record_id FROM crm_assets.inbox
                           WHERE connection = %(c)s AND object = %(o)s AND state IN ('pending', 'claimed')""",
                m=sql.Identifier(connection, obj.table),
                s=sql.Identifier(stage_schema(connection), obj.table),
            ),
            {"c": connection, "o": obj.table, "stuck": STUCK},
        ).fetchall()
    return {row[0] for row in rows if row[0] is not None}


@dataclass(frozen=True)
class Unarrived:
    """Columns of one record's writes that did not arrive (``WHOLE``: its deletion)."""

    unsent: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()


def stuck(db: Database, connection: str, obj: Object) -> set[str]:
    """Ids of records with a write that should have arrived long ago."""
    with db.transaction() as conn:
        rows = conn.execute(
            f"""SELECT DISTINCT id FROM crm_assets.unarrived o
                 WHERE connection = %(c)s AND object = %(o)s AND id IS NOT NULL AND {_STUCK}""",
            {"c": connection, "o": obj.table, "stuck": STUCK},
        ).fetchall()
    return {row[0] for row in rows}


def unarrived(db: Database, connection: str, obj: Object, ids: Sequence[str]) -> dict[str, Unarrived]:
    """The writes of these records that did not arrive, by id."""
    found: dict[tuple[str, bool], set[str]] = {}
    with db.transaction() as conn:
        for record_id, rejected, columns in conn.execute(
            """SELECT id, state = 'rejected',
                       CASE op WHEN 'delete' THEN ARRAY[%s] ELSE crm_assets.keys(new) END
                 FROM crm_assets.unarrived o
                WHERE connection = %s AND object = %s AND id = ANY (%s) AND op IN ('update', 'delete')""",
            (WHOLE, connection, obj.table, list(ids)),
        ):
            found.setdefault((record_id, rejected), set()).update(columns)
    return {
        record_id: Unarrived(frozenset(found.get((record_id, False), ())), frozenset(found.get((record_id, True), ())))
        for record_id, _ in found
    }


def not_created(db: Database, connection: str, obj: Object) -> list[Finding]:
    """Rows of the product that the CRM has refused, or has not been told of for long. They have no id yet, and are
    named by their row_id."""
    with db.transaction() as conn:
        rows = conn.execute(
            statement(
                f"""SELECT DISTINCT ON (m.row_id) m.row_id::text, o.state = 'rejected'
                      FROM {{m}} m JOIN crm_assets.unarrived o ON o.row_id = m.row_id
                     WHERE m.id IS NULL AND m._deleted_at IS NULL
                       AND o.connection = %(c)s AND o.object = %(o)s AND o.op = 'create'
                       AND (o.state = 'rejected' OR {_STUCK})
                     ORDER BY m.row_id, o.seq DESC""",
                m=sql.Identifier(connection, obj.table),
            ),
            {"c": connection, "o": obj.table, "stuck": STUCK},
        ).fetchall()
    return [
        Finding(row_id, Kind.EXTRA, cause=Cause.REJECTED if rejected else Cause.UNSENT) for row_id, rejected in rows
    ]


def duplicates(db: Database, connection: str, obj: Object) -> list[Finding]:
    """Records that carry the external id of another one: copies made in the CRM, mostly."""
    column = obj.external_id_column
    if column is None:
        return []
    with db.transaction() as conn:
        rows = conn.execute(
            statement(
                """SELECT d.id FROM {m} d
                    WHERE d.id IS NOT NULL AND d._deleted_at IS NULL AND d.{c} <> d.row_id::text
                      AND EXISTS (SELECT FROM {m} o WHERE o.{c} = d.{c} AND o.id <> d.id AND o._deleted_at IS NULL)
                    ORDER BY d.id""",
                m=sql.Identifier(connection, obj.table),
                c=sql.Identifier(column),
            )
        ).fetchall()
    return [Finding(record_id, Kind.DUPLICATE, column) for (record_id,) in rows]


def filled_lately(db: Database, connection: str, obj: Object) -> frozenset[str]:
    """Columns that came later than the rows, and whose fill is under way or ended after the last comparison."""
    with db.transaction() as conn:
        rows = conn.execute(
            """SELECT "column" FROM crm_assets.fill f LEFT JOIN crm_assets.cursor c USING (connection, object)
                WHERE connection = %s AND object = %s
                  AND (f.done_at IS NULL OR f.done_at > coalesce(c.compared_at, '-infinity'))""",
            (connection, obj.table),
        ).fetchall()
    return frozenset(row[0] for row in rows)
