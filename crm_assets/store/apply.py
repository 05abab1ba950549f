"""Apply: the only writer of mirror tables on behalf of the CRM.

Everything the CRM said waits in the object's stage table. A pass takes it in batches: statement 1 locks the target
rows that are free, statement 2, with a fresh snapshot, updates only those. Merging in one statement would lose a
product write that commits while the statement waits for its row. What cannot be done at once stays in the stage for
the next pass; apply itself never waits for a row that the product holds.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Any

from psycopg import sql
from psycopg.errors import LockNotAvailable

from crm_assets.core.model import Guard, Object
from crm_assets.store import apply_single, audit, catalog, guards, merges, setaside
from crm_assets.store.apply_sql import EMPTY, HASHED, PLANS, TEMPORARY, UNSETTLED, ApplySql
from crm_assets.store.database import Conn, Database, as_sync_role, statement
from crm_assets.store.followers import Followers

BATCH = 5_000
_ANALYZE_FROM = 500
_REDESCRIBED = 3
"""How often within a pass the describe may change before the rest is left to the next one."""
_RETURNS_OLD = 180000
# Below deadlock_timeout (1 s): these small transactions give way before Postgres has to choose a victim.
_LOCK_TIMEOUT = "300ms"


@dataclass(frozen=True, slots=True)
class Applied:
    """What one pass did, in records. ``waiting`` stay in the stage for a later pass; ``busy``: another pass runs."""

    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    undeleted: int = 0
    reread: int = 0
    waiting: int = 0
    busy: bool = False

    @property
    def changed(self) -> int:
        return self.inserted + self.updated + self.deleted + self.undeleted


@dataclass
class _Pass:
    done: Applied = field(default_factory=Applied)
    weighed: int = 0
    """Deletions that the guard has let pass and that were not met yet."""

    def add(self, **counts: int) -> None:
        self.done = replace(self.done, **{k: getattr(self.done, k) + n for k, n in counts.items()})


class _Redescribed(Exception):
    """The object was described anew; ``done`` is what was applied by then."""

    done = Applied()


class _Busy(Exception):
    """Another apply of the object is under way; it, or the next pass, takes what waits."""


def apply(db: Database, connection: str, obj: Object, *, batch: int = BATCH) -> Applied:
    """Merge what waits in the stage of one object into its mirror. Any number of processes may call it.

    It goes by the stored describe: when that is not ``obj`` any more, the stage may hold columns that ``obj`` lacks.
    """
    done = Applied()
    for _ in range(_REDESCRIBED):
        try:
            return _add(done, _apply(db, connection, obj, batch))
        except _Redescribed as changed:
            done = _add(done, changed.done)
            obj = replace(catalog.load(db, connection)[obj.table], rules=obj.rules)
    return replace(done, busy=True)


def _add(first: Applied, second: Applied) -> Applied:
    counts = ("inserted", "updated", "unchanged", "deleted", "undeleted", "reread")
    return replace(second, **{name: getattr(first, name) + getattr(second, name) for name in counts})


def _apply(db: Database, connection: str, obj: Object, batch: int) -> Applied:
    statements = _statements(connection, obj, db.server_version >= _RETURNS_OLD)
    work = _Pass()
    try:
        replies, unborn = _before(db, statements)
        if replies:
            _replies(db, statements, work)
        if unborn:
            _links(db, statements)
        after = ""
        while True:
            last, deletes, lifts = _batch(db, statements, after, batch, work)
            for record_id in _guarded(db, statements, obj.rules.guard, deletes, work):
                work.add(deleted=_one(db, statements, apply_single.delete, record_id))
            for record_id in lifts:
                work.add(undeleted=_one(db, statements, apply_single.lift, record_id))
            if last is None:
                break
            after = last
        merged, landed, waiting = _after(db, statements)
        if merged:
            _merges(db, statements, work)
        if landed:
            _close_loads(db, statements)
        if merged or landed:
            *_, waiting = _after(db, statements)
    except _Busy:
        return replace(work.done, busy=True)
    except _Redescribed as changed:
        changed.done = work.done
        raise
    return replace(work.done, waiting=waiting)


def _before(db: Database, q: ApplySql) -> tuple[bool, bool]:
    """Whether replies wait in the stage, and whether there are rows without an id that a record may belong to."""
    with db.transaction() as conn:
        found = conn.execute(q.before).fetchone()
    assert found is not None
    return found[0], found[1]


def _after(db: Database, q: ApplySql) -> tuple[bool, bool, int]:
    """Whether there are merges to follow, whether there are loads to close, and how many records wait in the stage."""
    with db.transaction() as conn:
        found = conn.execute(q.after).fetchone()
    assert found is not None
    return found[0], found[1], found[2]


@lru_cache(maxsize=256)
def _statements(connection: str, obj: Object, returns_old: bool) -> ApplySql:
    """Generated once per describe; the statements themselves are built when first used."""
    return ApplySql(connection, obj, returns_old)


@contextmanager
def _transaction(db: Database, statements: ApplySql) -> Iterator[Conn]:
    """A transaction as the sync role that holds the object's apply lock; _Busy if another one has it."""
    with db.transaction() as conn:
        as_sync_role(conn)
        row = conn.execute(
            "SELECT pg_try_advisory_xact_lock(hashtext('crm_assets.apply'), hashtext(%s))",
            (f"{statements.connection}.{statements.obj.table}",),
        ).fetchone()
        if row is None or not row[0]:
            raise _Busy
        if not catalog.is_current(conn, statements.connection, statements.obj):
            raise _Redescribed
        followers = Followers(conn, statements.connection, statements.obj)
        yield conn
        if followers:
            followers.ask_since()


