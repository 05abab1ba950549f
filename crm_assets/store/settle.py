"""Settle: what became of a write, committed in one transaction that never waits for the mirror.

The outcome, the reply's id and a stage row are one commit; ``apply`` does the mirror's part. After a confirmed or a
rejected write the record gets a floor (older reads no longer count for it) and is read again, because the CRM's own
automation may have changed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from uuid import UUID

from psycopg import sql

from crm_assets.core.model import Object, Op
from crm_assets.store import references
from crm_assets.store.database import Conn, Database, array, statement
from crm_assets.store.ddl import stage_schema
from crm_assets.store.followers import Changed, Followers
from crm_assets.store.write import Write


@dataclass(frozen=True, slots=True)
class Settlement:
    """The new state of one claimed write. ``retry_after`` only for pending and unknown ones."""

    write: Write
    state: str
    id: str | None = None
    reason: str | None = None
    retry_after: timedelta = timedelta(0)


def settle(db: Database, connection: str, obj: Object, settlements: Sequence[Settlement]) -> int:
    """Commit outcomes. Rows that somebody else has settled meanwhile are left alone. Returns how many were ours."""
    if not settlements:
        return 0
    with db.transaction() as conn:
        return _settle(conn, connection, obj, settlements)


# By seq alone: with the state in the condition, indexes of states look better than they are.
_OUTCOMES = """
    WITH outcome AS (
        SELECT w.seq, w.id, o.state, o.reason, o.retry_after
          FROM unnest(%(seqs)s::bigint[], %(ids)s::text[], %(kinds)s::int[]) AS w (seq, id, kind)
         CROSS JOIN LATERAL (
            SELECT (%(states)s::text[])[k] AS state, (%(reasons)s::text[])[k] AS reason,
                   (%(pauses)s::interval[])[k] AS retry_after FROM coalesce(w.kind, 1) k) o),
    settled AS (
        UPDATE crm_assets.outbox o
           SET state = s.state, id = coalesce(s.id, o.id), reason = s.reason,
               next_try_at = clock_timestamp() + s.retry_after,
               -- From here the vendor's longest server time counts for a call without a reply.
               sent_at = CASE WHEN s.state = 'unknown' THEN clock_timestamp() ELSE o.sent_at END,
               settled_at = CASE WHEN s.state IN ('confirmed', 'rejected') THEN clock_timestamp() END,
               waiting_for = NULL, waits_on = NULL, claimed_by = NULL, lease_until = NULL
          FROM outcome s WHERE o.seq = s.seq
        RETURNING o.seq, o.id, o.op, o.new, o.state),
    told AS (
        -- The mirror's part, for apply.
        INSERT INTO {stage} (_source, _observed_at, _outbox, _deleted, id)
        SELECT 'reply', clock_timestamp(), seq, false, id FROM settled
         WHERE state = 'rejected' OR (state = 'confirmed' AND op IN ('create', 'delete')) ORDER BY seq
        RETURNING _outbox),
    again AS MATERIALIZED (
        SELECT id, op, new FROM settled
         WHERE state IN ('confirmed', 'rejected') AND op <> 'delete' AND id IS NOT NULL),
    raised AS (
        -- As crm_assets.raise_floor does for one record, in order of ids.
        INSERT INTO crm_assets.floor AS f (connection, object, id, floor_at, fields)
        SELECT %(connection)s, %(object)s, id, clock_timestamp(),
               ARRAY(SELECT jsonb_object_keys(new)) || CASE WHEN op = 'create' THEN %(filled)s::text[] END
          FROM again ORDER BY id
        ON CONFLICT (connection, object, id) DO UPDATE
            SET floor_at = excluded.floor_at, fields = ARRAY(SELECT DISTINCT unnest(f.fields || excluded.fields))),
    asked AS (
        INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, reason)
        SELECT %(connection)s, 'reread:' || crm_assets.uuidv7(), %(object)s, id, 'reread', 'written' FROM again)
    SELECT EXISTS (SELECT FROM told), EXISTS (SELECT FROM again)
"""


def _settle(conn: Conn, connection: str, obj: Object, settlements: Sequence[Settlement]) -> int:
    ordered = sorted(settlements, key=lambda s: s.write.seq)
    # In order of seq, as every other place that takes several of these locks.
    ours = {
        row[0]
        for row in conn.execute(
            "SELECT seq, state FROM crm_assets.outbox WHERE seq = ANY (%s::bigint[]) ORDER BY seq FOR NO KEY UPDATE",
            (array(s.write.seq for s in ordered),),
        )
        if row[1] in ("sending", "unknown")
    }
    mine = [s for s in ordered if s.write.seq in ours]
    told = asked = False
    for some in _apart(mine):
        replied, again = _outcomes(conn, connection, obj, some)
        told, asked = told or replied, asked or again
    if told:
        conn.execute("SELECT pg_notify('crm_assets_stage', %s)", (connection,))
    references.wake(conn, connection, [s.write.row_id for s in mine if s.write.op is Op.CREATE])
    if asked:
        conn.execute("SELECT pg_notify('crm_assets_inbox', %s)", (connection,))
    if followers := Followers(conn, connection, obj):
        followers.ask([change for s in mine if s.state == "confirmed" and (change := _change(s))])
    return len(mine)


def _apart(settlements: Sequence[Settlement]) -> list[list[Settlement]]:
    """Those of one record in different parts: one statement can raise its floor only once."""
    parts: list[dict[str | UUID, Settlement]] = []
    for settlement in settlements:
        record = settlement.id or settlement.write.id or settlement.write.row_id
        part = next((one for one in parts if record not in one), None)
        if part is None:
            parts.append(part := {})
        part[record] = settlement
    return [list(part.values()) for part in parts]


def _outcomes(conn: Conn, connection: str, obj: Object, settlements: Sequence[Settlement]) -> tuple[bool, bool]:
    """One statement for all. Whether the mirror was told of any, and whether any is to be read again."""
    kinds: dict[tuple[str, str | None, timedelta], int] = {}
    numbers = [kinds.setdefault((s.state, s.reason, s.retry_after), len(kinds) + 1) for s in settlements]
    ids = [None if s.id == s.write.id else s.id for s in settlements]
    filled = obj.external_id_column
    row = conn.execute(
        statement(_OUTCOMES, stage=sql.Identifier(stage_schema(connection), obj.table)),
        {
            "connection": connection,
            "object": obj.table,
            "seqs": array(s.write.seq for s in settlements),
            # What is the same for all, as mostly, is left out.
            "ids": ids if any(ids) else [],
            "kinds": array(numbers if len(kinds) > 1 else ()),
            "states": [state for state, _, _ in kinds],
            "reasons": [reason for _, reason, _ in kinds],
            "pauses": [pause for _, _, pause in kinds],
            "filled": [] if filled is None else [filled],
        },
    ).fetchone()
    assert row is not None
    return row


def _change(s: Settlement) -> Changed | None:
    """What the CRM has changed for us; the mirror shows it already, so that no later read of the record tells of it."""
    record_id = s.id or s.write.id
    return None if record_id is None else Changed(record_id, s.write.op.value, dict(s.write.base), dict(s.write.new))
