"""Merges made in the CRM: the loser's row gives way to the survivor's, in whatever order the two become known.

What the CRM says is kept by id in ``crm_assets.merge``; ``apply`` follows it. The loser leaves the mirror with a
tombstone, ``crm_assets.alias`` leads from its row_id to the survivor's, references of other records point to the
survivor, and writes of the loser that had not been sent are kept as rejected, naming the survivor.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from psycopg import sql

from crm_assets.store import audit
from crm_assets.store.apply_sql import UNSETTLED, ApplySql
from crm_assets.store.database import Conn, Database, statement


def note(conn: Conn, connection: str, table: str, pairs: Iterable[tuple[str, str]], observed_at: datetime) -> None:
    """Keep (loser, survivor) as seen by a read begun at ``observed_at``; what is known already changes nothing."""
    known = {loser: survivor for loser, survivor in pairs if loser != survivor}
    if not known:
        return
    conn.execute(
        """INSERT INTO crm_assets.merge AS m (connection, object, id, survivor_id, observed_at)
           SELECT %s, %s, loser, survivor, %s FROM unnest(%s::text[], %s::text[]) AS p (loser, survivor) ORDER BY loser
           ON CONFLICT (connection, object, id) DO UPDATE
               SET survivor_id = excluded.survivor_id, observed_at = excluded.observed_at, done_at = NULL
             WHERE m.survivor_id <> excluded.survivor_id AND m.observed_at <= excluded.observed_at""",
        (connection, table, observed_at, list(known), list(known.values())),
    )


def survivor(db: Database, connection: str, table: str, record_id: str | None) -> str | None:
    """The id of the record that this one was merged into, as far as it is known."""
    if record_id is None:
        return None
    with db.transaction() as conn:
        row = conn.execute(
            "SELECT survivor_id FROM crm_assets.merge WHERE connection = %s AND object = %s AND id = %s",
            (connection, table, record_id),
        ).fetchone()
    return row[0] if row else None


def waiting(conn: Conn, q: ApplySql) -> tuple[bool, list[str]]:
    """Whether there is anything to follow, and the losers that are still rows of the mirror."""
    found = conn.execute(
        statement(
            """SELECT EXISTS (SELECT FROM crm_assets.merge
                               WHERE connection = {connection} AND object = {object} AND done_at IS NULL)
                   OR EXISTS (SELECT FROM crm_assets.alias
                               WHERE connection = {connection} AND object = {object} AND survivor IS NULL),
                      (SELECT array_agg(m.id ORDER BY m.id) FROM crm_assets.merge g JOIN {mirror} m ON m.id = g.id
                        WHERE g.connection = {connection} AND g.object = {object} AND g.done_at IS NULL
                          AND m._deleted_at IS NULL)""",
            **_names(q),
        )
    ).fetchone()
    assert found is not None
    return bool(found[0]), found[1] or []


def follow(conn: Conn, q: ApplySql) -> None:
    """Everything that merges mean beyond the loser's own row, for all losers that have left the mirror."""
    names = _names(q)
    # An alive row that was read after the merge was seen: it has been undeleted since.
    conn.execute(
        statement(
            """DELETE FROM crm_assets.merge g USING {mirror} m
                WHERE g.connection = {connection} AND g.object = {object} AND g.done_at IS NULL AND m.id = g.id
                  AND m._deleted_at IS NULL AND m._observed_at > g.observed_at""",
            **names,
        )
    )
    conn.execute(
        "CREATE TEMPORARY TABLE crm_assets_merged (id text PRIMARY KEY, survivor_id text, row_id uuid) ON COMMIT DROP"
    )
    conn.execute(statement(_READY, **names))
    conn.execute(statement(_BURY_UNKNOWN, **names))
    conn.execute(statement(_ROW_IDS, **names))
    conn.execute(statement(_ALIAS, **names))
    conn.execute(statement(_CHAIN, **names))
    conn.execute(statement(_LEAD, **names))
    conn.execute(statement(_KEEP_WRITES, **names))
    left = _repoint(conn, q)
    conn.execute(
        statement(
            """UPDATE crm_assets.merge g SET done_at = clock_timestamp() FROM crm_assets_merged x
                WHERE g.connection = {connection} AND g.object = {object} AND g.id = x.id AND x.id <> ALL (%s)""",
            **names,
        ),
        (sorted(left),),
    )


_READY = """
WITH RECURSIVE ready AS (
    SELECT g.id, g.survivor_id FROM crm_assets.merge g
     WHERE g.connection = {connection} AND g.object = {object} AND g.done_at IS NULL
       AND NOT EXISTS (SELECT FROM {mirror} m WHERE m.id = g.id AND m._deleted_at IS NULL)
), chain AS (
    SELECT id, survivor_id AS at FROM ready
    UNION
    SELECT c.id, g.survivor_id FROM chain c
      JOIN crm_assets.merge g ON g.connection = {connection} AND g.object = {object} AND g.id = c.at
)
INSERT INTO crm_assets_merged (id, survivor_id)
SELECT r.id, coalesce(min(c.at), r.survivor_id)
  FROM ready r LEFT JOIN chain c ON c.id = r.id
   AND NOT EXISTS (SELECT FROM crm_assets.merge g
                    WHERE g.connection = {connection} AND g.object = {object} AND g.id = c.at)
 GROUP BY r.id, r.survivor_id
"""

_BURY_UNKNOWN = """
INSERT INTO crm_assets.tombstone (connection, object, row_id, id, "values", deleted_by, approved)
SELECT {connection}, {object}, crm_assets.uuidv7(), x.id, '{{}}', 'crm', true FROM crm_assets_merged x
 WHERE NOT EXISTS (SELECT FROM {mirror} m WHERE m.id = x.id)
ON CONFLICT (connection, object, id) WHERE id IS NOT NULL DO NOTHING
"""

