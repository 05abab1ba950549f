"""The other mode of apply: a column that came new gets its values, and nothing else of a row is touched.

A value is written only where the mirror holds the very version that was read, so that it can never be older than the
rest of its row. Rows that the product holds are read by id instead; fields with an unsettled write keep the product's
value.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa
from psycopg import sql

from crm_assets.core.model import Object
from crm_assets.store import audit, inbox
from crm_assets.store.apply_sql import UNSETTLED, staged
from crm_assets.store.database import Database, as_sync_role, statement
from crm_assets.store.ddl import column_type
from crm_assets.store.followers import Followers
from crm_assets.store.stage import as_csv

_BATCH = 5_000


def fill(
    db: Database,
    connection: str,
    obj: Object,
    columns: Sequence[str],
    page: pa.Table,
    read_at: datetime,
    *,
    refresh: bool = False,
) -> int:
    """Fill the columns from a page of ``id``, ``_version`` and them. Returns how many rows got a value.

    A ``refresh`` replaces values by newer ones: like any change of the CRM it is noted, and dates its rows.
    """
    names = ["id", "_version", *columns]
    ordered = page.select(names).sort_by("id")
    q = _Sql(connection, obj, columns, refresh)
    return sum(_batch(db, q, ordered.slice(at, _BATCH), read_at) for at in range(0, ordered.num_rows, _BATCH))


def _batch(db: Database, q: _Sql, rows: pa.Table, read_at: datetime) -> int:
    scope: dict[str, Any] = {"read_at": read_at, "process": audit.process()}
    with db.transaction() as conn:
        as_sync_role(conn)
        conn.execute(
            "SELECT pg_advisory_xact_lock(hashtext('crm_assets.apply'), hashtext(%s))",
            (f"{q.connection}.{q.obj.table}",),
        )
        conn.execute(q.table)
        with conn.cursor().copy(q.copy) as sink:
            sink.write(as_csv(rows))
        conn.execute("ANALYZE crm_assets_fill")
        # The first and the last id as the database orders them, which may be by the rules of a language.
        bounds = conn.execute("SELECT min(id), max(id) FROM crm_assets_fill").fetchone()
        assert bounds is not None
        scope |= {"lo": bounds[0], "hi": bounds[1]}
        conn.execute(q.lock, scope)
        conn.execute(q.hold)
        conn.execute(q.theirs, scope)
        followers = Followers(conn, q.connection, q.obj)
        written = conn.execute(q.write, scope).fetchone()
        filled = int(written[0]) if written else 0
        if followers:
            followers.ask_since()
        waiting = [row[0] for row in conn.execute(q.left, scope)]
        inbox.reread(conn, q.connection, q.obj.table, waiting, "new field of a row that was in use")
    return filled


class _Sql:
    """The statements of a batch. The fill's rows are ``f``, the mirror's ``m``."""

    def __init__(self, connection: str, obj: Object, columns: Sequence[str], refresh: bool) -> None:
        self.connection, self.obj = connection, obj
        fields = [obj.by_column[column] for column in columns]
        types = [("id", "text"), ("_version", column_type(obj.version_type))]
        types += [(fld.column, column_type(fld.type)) for fld in fields]
        definition = sql.SQL(", ").join(sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(k)) for n, k in types)
        names = {
            "mirror": sql.Identifier(connection, obj.table),
            "connection": sql.Literal(connection),
            "object": sql.Literal(obj.table),
        }
        differs = sql.SQL(" OR ").join(
            statement(
                "NOT coalesce(f.held ? {k}, false) AND m.{c} IS DISTINCT FROM {v}",
                k=sql.Literal(fld.column),
                c=sql.Identifier(fld.column),
                v=staged(fld, "f"),
            )
            for fld in fields
        )
        # A row with a floor is about to be read by id.
        names["due"] = statement(
            """m.id >= %(lo)s AND m.id <= %(hi)s AND m._version IS NOT DISTINCT FROM f._version
               AND (m._observed_at IS NULL OR m._observed_at <= %(read_at)s)
               AND NOT EXISTS (SELECT FROM crm_assets.floor l WHERE l.connection = {connection}
                               AND l.object = {object} AND l.id = m.id) AND ({differs})""",
            differs=differs,
            **names,
        )
        self.table = statement(
            "CREATE TEMPORARY TABLE crm_assets_fill ({d}, row_id uuid, held jsonb) ON COMMIT DROP", d=definition
        )
        self.copy = statement(
            "COPY crm_assets_fill ({c}) FROM STDIN (FORMAT csv)",
            c=sql.SQL(", ").join(sql.Identifier(name) for name, _ in types),
        )
        self.lock = statement(
            """WITH locked AS (
                   SELECT m.id, m.row_id FROM {mirror} m JOIN crm_assets_fill f ON f.id = m.id WHERE {due}
                      FOR NO KEY UPDATE OF m SKIP LOCKED)
               UPDATE crm_assets_fill f SET row_id = l.row_id FROM locked l WHERE l.id = f.id""",
            **names,
        )
        # After the lock, with a fresh snapshot: no write of the product is missed.
        self.hold = statement(
            f"""UPDATE crm_assets_fill f SET held = u.held
                  FROM (SELECT o.row_id, jsonb_object_agg(k, true) AS held
                          FROM crm_assets_fill q
                          JOIN crm_assets.outbox o
                            ON o.connection = {{connection}} AND o.object = {{object}} AND o.row_id = q.row_id
                         CROSS JOIN LATERAL jsonb_object_keys(o.new) k
                         WHERE o.state IN {UNSETTLED} GROUP BY o.row_id) u
                 WHERE f.row_id = u.row_id""",
            **names,
        )
        # What the CRM has goes beside the product's value, so that a refused write returns to it.
        self.theirs = statement(
            f"""WITH free AS (
                    SELECT o.seq, o.new, f.id FROM crm_assets.outbox o JOIN crm_assets_fill f ON f.row_id = o.row_id
                     WHERE o.connection = {{connection}} AND o.object = {{object}} AND o.state IN {UNSETTLED}
                       AND o.op = 'update' AND f.held IS NOT NULL
                     ORDER BY o.seq FOR NO KEY UPDATE OF o SKIP LOCKED)
               UPDATE crm_assets.outbox o
                  SET theirs = coalesce(o.theirs, '{{{{}}}}') || v.theirs
                 FROM free JOIN crm_assets_fill f ON f.id = free.id
                CROSS JOIN LATERAL (
                   SELECT to_jsonb(f) - '{{{{id,_version,row_id,held}}}}'::text[] AS record) r
                CROSS JOIN LATERAL (
                   SELECT jsonb_object_agg(k, r.record -> k) AS theirs
                     FROM jsonb_object_keys(r.record) k WHERE free.new ? k) v
                WHERE o.seq = free.seq AND v.theirs IS NOT NULL""",
            **names,
        )
        old: sql.Composable = sql.SQL("")
        seen: sql.Composable = sql.SQL("RETURNING 1")
        noted: sql.Composable = sql.SQL("")
        if refresh:
            # The row as it was is joined: not every server gives it back. It is locked, so that it is what is replaced.
            old = statement(" JOIN {mirror} crm_assets_old ON crm_assets_old.row_id = f.row_id", **names)
            seen = statement(
                "RETURNING m.row_id, m.id, m._version::text AS version, {changed}",
                changed=audit.old_and_new(tuple(fields), "crm_assets_old", "m"),
            )
            noted = statement(
                """, noted AS (
                   INSERT INTO crm_assets.change
                          (connection, object, op, row_id, id, old, new, version, source, process)
                   SELECT {connection}, {object}, 'update', row_id, id, old, new, version, 'list', %(process)s
                     FROM written AS w (row_id, id, version, old, new) WHERE new <> '{{}}')""",
                **names,
            )
        self.write = statement(
            """WITH written AS (
                   UPDATE {mirror} m SET {sets}{dated} FROM crm_assets_fill f{old}
                    WHERE f.row_id = m.row_id AND {due} {seen}){noted}
               SELECT count(*) FROM written""",
            old=old,
            seen=seen,
            dated=sql.SQL(", _observed_at = %(read_at)s" if refresh else ""),
            noted=noted,
            sets=sql.SQL(", ").join(
                statement(
                    "{c} = CASE WHEN f.held ? {k} THEN m.{c} ELSE {v} END",
                    c=sql.Identifier(fld.column),
                    k=sql.Literal(fld.column),
                    v=staged(fld, "f"),
                )
                for fld in fields
            ),
            **names,
        )
        self.left = statement(
            """SELECT m.id FROM {mirror} m JOIN crm_assets_fill f ON f.id = m.id
                WHERE f.row_id IS NULL AND {due}""",
            **names,
        )