def _landed(conn: Conn, statements: ApplySql) -> list[int]:
    """Loads whose rows count: complete ones. Rows of a load that is still landing are not there for apply."""
    return [
        row[0]
        for row in conn.execute(
            "SELECT load_id FROM crm_assets.load WHERE connection = %s AND object = %s AND state = 'landed'",
            (statements.connection, statements.obj.table),
        )
    ]


def _batch(db: Database, q: ApplySql, after: str, size: int, work: _Pass) -> tuple[str | None, list[str], list[str]]:
    """One batch. Returns its last id (None: it was the last one), and the ids to delete and to lift on their own.

    What nothing was picked for is not asked: most batches of a relay are a few updates of rows that are there.
    """
    with _transaction(db, q) as conn:
        scope: dict[str, Any] = {"loads": _landed(conn, q), "lo": after, "size": size, "process": audit.process()}
        bounds = conn.execute(q.bounds, scope).fetchone()
        if bounds is None or bounds[1] is None:
            return None, [], []
        scope |= {"lo": bounds[0], "hi": bounds[1]}
        conn.execute(f"{TEMPORARY}; {PLANS}")
        found = conn.execute(q.pick, scope).fetchone()
        assert found is not None
        picked, repeated, rows, unknown, floors = found
        if picked >= _ANALYZE_FROM:
            # Without statistics a temporary table is planned as if it were tiny. So is a stage that was counted while
            # it was empty.
            conn.execute("ANALYZE crm_assets_pick")
            conn.execute("SELECT crm_assets.count_stage(%s, %s, %s)", (q.connection, q.obj.table, picked))
        if repeated:
            conn.execute(q.ties, scope)
        if rows:
            conn.execute(q.lock, scope)
            held = conn.execute(q.hold, scope).rowcount
            conn.execute(q.decide, scope)
            if held:
                conn.execute(q.lock_outbox, scope)
                conn.execute(q.theirs, scope)
            conn.execute(q.write, scope)
        if unknown:
            _unknown(conn, q, scope)
        if floors:
            conn.execute(q.lower_floor, scope)
        counts = conn.execute(q.counts, scope).fetchone()
        assert counts is not None
        inserted, updated, unchanged, reread, deletes, lifts, stored, asked, grown = counts
        if asked:
            conn.execute(q.reread, scope)
        conn.execute(q.consume, scope)
        if grown:
            conn.execute(EMPTY)
        if stored:
            setaside.clear(conn, q.connection, q.obj.table, stored)
        work.add(inserted=inserted, updated=updated, unchanged=unchanged, reread=reread)
        return bounds[1] if picked >= size else None, deletes or [], lifts or []


def _unknown(conn: Conn, q: ApplySql, scope: dict[str, Any]) -> None:
    """What a batch does with ids that are no rows of the mirror."""
    conn.execute(HASHED)
    conn.execute(q.insert, scope | {"first": audit.first_loads(conn, q.connection, q.obj.table)})
    conn.execute(PLANS)
    buried = conn.execute(q.buried, scope).rowcount
    conn.execute(q.bury, scope)
    if q.meet is not None:
        conn.execute(q.meet, scope)
    if buried:
        conn.execute(q.lock_deletes, scope)
        conn.execute(q.theirs_of_deletes, scope)


def _guarded(db: Database, q: ApplySql, guard: Guard, ids: list[str], work: _Pass) -> list[str]:
    """The deletions that may be done; too many at once wait for a person."""
    if not ids:
        return ids
    with _transaction(db, q) as conn:
        allowed, work.weighed = guards.hold_incoming(
            conn, q.connection, q.obj.table, guard, ids, _landed(conn, q), work.weighed
        )
    return allowed


def _one(db: Database, q: ApplySql, action: apply_single.Action, record_id: str) -> int:
    """One record in a transaction of its own; what is locked by the product waits for the next pass."""
    try:
        with _transaction(db, q) as conn:
            conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
            conn.execute(TEMPORARY)
            conn.execute(q.pick, {"loads": _landed(conn, q), "lo": record_id, "hi": record_id})
            return action(conn, q, record_id)
    except LockNotAvailable:
        return 0