_ROW_IDS = """
UPDATE crm_assets_merged x SET row_id = coalesce(
    (SELECT m.row_id FROM {mirror} m WHERE m.id = x.id),
    (SELECT t.row_id FROM crm_assets.tombstone t
      WHERE t.connection = {connection} AND t.object = {object} AND t.id = x.id))
"""

_SURVIVOR = """coalesce(
    (SELECT m.row_id FROM {mirror} m WHERE m.id = x.survivor_id),
    (SELECT t.row_id FROM crm_assets.tombstone t
      WHERE t.connection = {connection} AND t.object = {object} AND t.id = x.survivor_id))"""

_ALIAS = f"""
INSERT INTO crm_assets.alias (connection, object, row_id, id, survivor, survivor_id)
SELECT {{connection}}, {{object}}, x.row_id, x.id, {_SURVIVOR}, x.survivor_id FROM crm_assets_merged x
ON CONFLICT (connection, object, row_id) DO UPDATE SET survivor = excluded.survivor, survivor_id = excluded.survivor_id
"""

_CHAIN = f"""
UPDATE crm_assets.alias a SET survivor = {_SURVIVOR}, survivor_id = x.survivor_id
  FROM crm_assets_merged x
 WHERE a.connection = {{connection}} AND a.object = {{object}} AND a.survivor_id = x.id AND a.id <> x.survivor_id
"""

_LEAD = """
UPDATE crm_assets.alias a SET survivor = m.row_id FROM {mirror} m
 WHERE a.connection = {connection} AND a.object = {object} AND a.survivor IS NULL AND m.id = a.survivor_id
"""

# What somebody is sending at this moment is refused by the CRM, with the same reason.
_KEEP_WRITES = """
WITH kept AS (
    SELECT o.seq, x.survivor_id FROM crm_assets.outbox o JOIN crm_assets_merged x ON x.row_id = o.row_id
     WHERE o.connection = {connection} AND o.object = {object} AND o.op = 'update'
       AND o.state IN ('pending', 'conflict')
     ORDER BY o.seq FOR NO KEY UPDATE OF o SKIP LOCKED)
UPDATE crm_assets.outbox o
   SET state = CASE o.state WHEN 'pending' THEN 'rejected' ELSE o.state END,
       reason = 'the record was merged into ' || kept.survivor_id || ' in the CRM'
  FROM kept WHERE o.seq = kept.seq
"""


def _repoint(conn: Conn, q: ApplySql) -> set[str]:
    """References to losers become references to survivors. Returns losers that locked rows still refer to.

    The CRM does the same to its records; until their own observations arrive no join breaks. The bases of unsettled
    writes follow, so that the CRM's repointing is no conflict with them.
    """
    left: set[str] = set()
    if conn.execute("SELECT FROM crm_assets_merged LIMIT 1").fetchone() is None:
        return left
    for table, column in conn.execute(
        """SELECT o.object, f ->> 'column'
             FROM crm_assets.object o CROSS JOIN LATERAL jsonb_array_elements(o.described -> 'fields') f
            WHERE o.connection = %s AND f -> 'reference_to' ? %s
              -- What nobody may write is the CRM's own record of the matter.
              AND ((f ->> 'createable')::boolean OR (f ->> 'updateable')::boolean)""",
        (q.connection, q.obj.name),
    ).fetchall():
        names = {
            "referrer": sql.Identifier(q.connection, table),
            "column": sql.Identifier(column),
            "connection": sql.Literal(q.connection),
            "table": sql.Literal(table),
            "key": sql.Literal(column),
        }
        conn.execute(
            statement(
                """WITH free AS (
                       SELECT r.row_id, x.id AS was, x.survivor_id AS is_now
                         FROM {referrer} r JOIN crm_assets_merged x ON x.id = r.{column}
                        ORDER BY r.row_id FOR NO KEY UPDATE OF r SKIP LOCKED),
                   moved AS (
                       UPDATE {referrer} r SET {column} = free.is_now FROM free WHERE r.row_id = free.row_id
                    RETURNING r.row_id, r.id, free.was, free.is_now)
                   INSERT INTO crm_assets.change (connection, object, op, row_id, id, old, new, process)
                   SELECT {connection}, {table}, 'update', row_id, id, jsonb_build_object({key}::text, was),
                          jsonb_build_object({key}::text, is_now), %s
                     FROM moved""",
                **names,
            ),
            (audit.process(),),
        )
        conn.execute(
            statement(
                f"""WITH held AS (
                       SELECT o.seq, x.survivor_id FROM crm_assets.outbox o
                         JOIN crm_assets_merged x ON x.id = o.base ->> {{key}}
                        WHERE o.connection = {{connection}} AND o.object = {{table}} AND o.state IN {UNSETTLED}
                        ORDER BY o.seq FOR NO KEY UPDATE OF o SKIP LOCKED)
                   UPDATE crm_assets.outbox o SET base = o.base || jsonb_build_object({{key}}, held.survivor_id)
                     FROM held WHERE o.seq = held.seq""",
                **names,
            )
        )
        left |= {
            row[0]
            for row in conn.execute(
                statement("SELECT x.id FROM {referrer} r JOIN crm_assets_merged x ON x.id = r.{column}", **names)
            )
        }
    return left


def _names(q: ApplySql) -> dict[str, sql.Composable]:
    return {
        "mirror": q.mirror,
        "connection": sql.Literal(q.connection),
        "object": sql.Literal(q.obj.table),
    }
