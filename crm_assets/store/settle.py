"""Settle: what became of a write, committed in one transaction that never waits for the mirror.

The outcome, the reply's id and a stage row are one commit; ``apply`` does the mirror's part. After a confirmed or a
rejected write the record gets a floor (older reads no longer count for it) and is read again, because the CRM's own
automation may have changed it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from psycopg import sql
from psycopg.types.json import Jsonb

from crm_assets.core.model import Object, Op
from crm_assets.store import references
from crm_assets.store.database import Conn, Database, statement
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


def _settle(conn: Conn, connection: str, obj: Object, settlements: Sequence[Settlement]) -> int:
    ordered = sorted(settlements, key=lambda s: s.write.seq)
    # In order of seq, as every other place that takes several of these locks.
    ours = {
        row[0]
        for row in conn.execute(
            "SELECT seq, state FROM crm_assets.outbox WHERE seq = ANY (%s) ORDER BY seq FOR NO KEY UPDATE",
            ([s.write.seq for s in ordered],),
        )
        if row[1] in ("sending", "unknown")
    }
    mine = [s for s in ordered if s.write.seq in ours]
    conn.execute(
        # By seq alone: with the state in the condition, indexes of states look better than they are.
        """UPDATE crm_assets.outbox o
              SET state = s.state, id = coalesce(s.id, o.id), reason = s.reason,
                  next_try_at = clock_timestamp() + s.retry_after,
                  -- From here the vendor's longest server time counts for a call without a reply.
                  sent_at = CASE WHEN s.state = 'unknown' THEN clock_timestamp() ELSE o.sent_at END
             FROM unnest(%s::bigint[], %s::text[], %s::text[], %s::text[], %s::interval[])
                  AS s (seq, state, id, reason, retry_after)
            WHERE o.seq = s.seq""",
        (
            [s.write.seq for s in mine],
            [s.state for s in mine],
            [s.id for s in mine],
            [s.reason for s in mine],
            [s.retry_after for s in mine],
        ),
    )
    _tell_mirror(conn, connection, obj, [s for s in mine if _concerns_mirror(s)])
    references.wake(conn, connection, [s.write.row_id for s in mine if s.write.op is Op.CREATE])
    _read_again(conn, connection, obj, [s for s in mine if s.state in ("confirmed", "rejected")])
    if followers := Followers(conn, connection, obj):
        followers.ask([change for s in mine if s.state == "confirmed" and (change := _change(s))])
    return len(mine)


def _change(s: Settlement) -> Changed | None:
    """What the CRM has changed for us; the mirror shows it already, so that no later read of the record tells of it."""
    record_id = s.id or s.write.id
    return None if record_id is None else Changed(record_id, s.write.op.value, dict(s.write.base), dict(s.write.new))


def _concerns_mirror(s: Settlement) -> bool:
    return s.state == "rejected" or (s.state == "confirmed" and s.write.op in (Op.CREATE, Op.DELETE))


def _tell_mirror(conn: Conn, connection: str, obj: Object, settlements: Sequence[Settlement]) -> None:
    if not settlements:
        return
    conn.execute(
        statement(
            """INSERT INTO {t} (_source, _observed_at, _outbox, _deleted, id)
               SELECT 'reply', clock_timestamp(), s.seq, false, s.id
                 FROM unnest(%s::bigint[], %s::text[]) AS s (seq, id)""",
            t=sql.Identifier(stage_schema(connection), obj.table),
        ),
        ([s.write.seq for s in settlements], [s.id or s.write.id for s in settlements]),
    )
    conn.execute("SELECT pg_notify('crm_assets_stage', %s)", (connection,))


def _read_again(conn: Conn, connection: str, obj: Object, settlements: Sequence[Settlement]) -> None:
    again = sorted(
        (record_id, sorted(s.write.new))
        for s in settlements
        if (record_id := s.id or s.write.id) is not None and s.write.op is not Op.DELETE
    )
    if again:
        # As crm_assets.raise_floor does for one record, in order of ids.
        conn.execute(
            """INSERT INTO crm_assets.floor AS f (connection, object, id, floor_at, fields)
               SELECT %s, %s, a.id, clock_timestamp(),
                      coalesce(array_agg(DISTINCT k) FILTER (WHERE k IS NOT NULL), '{}')
                 FROM unnest(%s::text[], %s::jsonb[]) AS a (id, fields)
                 LEFT JOIN LATERAL jsonb_array_elements_text(a.fields) k ON true
                GROUP BY a.id ORDER BY a.id
               ON CONFLICT (connection, object, id) DO UPDATE
                   SET floor_at = excluded.floor_at,
                       fields = ARRAY(SELECT DISTINCT unnest(f.fields || excluded.fields))""",
            (connection, obj.table, [record_id for record_id, _ in again], [Jsonb(fields) for _, fields in again]),
        )
        conn.execute(
            """INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, reason)
               SELECT %s, 'reread:' || gen_random_uuid(), %s, id, 'reread', 'written' FROM unnest(%s::text[]) AS id""",
            (connection, obj.table, [record_id for record_id, _ in again]),
        )
        conn.execute("SELECT pg_notify('crm_assets_inbox', %s)", (connection,))
