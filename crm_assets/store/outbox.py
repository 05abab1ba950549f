"""The outbox: claiming the product's writes, earliest first per record."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from crm_assets.core.model import Object, Op
from crm_assets.core.values import as_row_id
from crm_assets.store import audit, guards, references, siblings
from crm_assets.store.database import Conn, Database, array, statement
from crm_assets.store.worker import LOCK_CLASS, Worker
from crm_assets.store.write import Write

# What else is unsettled of a record is looked up once; hardly ever there is anything, and only then is the rest asked.
# Each look-up of a record is a subquery of its own with a LIMIT, so that it stays a look-up: as NOT EXISTS it becomes a
# join, and its plan follows statistics that are never right for a table that fills and empties within seconds.
_EARLIEST = """
    SELECT o.seq, o.op, o.row_id, o.id, o.base, o.new, o.created_at, o.attempts, o.theirs, o.theirs_since,
           other.seq IS NULL
      FROM crm_assets.outbox o
      LEFT JOIN LATERAL (
           SELECT e.seq FROM crm_assets.outbox e
            WHERE e.connection = o.connection AND e.object = o.object AND e.row_id = o.row_id AND e.seq <> o.seq
              AND e.state IN ('pending', 'sending', 'unknown', 'conflict') LIMIT 1) other ON true
     WHERE o.connection = %(connection)s AND o.object = %(object)s
       AND o.state = 'pending' AND o.next_try_at <= clock_timestamp() AND o.guard_id IS NULL
       -- In this order, which the planner must not change: most of a hot record's writes have an earlier one.
       AND CASE
           WHEN other.seq IS NOT NULL AND (
               (SELECT e.seq FROM crm_assets.outbox e
                 WHERE e.connection = o.connection AND e.object = o.object AND e.row_id = o.row_id
                   AND (e.place, e.seq) < (o.place, o.seq)
                   AND e.state IN ('pending', 'sending', 'unknown')
                   -- What itself is held by a conflict of its fields holds nothing else.
                   AND NOT (o.op = 'update' AND e.op = 'update' AND e.state = 'pending'
                            AND NOT e.new ?| crm_assets.keys(o.new)
                            AND (SELECT c.seq FROM crm_assets.outbox c
                                  WHERE c.connection = o.connection AND c.object = o.object AND c.row_id = o.row_id
                                    AND c.state = 'conflict' AND c.op = 'update' AND c.new ?| crm_assets.keys(e.new)
                                  ORDER BY c.seq LIMIT 1) IS NOT NULL)
                 ORDER BY e.seq LIMIT 1) IS NOT NULL
               OR (SELECT e.seq FROM crm_assets.outbox e
                    WHERE e.connection = o.connection AND e.object = o.object AND e.row_id = o.row_id
                      AND e.state IN ('conflict', 'sending', 'unknown') AND e.seq <> o.seq
                      AND (e.state <> 'conflict' OR o.op <> 'update' OR e.op <> 'update'
                           OR e.new ?| crm_assets.keys(o.new))
                    ORDER BY e.seq LIMIT 1) IS NOT NULL)
           THEN false
           WHEN o.id IS NOT NULL
           THEN (SELECT f.id FROM crm_assets.floor f
                  WHERE f.connection = o.connection AND f.object = o.object AND f.id = o.id LIMIT 1) IS NULL
           ELSE (SELECT found.id
                   FROM (SELECT m.id FROM {mirror} m WHERE m.row_id = o.row_id
                         UNION ALL
                         SELECT c.id FROM crm_assets.outbox c
                          WHERE c.connection = o.connection AND c.object = o.object AND c.row_id = o.row_id
                            AND c.id IS NOT NULL) known
                  CROSS JOIN LATERAL (
                        SELECT f.id FROM crm_assets.floor f
                         WHERE f.connection = o.connection AND f.object = o.object AND f.id = known.id LIMIT 1) found
                  LIMIT 1) IS NULL
           END
     -- As the index of pending rows has them, and no other: the one of seq would lead through all that is settled.
     ORDER BY o.place, o.seq LIMIT %(limit)s
       FOR UPDATE OF o SKIP LOCKED
