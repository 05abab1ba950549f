"""The blast-radius guard: unusually many deletions, in either direction, wait for a person.

What is held does not slow the rest: deletions of the CRM leave the sight of ``apply`` (their ``_load`` is the
negative guard_id), those of the product are not claimed (``guard_id``). ``crm_assets.approve`` lets
through all that waits at that moment; what comes later is weighed anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from psycopg import sql

from crm_assets.core.model import Guard
from crm_assets.store.database import Conn, statement
from crm_assets.store.ddl import stage_schema

_LATELY = "10 minutes"
"""Deletions that trickle in one by one are counted together for this long."""


def exceeded(guard: Guard, deletes: int, records: int) -> bool:
    """Whether so many deletions of so many records wait for a person: both bounds are passed."""
    return deletes > guard.delete_rows and deletes > guard.delete_share * records


def hold_incoming(
    conn: Conn, connection: str, table: str, guard: Guard, ids: Sequence[str], loads: Sequence[int], weighed: int
) -> tuple[list[str], int]:
    """Of the CRM's deletions of these ids, those that may be done now; the others are held in the stage.

    ``weighed`` are deletions that an earlier call has weighed and not met yet; as long as they last nothing is
    counted again. Returns what is left of them beside the ids.
    """
    names = _names(connection, table)
    living = {
        row[0]
        for row in conn.execute(
            statement("SELECT id FROM {mirror} WHERE id = ANY (%s) AND _deleted_at IS NULL", **names), (list(ids),)
        )
    }
    if len(living) <= weighed:
        return list(ids), weighed - len(living)
    passed = _approved(conn, connection, table, "in")
    where = {"passed": passed, "loads": list(loads), "connection": connection, "table": table}
    waiting = _number(
        conn.execute(
            statement(
                """SELECT count(DISTINCT s.id) FROM {stage} s
                    WHERE s._deleted AND s._seq > %(passed)s
                      AND (s._load IS NULL OR s._load < 0 OR s._load = ANY (%(loads)s))
                      AND EXISTS (SELECT FROM {mirror} m WHERE m.id = s.id AND m._deleted_at IS NULL)""",
                **names,
            ),
            where,
        ).fetchone()
    )
    lately = _number(
        conn.execute(
            """SELECT count(*) FROM (
                   SELECT FROM crm_assets.tombstone
                    WHERE connection = %(connection)s AND object = %(table)s AND deleted_by = 'crm'
                      AND buried_at > clock_timestamp() - %(lately)s::interval AND NOT approved
                    LIMIT %(most)s) t""",
            where | {"lately": _LATELY, "most": guard.delete_rows + 1},
        ).fetchone()
    )
    deletes = waiting + lately
    records = _records(conn, connection, table) if deletes > guard.delete_rows else 0
    if not exceeded(guard, deletes, records):
        return list(ids), max(waiting - len(living), 0)
    guard_id = _open(conn, connection, table, "in", deletes, records)
    held = {
        row[0]
        for row in conn.execute(
            statement(
                """UPDATE {stage} SET _load = %s WHERE id = ANY (%s) AND _deleted AND _seq > %s
                      AND (_load IS NULL OR _load = ANY (%s)) RETURNING id""",
                **names,
            ),
            (-guard_id, sorted(living), passed, list(loads)),
        )
    }
    return [record_id for record_id in ids if record_id not in held], 0


def hold_outgoing(conn: Conn, connection: str, table: str, guard: Guard) -> int:
    """Hold the product's deletions if they are too many. Returns how many were held by this call.

    Called between the choice of a claim and the claim itself: a transaction that deletes many commits them at once,
    so whoever sees one of them here sees all.
    """
    passed = _approved(conn, connection, table, "out")
    scope = {"connection": connection, "table": table, "passed": passed}
    waiting = _number(
        conn.execute(
            """SELECT count(*) FROM crm_assets.outbox
                WHERE connection = %(connection)s AND object = %(table)s AND op = 'delete'
                  AND state IN ('pending', 'sending', 'unknown') AND seq > %(passed)s""",
            scope,
        ).fetchone()
    )
    lately = _number(
        conn.execute(
            """SELECT count(*) FROM (
                   SELECT FROM crm_assets.tombstone t
                    WHERE t.connection = %(connection)s AND t.object = %(table)s AND t.deleted_by = 'product'
                      AND t.buried_at > clock_timestamp() - %(lately)s::interval
                      AND EXISTS (SELECT FROM crm_assets.outbox o
                                   WHERE o.connection = t.connection AND o.object = t.object AND o.row_id = t.row_id
                                     AND o.op = 'delete' AND o.state = 'confirmed' AND o.seq > %(passed)s)
                    LIMIT %(most)s) d""",
            scope | {"lately": _LATELY, "most": guard.delete_rows + 1},
        ).fetchone()
    )
    deletes = waiting + lately
    if deletes <= guard.delete_rows:
        return 0
    # The product's deletions have left the mirror already.
    records = _records(conn, connection, table) + deletes
    if not exceeded(guard, deletes, records):
        return 0
    guard_id = _open(conn, connection, table, "out", deletes, records)
    return conn.execute(
        # Those that another worker is choosing at this moment are its own to weigh.
        """UPDATE crm_assets.outbox SET guard_id = %s, waiting_for = %s
            WHERE seq IN (SELECT seq FROM crm_assets.outbox
                           WHERE connection = %s AND object = %s AND op = 'delete' AND state = 'pending' AND seq > %s
                             AND guard_id IS NULL ORDER BY seq FOR NO KEY UPDATE SKIP LOCKED)""",
        (guard_id, f"guard {guard_id}", connection, table, passed),
    ).rowcount


def _open(conn: Conn, connection: str, table: str, direction: str, rows: int, records: int) -> int:
    """The guard that is open for this direction; one question to a person, however many passes meet it."""
    made = conn.execute(
        """INSERT INTO crm_assets.guard AS g (connection, object, direction, rows, records)
           VALUES (%s, %s, %s, %s, %s)
           ON CONFLICT (connection, object, direction) WHERE state = 'open'
               DO UPDATE SET rows = greatest(g.rows, excluded.rows), records = excluded.records
           RETURNING guard_id""",
        (connection, table, direction, rows, records),
    ).fetchone()
    return _number(made)


def _approved(conn: Conn, connection: str, table: str, direction: str) -> int:
    """Up to which number a person has let deletions through; 0 if never."""
    return _number(
        conn.execute(
            """SELECT coalesce(max(up_to), 0) FROM crm_assets.guard
                WHERE connection = %s AND object = %s AND direction = %s AND state = 'approved'""",
            (connection, table, direction),
        ).fetchone()
    )


def _records(conn: Conn, connection: str, table: str) -> int:
    return _number(
        conn.execute(
            statement("SELECT count(*) FROM {mirror} WHERE _deleted_at IS NULL", **_names(connection, table))
        ).fetchone()
    )


def _number(row: tuple[Any, ...] | None) -> int:
    assert row is not None
    return int(row[0])


def _names(connection: str, table: str) -> dict[str, sql.Composable]:
    return {"mirror": sql.Identifier(connection, table), "stage": sql.Identifier(stage_schema(connection), table)}
