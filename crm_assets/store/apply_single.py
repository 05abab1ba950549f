"""The parts of ``apply`` that concern one record at a time: deletes, undeletes, new ids and replies.

They take locks that can collide with a product's foreign keys, so each runs in a small transaction of its own with
a lock_timeout below the deadlock_timeout. Each returns how many mirror rows it changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.errors import ForeignKeyViolation, UniqueViolation
from psycopg.types.json import Jsonb

from crm_assets.store import audit, children, setaside
from crm_assets.store.apply_sql import UNSETTLED, ApplySql, staged
from crm_assets.store.database import Conn, statement

Action = Callable[[Conn, ApplySql, str], int]


def delete(conn: Conn, q: ApplySql, record_id: str) -> int:
    """The CRM deleted the record: its row leaves the mirror and becomes a tombstone that keeps the row_id."""
    seen = conn.execute(
        statement(
            """SELECT s._source, s._version, s._observed_at, p.version_null, f.id IS NOT NULL
                 FROM crm_assets_pick p JOIN {stage} s ON s._seq = p.seq
                 LEFT JOIN crm_assets.floor f
                   ON f.connection = {connection} AND f.object = {object} AND f.id = p.id
                WHERE p.id = %s AND p.eligible AND p.deleted""",
            **_names(q),
        ),
        (record_id,),
    ).fetchone()
    if seen is None:
        return 0
    source, version, observed_at, found_nothing, floor = seen
    row = conn.execute(
        statement(
            "SELECT row_id, _version, _observed_at, _deleted_at, to_jsonb(m) FROM {mirror} m WHERE id = %s FOR UPDATE",
            **_names(q),
        ),
        (record_id,),
    ).fetchone()
    if row is None:  # it left meanwhile; the next pass meets its tombstone
        return 0
    row_id, our_version, our_observed_at, deleted_at, values = row
    if not floor:
        if not found_nothing and our_version is not None and version < our_version:
            return _consume(conn, q, record_id, 0)
        if found_nothing or version == our_version:
            # The same second on both sides: only a primary read that came later decides.
            if our_observed_at is not None and observed_at <= our_observed_at:
                return _consume(conn, q, record_id, 0)
            if source != "id":
                _reread(conn, q, record_id, "deleted and alive at the same version")
                return _consume(conn, q, record_id, 0)
    _remove(conn, q, row_id, record_id, values, version, observed_at, held_already=deleted_at is not None)
    if deleted_at is None:
        audit.note(
            conn, q.connection, q.obj.table, "delete", row_id, record_id, old=values, version=version, source=source
        )
    return _consume(conn, q, record_id, 1)


def merged(conn: Conn, q: ApplySql, record_id: str) -> int:
    """The record was merged into another one: its row leaves the mirror like a deleted one."""
    row = conn.execute(
        statement(
            """SELECT m.row_id, m._version, g.observed_at, to_jsonb(m), g.survivor_id FROM {mirror} m
                 JOIN crm_assets.merge g ON g.connection = {connection} AND g.object = {object} AND g.id = m.id
                WHERE m.id = %s AND g.done_at IS NULL AND m._deleted_at IS NULL
                  AND (m._observed_at IS NULL OR m._observed_at <= g.observed_at)
                  FOR UPDATE OF m""",
            **_names(q),
        ),
        (record_id,),
    ).fetchone()
    if row is None:
        return 0
    row_id, version, observed_at, values, survivor_id = row
    _remove(conn, q, row_id, record_id, values, version, observed_at)
    into = {"merged_into": survivor_id}
    audit.note(conn, q.connection, q.obj.table, "merge", row_id, record_id, old=values, new=into, version=version)
    return 1


def lift(conn: Conn, q: ApplySql, record_id: str) -> int:
    """A primary read begun after the tombstone shows the record alive: the row returns with its row_id."""
    comma = sql.SQL(", ") if q.obj.fields else sql.SQL("")
    born = conn.execute(
        statement(
            f"""INSERT INTO {{mirror}} AS m (row_id, id, {{columns}}{{comma}} _version, _observed_at)
               SELECT t.row_id, s.id, {{values}}{{comma}} s._version, s._observed_at
                 FROM crm_assets_pick p JOIN {{stage}} s ON s._seq = p.seq
                 JOIN crm_assets.tombstone t
                   ON t.connection = {{connection}} AND t.object = {{object}} AND t.id = p.id
                WHERE p.id = %s AND p.eligible AND NOT p.deleted AND s._source = 'id'
                  AND s._observed_at > t.observed_at
                  AND NOT EXISTS (SELECT FROM crm_assets.outbox o
                                   WHERE o.connection = {{connection}} AND o.object = {{object}}
                                     AND o.row_id = t.row_id AND o.op = 'delete' AND o.state IN {UNSETTLED})
               ON CONFLICT DO NOTHING RETURNING m.row_id, to_jsonb(m), m._version""",
            columns=sql.SQL(", ").join(sql.Identifier(f.column) for f in q.obj.fields),
            values=sql.SQL(", ").join(staged(f) for f in q.obj.fields),
            comma=comma,
            **_names(q),
        ),
        (record_id,),
    ).fetchone()
    if born is not None:
        row_id, values, version = born
        audit.note(
            conn, q.connection, q.obj.table, "undelete", row_id, record_id, new=values, version=version, source="id"
        )
        _show(conn, q, row_id, _held(conn, q, row_id))
        for table in ("tombstone", "alias", "merge"):
            conn.execute(
                statement(
                    "DELETE FROM {table} WHERE connection = {connection} AND object = {object} AND id = %s{merged}",
                    table=sql.Identifier("crm_assets", table),
                    merged=sql.SQL(" AND survivor_id <> id" if table == "alias" else ""),
                    **_names(q),
                ),
                (record_id,),
            )
        return _consume(conn, q, record_id, 1)
    return 0


def set_id(conn: Conn, q: ApplySql, row_id: UUID, record_id: str) -> int:
    """A row that the product created has its id now.

    The record may have come to a row of its own before we knew that it is ours: then the product's row stands for
    it, and ``alias`` leads to it from the other one. If a foreign key holds that one, both stay and are reported.
    """
    conn.execute("SAVEPOINT linking")
    try:
        buried = conn.execute(
            statement(
                # The CRM deleted the record before we knew that it is ours; a read tells whether it still is.
                """DELETE FROM crm_assets.tombstone t
                    WHERE t.connection = {connection} AND t.object = {object} AND t.id = %(id)s
                      AND t.row_id <> %(row_id)s AND (t.deleted_by = 'crm' OR {again})
                      AND (EXISTS (SELECT FROM {mirror} m WHERE m.row_id = %(row_id)s AND m.id IS NULL)
                           OR EXISTS (SELECT FROM crm_assets.tombstone u
                                       WHERE u.connection = {connection} AND u.object = {object}
                                         AND u.row_id = %(row_id)s AND u.id IS NULL))
                RETURNING t.row_id, t.deleted_by = 'crm'""",
                # What is named by its values has the same id again when it is made again.
                again=sql.Literal(bool(q.obj.natural_key)),
                **_names(q),
            ),
            {"id": record_id, "row_id": row_id},
        ).fetchone()
        if buried is not None:
            _reread(conn, q, record_id, "deleted before its create was known")
            if buried[1]:
                _stand_in(conn, q, row_id, record_id, buried[0])
        _absorb(conn, q, row_id, record_id)
        changed = conn.execute(
            statement("UPDATE {mirror} SET id = %s WHERE row_id = %s AND id IS NULL", **_names(q)),
            (record_id, row_id),
        ).rowcount
        if not changed:
            conn.execute(
                statement(
                    """UPDATE crm_assets.tombstone SET id = %s
                        WHERE connection = {connection} AND object = {object} AND row_id = %s AND id IS NULL""",
                    **_names(q),
                ),
                (record_id, row_id),
            )
        conn.execute("RELEASE SAVEPOINT linking")
    except (UniqueViolation, ForeignKeyViolation) as error:
        conn.execute("ROLLBACK TO SAVEPOINT linking")
        _drift(
            conn,
            q,
            record_id,
            "duplicate",
            f"is the record of row_id {row_id} as well, which cannot take it over: {error.diag.constraint_name}",
        )
        return 0
    return changed


def _absorb(conn: Conn, q: ApplySql, row_id: UUID, record_id: str) -> None:
    """Take over what another row of the same record has: its values and its writes. The other row goes."""
    other = conn.execute(
        statement(
            """SELECT m.row_id FROM {mirror} m
                WHERE m.id = %(id)s AND m.row_id <> %(row_id)s
                  AND (EXISTS (SELECT FROM {mirror} o WHERE o.row_id = %(row_id)s AND o.id IS NULL)
                       OR EXISTS (SELECT FROM crm_assets.tombstone t
                                   WHERE t.connection = {connection} AND t.object = {object}
                                     AND t.row_id = %(row_id)s AND t.id IS NULL))
                  AND NOT EXISTS (SELECT FROM crm_assets.outbox c
                                   WHERE c.connection = {connection} AND c.object = {object} AND c.op = 'create'
                                     AND c.row_id = m.row_id AND c.state IN ('confirmed', 'sending', 'unknown'))
                  FOR UPDATE OF m""",
            **_names(q),
        ),
        {"id": record_id, "row_id": row_id},
    ).fetchone()
    if other is None:
        return
    if q.obj.fields:
        conn.execute(
            statement(
                f"""UPDATE {{mirror}} m SET {{sets}}, _version = o._version, _observed_at = o._observed_at
                     FROM {{mirror}} o,
                          LATERAL (SELECT coalesce(jsonb_object_agg(k, true), '{{{{}}}}') AS fields
                                     FROM crm_assets.outbox w CROSS JOIN LATERAL jsonb_object_keys(w.new) k
                                    WHERE w.connection = {{connection}} AND w.object = {{object}}
                                      AND w.row_id = %(row_id)s AND w.op = 'update' AND w.state IN {UNSETTLED}) held
                    WHERE m.row_id = %(row_id)s AND o.row_id = %(other)s""",
                sets=sql.SQL(", ").join(
                    statement(
                        "{c} = CASE WHEN held.fields ? {k} THEN m.{c} ELSE o.{c} END",
                        c=sql.Identifier(f.column),
                        k=sql.Literal(f.column),
                    )
                    for f in q.obj.fields
                ),
                **_names(q),
            ),
            {"row_id": row_id, "other": other[0]},
        )
    for table in ("outbox", "conflict"):
        conn.execute(
            statement(
                "UPDATE {table} SET row_id = %s WHERE connection = {connection} AND object = {object} AND row_id = %s",
                table=sql.Identifier("crm_assets", table),
                **_names(q),
            ),
            (row_id, other[0]),
        )
    conn.execute(statement("DELETE FROM {mirror} WHERE row_id = %s", **_names(q)), (other[0],))
    _stand_in(conn, q, row_id, record_id, other[0])


def _stand_in(conn: Conn, q: ApplySql, row_id: UUID, record_id: str, other: UUID) -> None:
    """From now on ``row_id`` stands for what was ``other``, also at the end of chains that led there."""
    conn.execute(
        statement(
            """INSERT INTO crm_assets.alias (connection, object, row_id, id, survivor, survivor_id)
               VALUES ({connection}, {object}, %s, %s, %s, %s)
               ON CONFLICT (connection, object, row_id) DO UPDATE
                   SET survivor = excluded.survivor, survivor_id = excluded.survivor_id""",
            **_names(q),
        ),
        (other, record_id, row_id, record_id),
    )
    conn.execute(
        statement(
            "UPDATE crm_assets.alias SET survivor = %s "
            "WHERE connection = {connection} AND object = {object} AND survivor = %s",
            **_names(q),
        ),
        (row_id, other),
    )


def reply(conn: Conn, q: ApplySql, stage_seq: int, outbox_seq: int) -> int:
    """The mirror's part of an outbox row that was settled, discarded or offered again."""
    # Locked before anything is looked at: a write that the product commits until then is seen as later.
    conn.execute(
        statement(
            """SELECT FROM {mirror} m WHERE m.row_id = (SELECT row_id FROM crm_assets.outbox WHERE seq = %s)
                  FOR NO KEY UPDATE NOWAIT""",
            **_names(q),
        ),
        (outbox_seq,),
    )
    _give_way(conn, outbox_seq)
    row = conn.execute(
        statement(
            f"""SELECT o.op, o.state, o.row_id, o.id,
                      -- What each field shows now: its newest unsettled write, else the CRM's value.
                      (SELECT jsonb_object_agg(k, CASE WHEN u.new IS NOT NULL THEN u.new -> k
                                                       WHEN o.theirs ? k THEN o.theirs -> k ELSE o.base -> k END)
                         FROM jsonb_object_keys(o.new) k
                         LEFT JOIN LATERAL (
                           SELECT x.new FROM crm_assets.outbox x
                            WHERE x.connection = o.connection AND x.object = o.object AND x.row_id = o.row_id
                              AND x.new ? k AND x.state IN {UNSETTLED}
                            ORDER BY x.place DESC, x.seq DESC LIMIT 1) u ON true)
                 FROM crm_assets.outbox o WHERE o.seq = %s""",
            **_names(q),
        ),
        (outbox_seq,),
    ).fetchone()
    changed = 0
    if row is not None:
        op, state, row_id, record_id, values = row
        match op, state:
            case "create", "confirmed":
                changed = set_id(conn, q, row_id, record_id)
            case "create", "discarded":
                changed = _withdraw(conn, q, row_id, outbox_seq)
            case "create", "rejected":
                # What was found for its references so far is no row_id any more.
                references = {f.column for f in q.obj.fields if f.reference_to}
                changed = _show(conn, q, row_id, {c: v for c, v in (values or {}).items() if c in references})
            case "update", "rejected" | "discarded" | "pending" | "sending" | "unknown" | "conflict":
                changed = _show(conn, q, row_id, values or {})
            case "delete", "rejected" | "discarded":
                changed = _revive(conn, q, row_id)
                if changed and record_id:
                    _reread(conn, q, record_id, f"delete {state}")
            case "delete", "confirmed":
                conn.execute(
                    statement(
                        """UPDATE crm_assets.tombstone SET observed_at = clock_timestamp(), id = coalesce(id, %s)
                            WHERE connection = {connection} AND object = {object} AND row_id = %s""",
                        **_names(q),
                    ),
                    (record_id, row_id),
                )
                if record_id:
                    # A row that a foreign key held back when the CRM deleted the record: the product let go of it.
                    setaside.clear(conn, q.connection, q.obj.table, [record_id])
            case _:
                pass
    conn.execute(statement("DELETE FROM {stage} WHERE _seq = %s", **_names(q)), (stage_seq,))
    return changed