"""

_OPS = {op.value: op for op in Op}
_NONE: Mapping[str, Any] = MappingProxyType({})

_TAKEN = """state = 'sending', claimed_by = %(worker)s, sent_by = %(process)s,
       lease_until = clock_timestamp() + %(lease)s, sent_at = clock_timestamp(), claimed_at = clock_timestamp(),
       echo_until = clock_timestamp() + %(echo)s, attempts = attempts + 1, waiting_for = NULL, waits_on = NULL"""

_PART = """
    WITH held AS MATERIALIZED (
        SELECT c.row_id, array_agg(DISTINCT k) AS fields
          FROM crm_assets.outbox c CROSS JOIN LATERAL jsonb_object_keys(c.new) k
         WHERE c.connection = %(connection)s AND c.object = %(object)s AND c.state = 'conflict' AND c.op = 'update'
         GROUP BY c.row_id),
    mixed AS MATERIALIZED (
        SELECT o.seq, held.fields FROM held JOIN crm_assets.outbox o ON o.row_id = held.row_id
         WHERE o.connection = %(connection)s AND o.object = %(object)s AND o.state = 'pending' AND o.op = 'update'
           AND o.new ?| held.fields AND o.new - held.fields <> '{}'
         ORDER BY o.seq FOR UPDATE OF o SKIP LOCKED),
    free AS (
        INSERT INTO crm_assets.outbox
               (connection, object, op, row_id, id, base, new, theirs, theirs_version, theirs_since, attempts,
                next_try_at, actor, txid, created_at, split_of)
        SELECT o.connection, o.object, o.op, o.row_id, o.id, o.base - m.fields, o.new - m.fields, o.theirs,
               o.theirs_version, o.theirs_since, o.attempts, o.next_try_at, o.actor, o.txid, o.created_at, o.place
          FROM mixed m JOIN crm_assets.outbox o ON o.seq = m.seq)
    UPDATE crm_assets.outbox o
       SET base = o.base - crm_assets.keys(o.base - m.fields), new = o.new - crm_assets.keys(o.new - m.fields)
      FROM mixed m WHERE o.seq = m.seq
