"""Fields that both sides changed: both values are kept, and the write is split by who won."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from psycopg.types.json import Jsonb

from crm_assets.core.conflict import Ruling
from crm_assets.core.model import Object, Op
from crm_assets.store.database import Conn, Database
from crm_assets.store.write import Write


def settle(
    db: Database,
    connection: str,
    obj: Object,
    write: Write,
    ruling: Ruling,
    theirs: Mapping[str, Any],
    theirs_version: str | None,
) -> Write | None:
    """Keep both values of the conflicting fields and let the write go on without those that it lost.

    ``theirs`` are the CRM's values (column → JSON). A write with mixed outcomes is split: the row itself goes on
    (returned, still claimed), new rows hold what waits for a person and what the CRM won. Without a rest the row
    itself becomes the one or the other, and None is returned. A delete is never split: who wins, wins the record.
    """
    with db.transaction() as conn:
        row = conn.execute(
            "SELECT state FROM crm_assets.outbox WHERE seq = %s FOR NO KEY UPDATE", (write.seq,)
        ).fetchone()
        if row is None or row[0] not in ("sending", "unknown"):
            return None
        whole = write.op is not Op.UPDATE
        rest = set() if whole and ruling.stopped else set(write.new) - ruling.stopped
        goes_on = bool(rest) or (whole and not ruling.stopped)
        parts = [
            (state, columns, reason.format(", ".join(sorted(columns))))
            for state, columns, reason in (
                ("conflict", ruling.hold, "the CRM changed {} as well"),
                ("discarded", ruling.crm, "the CRM changed {} as well, and wins"),
            )
            if columns
        ]
        for number, (state, columns, reason) in enumerate(parts):
            if goes_on or number < len(parts) - 1:
                seq = _split(conn, write, columns, state, reason, theirs, theirs_version)
            else:
                seq = write.seq
                _become(conn, write, columns, state, reason, theirs, theirs_version)
            winner = "crm" if state == "discarded" else None
            _record(conn, connection, obj, write, seq, columns, theirs, theirs_version, winner)
            if state == "discarded":
                conn.execute("SELECT crm_assets.reply(%s)", (seq,))
                conn.execute(
                    "SELECT crm_assets.ask_reread(%s, %s, %s, 'the CRM won')", (connection, obj.table, write.id)
                )
        _record(conn, connection, obj, write, write.seq, ruling.product, theirs, theirs_version, "product")
        if not goes_on:
            return None
        left = replace(write, base=_only(write.base, rest), new=_only(write.new, rest)) if not whole else write
        if parts:
            conn.execute(
                "UPDATE crm_assets.outbox SET base = %s, new = %s WHERE seq = %s",
                (Jsonb(dict(left.base)), Jsonb(dict(left.new)), write.seq),
            )
    return left


def _only(values: Mapping[str, Any], columns: Iterable[str]) -> dict[str, Any]:
    wanted = set(columns)
    return {c: v for c, v in values.items() if c in wanted}


def _split(
    conn: Conn,
    write: Write,
    columns: frozenset[str],
    state: str,
    reason: str,
    theirs: Mapping[str, Any],
    theirs_version: str | None,
) -> int:
    made = conn.execute(
        """INSERT INTO crm_assets.outbox
               (connection, object, op, row_id, id, base, new, theirs, theirs_version, state, reason, attempts,
                actor, txid, created_at, sent_by, split_of, settled_at)
           SELECT connection, object, op, row_id, id, %(base)s, %(new)s, %(theirs)s, %(version)s, %(state)s, %(reason)s,
                  attempts, actor, txid, created_at, sent_by, place,
                  CASE WHEN %(state)s = 'discarded' THEN clock_timestamp() END
             FROM crm_assets.outbox WHERE seq = %(seq)s RETURNING seq""",
        {
            "base": Jsonb(_only(write.base, columns)),
            "new": Jsonb(_only(write.new, columns)),
            "theirs": Jsonb(_only(theirs, columns)),
            "version": theirs_version,
            "state": state,
            "reason": reason,
            "seq": write.seq,
        },
    ).fetchone()
    assert made is not None
    return int(made[0])


def _become(
    conn: Conn,
    write: Write,
    columns: frozenset[str],
    state: str,
    reason: str,
    theirs: Mapping[str, Any],
    theirs_version: str | None,
) -> None:
    whole = write.op is not Op.UPDATE
    conn.execute(
        """UPDATE crm_assets.outbox SET state = %s, theirs = %s, theirs_version = %s, reason = %s, base = %s, new = %s
            WHERE seq = %s""",
        (
            state,
            Jsonb(_only(theirs, columns)),
            theirs_version,
            reason,
            Jsonb(dict(write.base) if whole else _only(write.base, columns)),
            None if write.op is Op.DELETE else Jsonb(_only(write.new, columns)),
            write.seq,
        ),
    )


def _record(
    conn: Conn,
    connection: str,
    obj: Object,
    write: Write,
    seq: int,
    columns: frozenset[str],
    theirs: Mapping[str, Any],
    theirs_version: str | None,
    winner: str | None,
) -> None:
    """One row per field; one that a policy has decided is resolved from the start."""
    for column in sorted(columns):
        policy = obj.rules.conflict if write.op is Op.DELETE else obj.rules.policy(column)
        conn.execute(
            """INSERT INTO crm_assets.conflict
                   (connection, object, row_id, id, seq, field, base, ours, theirs, theirs_version, policy,
                    state, resolution, resolved_at, resolved_by)
               VALUES (%(connection)s, %(object)s, %(row_id)s, %(id)s, %(seq)s, %(field)s, %(base)s, %(ours)s,
                       %(theirs)s, %(version)s, %(policy)s,
                       CASE WHEN %(winner)s::text IS NULL THEN 'open' ELSE 'resolved' END, %(winner)s,
                       CASE WHEN %(winner)s::text IS NOT NULL THEN clock_timestamp() END,
                       CASE WHEN %(winner)s::text IS NOT NULL THEN 'policy' END)
               ON CONFLICT DO NOTHING""",
            {
                "connection": connection,
                "object": obj.table,
                "row_id": write.row_id,
                "id": write.id,
                "seq": seq,
                "field": column,
                "base": Jsonb(write.base.get(column)),
                "ours": Jsonb(write.new.get(column)) if write.op is not Op.DELETE else None,
                "theirs": Jsonb(theirs.get(column)),
                "version": theirs_version,
                "policy": policy.value,
                "winner": winner,
            },
        )