def _give_way(conn: Conn, outbox_seq: int) -> None:
    """Where the CRM wins a field for good, later writes of it that have not left yet are discarded too.

    The mirror row is locked: no further write of the product can come in between.
    """
    won = conn.execute(
        """SELECT o.connection, o.object, o.row_id, o.theirs, o.theirs_version, array_agg(c.field)
             FROM crm_assets.outbox o JOIN crm_assets.conflict c ON c.seq = o.seq
            WHERE o.seq = %s AND o.op = 'update' AND o.state = 'discarded'
              AND c.policy = 'crm_wins' AND c.resolution = 'crm'
            GROUP BY o.seq""",
        (outbox_seq,),
    ).fetchone()
    if won is None:
        return
    connection, table, row_id, theirs, version, fields = won
    later = conn.execute(
        """SELECT seq, new FROM crm_assets.outbox
            WHERE connection = %s AND object = %s AND row_id = %s AND op = 'update'
              AND state IN ('pending', 'conflict') AND new ?| %s
            ORDER BY seq FOR UPDATE""",
        (connection, table, row_id, fields),
    ).fetchall()
    for seq, new in later:
        lost = sorted(set(fields) & set(new))
        reason = f"the CRM wins {', '.join(lost)}"
        if len(lost) < len(new):
            conn.execute(
                """INSERT INTO crm_assets.outbox
                       (connection, object, op, row_id, id, base, new, theirs, theirs_version, state, reason, actor,
                        txid, created_at, sent_by, split_of, settled_at)
                   SELECT connection, object, op, row_id, id, base, new - (crm_assets.keys(new - %(lost)s::text[])),
                          %(theirs)s, %(version)s, 'discarded', %(reason)s, actor, txid, created_at, sent_by, place,
                          clock_timestamp()
                     FROM crm_assets.outbox WHERE seq = %(seq)s""",
                {"lost": lost, "theirs": Jsonb(theirs), "version": version, "reason": reason, "seq": seq},
            )
            conn.execute(
                "UPDATE crm_assets.outbox SET new = new - %(lost)s::text[], base = base - %(lost)s::text[] "
                "WHERE seq = %(seq)s",
                {"lost": lost, "seq": seq},
            )
        else:
            conn.execute(
                """UPDATE crm_assets.outbox SET state = 'discarded', theirs = %s, theirs_version = %s, reason = %s
                    WHERE seq = %s""",
                (Jsonb(theirs), version, reason, seq),
            )
        conn.execute(
            """UPDATE crm_assets.conflict SET state = 'resolved', resolution = 'crm', resolved_at = clock_timestamp(),
                      resolved_by = 'policy'
                WHERE seq = %s AND field = ANY (%s) AND state = 'open'""",
            (seq, lost),
        )