"""


def waiting(db: Database, connection: str, tables: Sequence[str]) -> set[str]:
    """Those of the objects that have writes to claim, or of unknown outcome."""
    with db.transaction() as conn:
        found = conn.execute(
            """SELECT t FROM unnest(%s::text[]) t
                WHERE EXISTS (SELECT FROM crm_assets.unarrived
                               WHERE connection = %s AND object = t AND state IN ('pending', 'unknown'))""",
            (list(tables), connection),
        )
        return {row[0] for row in found}


def claim(
    db: Database,
    connection: str,
    obj: Object,
    worker: Worker,
    limit: int,
    lease: timedelta,
    settle_time: timedelta = timedelta(0),
) -> list[Write]:
    """Claim the earliest unsettled write of up to ``limit`` records, in one short transaction.

    Only a record's earliest one: plain SKIP LOCKED would hand two writes of a record to two workers. Earliest is by
    ``place``: what was split off has a later ``seq`` than writes that were made after it. Later pending updates of
    the record are folded in (they become ``superseded``). A record whose last write has not been re-read
    yet waits, so that its next write gets the observed value as its base. Writes that wait for another record's id
    are marked with ``waiting_for`` and stay. ``settle_time`` is how long after its call a record may still appear.
    """
    with db.transaction() as conn:
        # Look-ups only, whatever the tables looked like when the statements were planned.
        conn.execute("SET LOCAL enable_seqscan = off")
        # A conflict blocks only its fields: the others of a later write go on without them.
        conn.execute(_PART, {"connection": connection, "object": obj.table})
        found, lone = _earliest(conn, connection, obj, limit)
        if any(w.op is Op.DELETE for w in found) and guards.hold_outgoing(conn, connection, obj.table, obj.rules.guard):
            found, lone = _earliest(conn, connection, obj, limit)
        if not found:
            return []
        writes = _fold(conn, connection, obj, found, lone)
        writes = _identify(conn, connection, obj, writes)
        writes = references.resolve(conn, connection, obj, writes)
        writes = siblings.apart(conn, connection, obj, _in_turn(conn, connection, obj, writes))
        _take(conn, worker, writes, lease, settle_time, {id(write) for write in found})
    return writes


def _take(
    conn: Conn,
    worker: Worker,
    writes: Sequence[Write],
    lease: timedelta,
    settle_time: timedelta,
    stored: Collection[int] = (),
) -> None:
    """Mark them as being sent. ``stored`` are those (by ``id``) that are as the outbox has them: most, and only the
    others are written back."""
    step = {"worker": worker.name, "process": audit.process(), "lease": lease, "echo": lease + settle_time}
    same = [w.seq for w in writes if id(w) in stored]
    if same:
        conn.execute(
            f"UPDATE crm_assets.outbox o SET {_TAKEN} WHERE o.seq = ANY (%(seqs)s::bigint[])",
            step | {"seqs": array(same)},
        )
    changed = [w for w in writes if id(w) not in stored]
    if changed:
        conn.execute(
            f"""UPDATE crm_assets.outbox o SET {_TAKEN}, op = w.op, id = w.id, base = w.base, new = w.new
                  FROM unnest(%(seqs)s::bigint[], %(ops)s::text[], %(ids)s::text[], %(bases)s::jsonb[],
                              %(news)s::jsonb[]) AS w (seq, op, id, base, new)
                 WHERE o.seq = w.seq""",
            step
            | {
                "seqs": [w.seq for w in changed],
                "ops": [w.op for w in changed],
                "ids": [w.id for w in changed],
                "bases": [None if w.op is Op.CREATE else Jsonb(dict(w.base)) for w in changed],
                "news": [None if w.op is Op.DELETE else Jsonb(dict(w.new)) for w in changed],
            },
        )


def claim_within(
    db: Database,
    connection: str,
    obj: Object,
    worker: Worker,
    parents: Sequence[UUID],
    lease: timedelta,
    settle_time: timedelta = timedelta(0),
) -> dict[UUID, list[Write]]:
    """Claim the creates of records within rows that are being created, by the row: they go out in one call with it.

    Those that wait for another record's id stay, and follow when they can.
    """
    assert obj.parent_column is not None
    with db.transaction() as conn:
        conn.execute("SET LOCAL enable_seqscan = off")
        rows = conn.execute(
            """SELECT o.seq, o.op, o.row_id, o.id, '{}'::jsonb, o.new, o.created_at, o.attempts
                 FROM crm_assets.outbox o
                WHERE o.connection = %s AND o.object = %s AND o.state = 'pending' AND o.op = 'create'
                  AND o.guard_id IS NULL AND o.new ->> %s = ANY (%s)
                ORDER BY o.seq FOR UPDATE SKIP LOCKED""",
            (connection, obj.table, obj.parent_column, [str(row_id) for row_id in parents]),
        ).fetchall()
        writes = _fold(conn, connection, obj, [Write(r[0], Op(r[1]), *r[2:]) for r in rows])
        writes = references.resolve(conn, connection, obj, writes, known=obj.parent_column)
        _take(conn, worker, writes, lease, settle_time)
    found: dict[UUID, list[Write]] = defaultdict(list)
    for write in writes:
        found[UUID(write.new[obj.parent_column])].append(write)
    return found


def _earliest(conn: Conn, connection: str, obj: Object, limit: int) -> tuple[list[Write], set[int]]:
    """The writes that may be claimed, locked; and the ``seq`` of those whose record has nothing else unsettled."""
    rows = conn.execute(
        statement(_EARLIEST, mirror=sql.Identifier(connection, obj.table)),
        {"connection": connection, "object": obj.table, "limit": limit},
    ).fetchall()
    writes = [
        Write(
            seq, _OPS[op], row_id, record_id, base or _NONE, new or _NONE, at, attempts, theirs or _NONE, since or _NONE
        )
        for seq, op, row_id, record_id, base, new, at, attempts, theirs, since, _ in rows
    ]
    return writes, {row[0] for row in rows if row[-1]}


def _fold(conn: Conn, connection: str, obj: Object, writes: Sequence[Write], lone: Collection[int] = ()) -> list[Write]:
    """Absorb the pending updates that follow directly; the first base of a field is the one that counts. ``lone`` are
    writes (by ``seq``) that no other follows."""
    followed = [w.row_id for w in writes if w.seq not in lone]
    if not followed:
        return list(writes)
    later: dict[UUID, list[tuple[int, bool, dict[str, Any], dict[str, Any]]]] = defaultdict(list)
    blocked: dict[UUID, set[str]] = defaultdict(set)
    for row_id, seq, state, update, free, base, new in conn.execute(
        # One that somebody else holds is seen all the same: what comes after it must not be sent before it.
        """WITH free AS (
               SELECT seq FROM crm_assets.outbox
                WHERE connection = %(c)s AND object = %(o)s AND row_id = ANY (%(ids)s) AND state = 'pending'
                ORDER BY seq FOR UPDATE SKIP LOCKED)
           SELECT row_id, seq, state, op = 'update', seq IN (SELECT seq FROM free),
                  coalesce(base, '{}'), coalesce(new, '{}') FROM crm_assets.outbox
            WHERE connection = %(c)s AND object = %(o)s AND row_id = ANY (%(ids)s) AND state IN ('pending', 'conflict')
            ORDER BY place, seq""",
        {"c": connection, "o": obj.table, "ids": followed},
    ):
        if state == "conflict":
            blocked[row_id] |= set(new)
        else:
            later[row_id].append((seq, update and free, base, new))
    result: list[Write] = []
    absorbed: list[tuple[int, int]] = []
    for write in writes:
        if write.seq in lone:
            result.append(write)
            continue
        waiting = later[write.row_id]
        place = next(n for n, (seq, *_) in enumerate(waiting) if seq == write.seq)
        for seq, foldable, base, new in waiting[place + 1 :]:
            held = blocked[write.row_id] & set(new)
            if held and held == set(new):
                continue
            if held or not foldable or write.op is Op.DELETE:
                break
            absorbed.append((write.seq, seq))
            write = replace(write, base={**base, **write.base}, new={**write.new, **new})
        result.append(write)
    if absorbed:
        grown = {seq for seq, _ in absorbed}
        # At once, not only with the claim: a write that goes on waiting must keep what it has taken in.
        conn.cursor().executemany(
            "UPDATE crm_assets.outbox SET base = %s, new = %s WHERE seq = %s",
            [
                (Jsonb(dict(w.base)) if w.op is not Op.CREATE else None, Jsonb(dict(w.new)), w.seq)
                for w in result
                if w.seq in grown
            ],
        )
        conn.cursor().executemany(
            """UPDATE crm_assets.outbox
                  SET state = 'superseded', absorbed_by = %s, reason = 'sent with an earlier write'
                WHERE seq = %s""",
            absorbed,
        )
    return result


def _identify(conn: Conn, connection: str, obj: Object, writes: Sequence[Write]) -> list[Write]:
    """Give each write its record's id. An update of a row whose create failed becomes a create of the whole row."""
    missing = [w.row_id for w in writes if w.id is None and w.op is not Op.CREATE]
    if not missing:
        return list(writes)
    ids: dict[UUID, str] = dict(
        conn.execute(
            statement(
                """SELECT row_id, id FROM crm_assets.outbox
                    WHERE connection = %(c)s AND object = %(o)s AND row_id = ANY (%(ids)s) AND op = 'create'
                      AND state = 'confirmed' AND id IS NOT NULL
                   UNION SELECT row_id, id FROM {m} WHERE row_id = ANY (%(ids)s) AND id IS NOT NULL
                   UNION SELECT row_id, id FROM crm_assets.tombstone
                    WHERE connection = %(c)s AND object = %(o)s AND row_id = ANY (%(ids)s) AND id IS NOT NULL""",
                m=sql.Identifier(connection, obj.table),
            ),
            {"c": connection, "o": obj.table, "ids": missing},
        ).fetchall()
    )
    rows: dict[UUID, dict[str, Any]] = dict(
        conn.execute(
            statement(
                "SELECT row_id, jsonb_strip_nulls(to_jsonb(m)) FROM {m} m WHERE row_id = ANY (%s)",
                m=sql.Identifier(connection, obj.table),
            ),
            (missing,),
        ).fetchall()
    )
    createable = {f.column for f in obj.fields if f.createable}
    result = []
    for write in writes:
        if write.id is not None or write.op is Op.CREATE:
            result.append(write)
        elif write.row_id in ids:
            result.append(replace(write, id=ids[write.row_id]))
        elif write.op is Op.UPDATE and write.row_id in rows:
            whole = {c: v for c, v in rows[write.row_id].items() if c in createable}
            result.append(replace(write, op=Op.CREATE, base={}, new=whole))
        else:
            conn.execute(
                "UPDATE crm_assets.outbox SET state = 'discarded', reason = 'the record never reached the CRM' "
                "WHERE seq = %s",
                (write.seq,),
            )
    return result


