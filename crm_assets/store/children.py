"""Records that exist only within another one: associations of a record, lines of an order.

A read of a parent is complete, so a child that it lacks is gone. The parent's deletion, or that of any record that a
child refers to, says that those children have to be looked at again.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from psycopg import sql

from crm_assets.core.model import Object, Page, Source
from crm_assets.store import catalog, stage
from crm_assets.store.database import Conn, Database, statement
from crm_assets.store.ddl import stage_schema


def stage_gone(conn: Conn, connection: str, obj: Object, page: Page, observed_at: datetime) -> int:
    """Stage as deleted what complete parents of the page no longer have. Returns how many children that were.

    Observations that wait in the stage count too: one that is older than this read must not outlive it.
    """
    column = obj.parent_column
    if column is None or not page.complete_for:
        return 0
    present = {*page.table["id"].to_pylist(), *(poison.id for poison in page.poison)}
    known = conn.execute(
        statement(
            """SELECT id FROM {mirror} WHERE {parent} = ANY (%(parents)s) AND id IS NOT NULL AND _deleted_at IS NULL
               UNION
               SELECT id FROM {stage} WHERE {parent} = ANY (%(parents)s) AND id IS NOT NULL AND NOT _deleted""",
            mirror=sql.Identifier(connection, obj.table),
            stage=sql.Identifier(stage_schema(connection), obj.table),
            parent=sql.Identifier(column),
        ),
        {"parents": list(page.complete_for)},
    ).fetchall()
    gone = [(record_id, None) for (record_id,) in known if record_id not in present]
    return stage.put_deleted(conn, connection, obj, gone, Source.ID, observed_at)


def orphans(db: Database, connection: str, obj: Object) -> list[str]:
    """Parents of children in the mirror that are no live records of a mirror themselves."""
    assert obj.parent is not None and obj.parent_column is not None
    with db.transaction() as conn:
        homes = conn.execute(
            "SELECT object FROM crm_assets.object WHERE connection = %s AND name = ANY (%s)",
            (connection, list(obj.by_name[obj.parent].reference_to)),
        ).fetchall()
        alive = sql.SQL(" UNION ALL ").join(
            statement("SELECT id FROM {m} WHERE _deleted_at IS NULL", m=sql.Identifier(connection, table))
            for (table,) in homes
        )
        rows = conn.execute(
            statement(
                """SELECT DISTINCT c.{parent} FROM {mirror} c WHERE c.id IS NOT NULL AND c._deleted_at IS NULL
                      AND NOT EXISTS (SELECT FROM ({alive}) p WHERE p.id = c.{parent}) ORDER BY 1""",
                parent=sql.Identifier(obj.parent_column),
                mirror=sql.Identifier(connection, obj.table),
                alive=alive if homes else sql.SQL("SELECT NULL::text AS id"),
            )
        ).fetchall()
    return [parent for (parent,) in rows]


def due_whole(db: Database, connection: str, obj: Object) -> bool:
    """Whether all children are to be read anew: what changes them may leave no trace that a window would show."""
    with db.transaction() as conn:
        row = conn.execute(
            """SELECT max(observed_at) > clock_timestamp() - %s FROM crm_assets.load
                WHERE connection = %s AND object = %s AND kind = 'full' AND state = 'applied'
                  AND place IS NULL""",
            (obj.rules.whole_every, connection, obj.table),
        ).fetchone()
    return not (row and row[0])


def read_since(db: Database, connection: str, table: str, since: datetime) -> int:
    """Read again what events had read while a long read was under way: that one may have seen a parent before.

    Returns how many were asked for.
    """
    with db.transaction() as conn:
        return conn.execute(
            """SELECT crm_assets.ask_reread(connection, object, record_id, 'read while all were read')
                 FROM (SELECT DISTINCT connection, object, split_part(record_id, ':', 1) AS record_id
                         FROM crm_assets.inbox
                        WHERE connection = %s AND object = %s AND state = 'done' AND done_at >= %s) x""",
            (connection, table, since),
        ).rowcount


def of_deleted(conn: Conn, connection: str, name: str, ids: Iterable[str]) -> None:
    """Ask for fresh reads of the children that refer to deleted records of the object ``name``."""
    for child in catalog.children(conn, connection, name):
        for fld in child.fields:
            if name in fld.reference_to:
                conn.execute(
                    statement(
                        """SELECT crm_assets.ask_reread({connection}, {object}, x.parent, 'a record of it is deleted')
                             FROM (SELECT DISTINCT {parent} AS parent FROM {mirror}
                                    WHERE {column} = ANY (%s) AND id IS NOT NULL) x""",
                        connection=sql.Literal(connection),
                        object=sql.Literal(child.table),
                        parent=sql.Identifier(child.parent_column or ""),
                        mirror=sql.Identifier(connection, child.table),
                        column=sql.Identifier(fld.column),
                    ),
                    (list(ids),),
                )