def _withdraw(conn: Conn, q: ApplySql, row_id: UUID, outbox_seq: int) -> int:
    """Remove the row of a discarded create, unless the product has offered it again or a foreign key holds it."""
    conn.execute("SAVEPOINT withdrawal")
    try:
        changed = conn.execute(
            statement(
                f"""DELETE FROM {{mirror}} WHERE row_id = %(row_id)s AND id IS NULL
                       AND NOT EXISTS (SELECT FROM crm_assets.outbox o
                                        WHERE o.connection = {{connection}} AND o.object = {{object}}
                                          AND o.row_id = %(row_id)s AND o.op = 'create'
                                          AND (o.state = 'confirmed' OR o.state IN {UNSETTLED}))""",
                **_names(q),
            ),
            {"row_id": row_id},
        ).rowcount
        conn.execute("RELEASE SAVEPOINT withdrawal")
    except ForeignKeyViolation as error:
        conn.execute("ROLLBACK TO SAVEPOINT withdrawal")
        conn.execute(
            "UPDATE crm_assets.outbox SET reason = concat_ws('; ', reason, %s::text) WHERE seq = %s",
            (f"the row stays, a foreign key holds it: {error.diag.constraint_name}", outbox_seq),
        )
        return 0
    return changed


def _show(conn: Conn, q: ApplySql, row_id: UUID, values: dict[str, Any]) -> int:
    fields = [f for f in q.obj.fields if f.column in values]
    if not fields:
        return 0
    return conn.execute(
        statement(
            "UPDATE {mirror} m SET {sets} FROM jsonb_populate_record(NULL::{mirror}, %s) r WHERE m.row_id = %s",
            sets=sql.SQL(", ").join(
                statement("{c} = {v}", c=sql.Identifier(f.column), v=staged(f, "r")) for f in fields
            ),
            **_names(q),
        ),
        (Jsonb(values), row_id),
    ).rowcount