def _in_turn(conn: Conn, connection: str, obj: Object, writes: Sequence[Write]) -> list[Write]:
    """Of records that are named by their values: a create waits for the earlier delete of the same name, and the
    other way round. The rows are two, the record in the CRM is one."""
    if not obj.natural_key:
        return list(writes)
    first = obj.natural_key[0]
    earlier: dict[tuple[str, Any], list[tuple[int, Mapping[str, Any]]]] = defaultdict(list)
    for seq, op, values in conn.execute(
        """SELECT seq, op, coalesce(base, '{}') || coalesce(new, '{}') FROM crm_assets.unarrived
            WHERE connection = %s AND object = %s AND state IN ('pending', 'sending', 'unknown')
              AND op IN ('create', 'delete') AND seq < %s ORDER BY seq""",
        (connection, obj.table, max((w.seq for w in writes), default=0)),
    ):
        earlier[op, values.get(first)].append((seq, values))
    result = []
    for write in writes:
        values = {**write.base, **write.new}
        opposite = Op.DELETE if write.op is Op.CREATE else Op.CREATE
        before = earlier[opposite, values.get(first)]
        if not any(seq < write.seq and _same_name(obj.natural_key[1:], values, other) for seq, other in before):
            result.append(write)
    return result


def _same_name(key: Sequence[str], one: Mapping[str, Any], other: Mapping[str, Any]) -> bool:
    """Whether two records may be the same one; a value that is left to the CRM may become any."""
    return all(None in (one.get(k), other.get(k)) or one[k] == other[k] for k in key)