def _replies(db: Database, q: ApplySql, work: _Pass) -> None:
    """The mirror's part of settled outbox rows, in their order."""
    with db.transaction() as conn:
        waiting = conn.execute(
            statement("SELECT _seq, _outbox FROM {s} WHERE _source = 'reply' ORDER BY _outbox, _seq", s=q.stage)
        ).fetchall()
    for stage_seq, outbox_seq in waiting:
        try:
            with _transaction(db, q) as conn:
                conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                work.add(updated=apply_single.reply(conn, q, stage_seq, outbox_seq))
        except LockNotAvailable:
            continue


def _links(db: Database, q: ApplySql) -> None:
    """Records that carry the row_id, or the natural key, of a row of ours without an id: what our creates made."""
    column = q.obj.external_id_column
    alike: sql.Composable
    if column is not None:
        alike = statement("s.{external} = u.row_id::text", external=sql.Identifier(column))
    elif q.obj.natural_key:
        # A record that we are about to delete is not what a later create of the same name will make.
        alike = q.alike("u", "s") + statement(
            f""" AND NOT s._deleted AND NOT EXISTS (
                SELECT FROM crm_assets.outbox d
                 WHERE d.connection = {{connection}} AND d.object = {{object}} AND d.op = 'delete' AND d.id = s.id
                   AND d.state IN {UNSETTLED})""",
            connection=sql.Literal(q.connection),
            object=sql.Literal(q.obj.table),
        )
    else:
        return
    keys = sql.SQL(", ").join([sql.Identifier("row_id"), *(sql.Identifier(c) for c in q.obj.natural_key)])
    with db.transaction() as conn:
        loads = _landed(conn, q)
        pairs = conn.execute(
            statement(
                """WITH unborn AS (
                       SELECT {keys} FROM {mirror} m WHERE m.id IS NULL
                       UNION ALL
                       SELECT {keys} FROM (
                           SELECT (jsonb_populate_record(NULL::{mirror}, t."values")).* FROM crm_assets.tombstone t
                            WHERE t.connection = {connection} AND t.object = {object} AND t.id IS NULL) t)
                   SELECT DISTINCT s.id, u.row_id FROM unborn u JOIN {stage} s ON {alike}
                    WHERE s._source <> 'reply' AND (s._load IS NULL OR s._load = ANY (%(loads)s))
                    ORDER BY s.id""",
                keys=keys,
                mirror=q.mirror,
                stage=q.stage,
                connection=sql.Literal(q.connection),
                object=sql.Literal(q.obj.table),
                alike=alike,
            ),
            {"loads": loads},
        ).fetchall()
    for record_id, row_id in pairs:
        try:
            with _transaction(db, q) as conn:
                conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                apply_single.set_id(conn, q, row_id, record_id)
        except LockNotAvailable:
            continue


def _merges(db: Database, q: ApplySql, work: _Pass) -> None:
    """What the CRM has merged; after the batches, so that a survivor that came with its loser is there."""
    with db.transaction() as conn:
        any_waits, rows = merges.waiting(conn, q)
    for record_id in rows:
        work.add(deleted=_one(db, q, apply_single.merged, record_id))
    if any_waits:
        with _transaction(db, q) as conn:
            merges.follow(conn, q)


def _close_loads(db: Database, q: ApplySql) -> None:
    """Move the cursor: each row of the landed loads has been applied, set aside or left in the stage by now.

    Compare-and-set: a load that began from another cursor than today's proves nothing about the span between.
    """
    with _transaction(db, q) as conn:
        closing = conn.execute(
            """SELECT load_id, kind, high, from_cursor, place FROM crm_assets.load
                WHERE connection = %s AND object = %s AND state = 'landed' ORDER BY load_id FOR UPDATE""",
            (q.connection, q.obj.table),
        ).fetchall()
        if not closing:
            return
        ids = [load_id for load_id, *_ in closing]
        conn.execute(
            "UPDATE crm_assets.load SET state = 'applied', applied_at = clock_timestamp() WHERE load_id = ANY (%s)",
            (ids,),
        )
        # What a locked row left behind waits on its own from now on.
        conn.execute(statement("UPDATE {stage} SET _load = NULL WHERE _load = ANY (%s)", stage=q.stage), (ids,))
        for _, kind, high, from_cursor, place in closing:
            if kind not in ("full", "incremental") or high is None or place is not None:
                continue
            if kind == "full" and from_cursor is None:
                audit.summarize(conn, q.connection, q.obj.table, high)
                Followers(conn, q.connection, q.obj).ask_whole()
            conn.execute(
                """UPDATE crm_assets.cursor SET cursor = %(high)s::text, moved_at = clock_timestamp()
                    WHERE connection = %(connection)s AND object = %(object)s
                      AND (%(kind)s = 'full' OR cursor IS NOT DISTINCT FROM %(from_cursor)s)
                      AND (cursor IS NULL OR cursor::timestamptz <= (%(high)s::text)::timestamptz)""",
                {
                    "high": high,
                    "kind": kind,
                    "from_cursor": from_cursor,
                    "connection": q.connection,
                    "object": q.obj.table,
                },
            )