def _held(conn: Conn, q: ApplySql, row_id: UUID) -> dict[str, Any]:
    """What the product has written to a row and nobody has settled yet."""
    row = conn.execute(
        statement(
            f"""SELECT jsonb_object_agg(e.key, e.value ORDER BY o.place, o.seq)
                 FROM crm_assets.outbox o CROSS JOIN LATERAL jsonb_each(o.new) e
                WHERE o.connection = {{connection}} AND o.object = {{object}} AND o.row_id = %s
                  AND o.op = 'update' AND o.state IN {UNSETTLED}""",
            **_names(q),
        ),
        (row_id,),
    ).fetchone()
    return dict(row[0]) if row and row[0] else {}


def _remove(
    conn: Conn,
    q: ApplySql,
    row_id: UUID,
    record_id: str,
    values: Any,
    version: Any,
    observed_at: Any,
    held_already: bool = False,
) -> None:
    """Take a row out of the mirror; one that a foreign key of the product holds stays, marked and reported."""
    conn.execute("SAVEPOINT deletion")
    try:
        conn.execute(statement("DELETE FROM {mirror} WHERE row_id = %s", **_names(q)), (row_id,))
        conn.execute("RELEASE SAVEPOINT deletion")
    except ForeignKeyViolation as error:
        conn.execute("ROLLBACK TO SAVEPOINT deletion")
        if not held_already:
            conn.execute(
                statement(
                    """UPDATE {mirror} SET _deleted_at = clock_timestamp(), _observed_at = %s,
                              _version = coalesce(%s, _version) WHERE row_id = %s""",
                    **_names(q),
                ),
                (observed_at, version, row_id),
            )
        _drift(conn, q, record_id, "delete_blocked", f"a foreign key holds the row: {error.diag.constraint_name}")
    else:
        _bury(conn, q, row_id, record_id, values, version, observed_at)
        setaside.clear(conn, q.connection, q.obj.table, [record_id])
    children.of_deleted(conn, q.connection, q.obj.name, [record_id])