def expire(db: Database, connection: str) -> int:
    """Claims of dead workers become ``unknown``: their calls may or may not have left."""
    with db.transaction() as conn:
        return conn.execute(
            """UPDATE crm_assets.outbox o
                  SET state = 'unknown', reason = 'the process that was sending it ended',
                      next_try_at = clock_timestamp(),
                      sent_at = clock_timestamp()
                WHERE o.connection = %s AND o.state = 'sending'
                  AND (o.lease_until < clock_timestamp() OR NOT EXISTS (
                        SELECT FROM pg_locks l
                         WHERE l.locktype = 'advisory' AND l.classid = %s AND l.objsubid = 2 AND l.granted
                           AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
                           AND l.objid = split_part(o.claimed_by, ':', 3)::bigint::oid))""",
            (connection, LOCK_CLASS),
        ).rowcount


def unknowns(db: Database, connection: str, obj: Object, limit: int) -> list[Write]:
    """Writes without a reply that are due for a look at the CRM."""
    with db.transaction() as conn:
        rows = conn.execute(
            """UPDATE crm_assets.outbox SET next_try_at = clock_timestamp() + interval '2 seconds'
                WHERE seq IN (SELECT seq FROM crm_assets.outbox
                               WHERE connection = %s AND object = %s AND state = 'unknown'
                                 AND next_try_at <= clock_timestamp() AND waiting_for IS NULL
                               ORDER BY seq LIMIT %s FOR UPDATE SKIP LOCKED)
            RETURNING seq, op, row_id, id, coalesce(base, '{}'), coalesce(new, '{}'), created_at, attempts,
                      coalesce(theirs, '{}'), coalesce(theirs_since, '{}'), sent_at, claimed_at""",
            (connection, obj.table, limit),
        ).fetchall()
    return sorted((Write(r[0], Op(r[1]), *r[2:]) for r in rows), key=lambda w: w.seq)