def _revive(conn: Conn, q: ApplySql, row_id: UUID) -> int:
    born = conn.execute(
        statement(
            """INSERT INTO {mirror} SELECT r.* FROM crm_assets.tombstone t
                CROSS JOIN LATERAL jsonb_populate_record(
                    NULL::{mirror}, t."values" || jsonb_build_object('id', t.id)) r
                WHERE t.connection = {connection} AND t.object = {object} AND t.row_id = %s
                ON CONFLICT DO NOTHING""",
            **_names(q),
        ),
        (row_id,),
    ).rowcount
    if born:
        conn.execute(
            statement(
                "DELETE FROM crm_assets.tombstone "
                "WHERE connection = {connection} AND object = {object} AND row_id = %s",
                **_names(q),
            ),
            (row_id,),
        )
    return born


def _bury(conn: Conn, q: ApplySql, row_id: UUID, record_id: str, values: Any, version: Any, observed_at: Any) -> None:
    conn.execute(
        statement(
            """INSERT INTO crm_assets.tombstone AS t
                      (connection, object, row_id, id, "values", deleted_by, version, observed_at, approved)
               VALUES ({connection}, {object}, %(row_id)s, %(id)s, %(values)s, 'crm',
                       %(version)s::text, %(observed_at)s,
                       (SELECT coalesce(bool_or(p.seq <= g.up_to), false)
                          FROM crm_assets_pick p JOIN crm_assets.guard g
                            ON g.connection = {connection} AND g.object = {object} AND g.direction = 'in'
                           AND g.state = 'approved'
                         WHERE p.id = %(id)s))
               ON CONFLICT (connection, object, id) WHERE id IS NOT NULL
                   DO UPDATE SET version = coalesce(excluded.version, t.version),
                                 observed_at = greatest(t.observed_at, excluded.observed_at)""",
            **_names(q),
        ),
        {
            "row_id": row_id,
            "id": record_id,
            "values": Jsonb(values),
            "version": None if version is None else str(version),
            "observed_at": observed_at,
        },
    )


def _consume(conn: Conn, q: ApplySql, record_id: str, changed: int) -> int:
    """The record's rows are done, except those read later than one that found nothing: they may be an undelete."""
    conn.execute(
        statement(
            """DELETE FROM crm_assets.floor f USING crm_assets_pick p JOIN {stage} s ON s._seq = p.seq
                WHERE f.connection = {connection} AND f.object = {object} AND f.id = p.id AND p.id = %s
                  AND s._observed_at >= f.floor_at""",
            **_names(q),
        ),
        (record_id,),
    )
    conn.execute(
        statement(
            """DELETE FROM {stage} s USING crm_assets_pick p JOIN {stage} chosen ON chosen._seq = p.seq
                WHERE p.id = %s AND s._seq = ANY (p.seqs) AND s.id = p.id
                  AND (chosen._version IS NOT NULL OR s._observed_at <= chosen._observed_at)""",
            **_names(q),
        ),
        (record_id,),
    )
    return changed


def _reread(conn: Conn, q: ApplySql, record_id: str, reason: str) -> None:
    conn.execute(
        statement("SELECT crm_assets.ask_reread({connection}, {object}, %s, %s)", **_names(q)),
        (record_id, reason),
    )


def _drift(conn: Conn, q: ApplySql, record_id: str, kind: str, reason: str) -> None:
    conn.execute(
        statement(
            """INSERT INTO crm_assets.drift (connection, object, id, kind, reason)
               VALUES ({connection}, {object}, %s, %s, %s)
               ON CONFLICT (connection, object, id, kind, field) WHERE state = 'open'
                   DO UPDATE SET reason = excluded.reason, seen_at = clock_timestamp()""",
            **_names(q),
        ),
        (record_id, kind, reason),
    )


def _names(q: ApplySql) -> dict[str, sql.Composable]:
    return {
        "mirror": q.mirror,
        "stage": q.stage,
        "connection": sql.Literal(q.connection),
        "object": sql.Literal(q.obj.table),
    }