@dataclass(frozen=True, slots=True)
class ParentCreate:
    """The create of the row that a record lives within: its state, the id it has by now, and when it was taken."""

    state: str
    id: str | None
    claimed_at: datetime | None


def parent_create(db: Database, connection: str, obj: Object, write: Write) -> ParentCreate | None:
    """The create of the parent that a write names by its row_id; None if it names an id, or a row never created."""
    value = write.new.get(obj.parent_column or "")
    row_id = as_row_id(value) if isinstance(value, str) else None
    if row_id is None:
        return None
    with db.transaction() as conn:
        row = conn.execute(
            """SELECT o.state, o.id, o.claimed_at
                 FROM crm_assets.outbox o JOIN crm_assets.object d USING (connection, object)
                WHERE o.connection = %s AND d.name = ANY (%s) AND o.row_id = %s AND o.op = 'create'
                ORDER BY o.seq DESC LIMIT 1""",
            (connection, list(obj.by_name[obj.parent or ""].reference_to), row_id),
        ).fetchone()
    return ParentCreate(*row) if row else None


def release_within(db: Database, connection: str, parents: Sequence[UUID]) -> None:
    """The creates of these rows never arrived, nor did those that went out in their calls: the unknown ones that still
    name their parent by its row_id."""
    if not parents:
        return
    with db.transaction() as conn:
        conn.execute(
            """UPDATE crm_assets.outbox SET state = 'pending', reason = 'the record it lives within never arrived',
                      next_try_at = clock_timestamp()
                WHERE seq IN (SELECT o.seq FROM crm_assets.outbox o
                               WHERE o.connection = %s AND o.state = 'unknown' AND o.op = 'create'
                                 AND EXISTS (SELECT FROM jsonb_each_text(o.new) f WHERE f.value = ANY (%s))
                               ORDER BY o.seq FOR NO KEY UPDATE)""",
            (connection, [str(row_id) for row_id in parents]),
        )


def hand_over(db: Database, write: Write, reason: str) -> None:
    """What became of an unknown create is for a person to say; nobody looks for it any more."""
    with db.transaction() as conn:
        conn.execute(
            """UPDATE crm_assets.outbox SET waiting_for = 'a person', reason = %s
                WHERE seq = %s AND state = 'unknown'""",
            (reason, write.seq),
        )


def created(db: Database, connection: str, table: str, ids: Collection[str]) -> set[str]:
    """Of these ids, those that creates of ours have been confirmed with."""
    with db.transaction() as conn:
        rows = conn.execute(
            """SELECT id FROM crm_assets.outbox
                WHERE connection = %s AND object = %s AND op = 'create' AND state = 'confirmed' AND id = ANY (%s)""",
            (connection, table, list(ids)),
        ).fetchall()
    return {row[0] for row in rows}


def version_behind(db: Database, connection: str, obj: Object, write: Write, blind: timedelta) -> str | None:
    """The version (ISO 8601) that an update was made on, if the CRM was seen to have it still longer than ``blind``
    after it; None if it has not, or if the CRM's record has been seen to be another since."""
    with db.transaction() as conn:
        row = conn.execute(
            statement(
                """SELECT m._version FROM {m} m JOIN crm_assets.outbox o ON o.row_id = m.row_id
                    WHERE o.seq = %s AND o.theirs IS NULL AND m._deleted_at IS NULL
                      AND m._observed_at > m._version + %s""",
                m=sql.Identifier(connection, obj.table),
            ),
            (write.seq, blind),
        ).fetchone()
    return row[0].isoformat() if row else None


def paused(db: Database, connection: str) -> bool:
    """Whether a person stopped write-back (``crm_assets.pause``)."""
    with db.transaction() as conn:
        row = conn.execute(
            "SELECT paused FROM crm_assets.connection_state WHERE connection = %s", (connection,)
        ).fetchone()
    return bool(row and row[0])
