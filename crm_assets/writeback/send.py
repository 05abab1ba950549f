"""Send claimed writes: compare with the CRM, one call per operation, settle each outcome."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any

from crm_assets.connectors.base import Connector
from crm_assets.core.conflict import changed_since, judge
from crm_assets.core.errors import CrmAssetsError, RejectedError, RetriableError
from crm_assets.core.model import Mutation, Object, Op, Outcome, Result
from crm_assets.core.values import record_from_json, record_to_json
from crm_assets.store.database import Database
from crm_assets.store.outbox import Write
from crm_assets.store.settle import Settlement, hold, settle
from crm_assets.writeback import theirs
from crm_assets.writeback.report import WritebackReport

_LONGEST_PAUSE = timedelta(minutes=5)
_GONE = "the record is deleted in the CRM"
_UNREADABLE = "the CRM's record is set aside (see crm_assets.drift); it cannot be compared before it is written"


def send(db: Database, connector: Connector, obj: Object, writes: Sequence[Write], report: WritebackReport) -> None:
    """Bring claimed writes to an end: each is settled when this returns.

    RetriableError and RejectedError pass on after the writes went back to ``pending``: the call itself could not be
    made, so nothing was done.
    """
    connection = connector.config.name
    left = list(writes)
    try:
        for write, reason in _unsendable(obj, left):
            _settle(db, connection, obj, [Settlement(write, "rejected", reason=reason)], report)
            left.remove(write)
        if obj.external_id is not None:
            left = [_with_row_id(obj, write) for write in left]
        ready = [w for w in left if w.op is Op.CREATE]
        ready += _compare(db, connector, obj, [w for w in left if w.op is not Op.CREATE], report)
        left = ready
        for op in (Op.CREATE, Op.UPDATE, Op.DELETE):
            group = [w for w in ready if w.op is op]
            if not group:
                continue
            report.add(obj.table, sent=len(group))
            outcomes = connector.write(obj, [_mutation(obj, w) for w in group])
            by_seq = {outcome.seq: outcome for outcome in outcomes}
            _settle(db, connection, obj, [_settlement(connector, w, by_seq.get(w.seq)) for w in group], report)
            left = [w for w in left if w not in group]
    except CrmAssetsError as error:
        # Raised only where certainly nothing was sent: these writes wait, they are not lost.
        delay = error.retry_after if isinstance(error, RetriableError) else None
        permanent = isinstance(error, RejectedError)
        settle(
            db,
            connection,
            obj,
            [
                Settlement(w, "pending", reason=str(error), retry_after=delay or _pause(w.attempts + 4 * permanent))
                for w in left
            ],
        )
        raise


def _with_row_id(obj: Object, write: Write) -> Write:
    """The row_id is the record's external id; the column that shows it is ours to fill."""
    column = obj.external_id_column
    if write.op is Op.CREATE and column is not None:
        return replace(write, new={**write.new, column: str(write.row_id)})
    return write


def _unsendable(obj: Object, writes: Sequence[Write]) -> list[tuple[Write, str]]:
    """Writes whose values are none of the field's type; everything else is for the CRM to judge."""
    refused = []
    for write in writes:
        try:
            record_from_json(obj, write.new)
        except (ValueError, ArithmeticError) as error:
            refused.append((write, f"not sent: {error}"))
    return refused


def _compare(
    db: Database, connector: Connector, obj: Object, writes: Sequence[Write], report: WritebackReport
) -> list[Write]:
    """One batched read of what the CRM has; conflicts are held, what is there already is confirmed unsent."""
    if not writes:
        return []
    connection = connector.config.name
    found = theirs.by_id(db, connector, obj, [w.id for w in writes if w.id is not None])
    ready: list[Write] = []
    for write in writes:
        if write.id in found.unreadable:
            waits = Settlement(write, "pending", reason=_UNREADABLE, retry_after=_pause(write.attempts + 4))
            _settle(db, connection, obj, [waits], report)
            continue
        record = found.records.get(write.id or "")
        if record is None or record.deleted:
            gone = (
                Settlement(write, "confirmed", reason="it was deleted in the CRM already")
                if write.op is Op.DELETE
                else Settlement(write, "rejected", reason=_GONE)
            )
            _settle(db, connection, obj, [gone], report)
            continue
        base = record_from_json(obj, write.base)
        if write.op is Op.DELETE:
            changed = changed_since(obj, base, record.values, connector.same)
            if changed:
                shown = record_to_json({c: record.values[c] for c in changed})
                hold(db, connection, obj, write, changed, shown, record.version, frozenset())
                report.add(obj.table, conflicts=1)
            else:
                ready.append(write)
            continue
        verdict = judge(obj, base, record_from_json(obj, write.new), record.values, connector.same)
        if verdict.conflict:
            shown = record_to_json({c: record.values[c] for c in verdict.conflict})
            rest = hold(
                db,
                connection,
                obj,
                write,
                verdict.conflict,
                shown,
                record.version,
                verdict.send | verdict.done,
            )
            report.add(obj.table, conflicts=1)
            if rest is None:
                continue
            write = rest
        if verdict.send:
            ready.append(write)
        else:
            done = Settlement(write, "confirmed", id=write.id, reason="the CRM had these values already")
            _settle(db, connection, obj, [done], report)
    return ready


def _mutation(obj: Object, write: Write) -> Mutation:
    return Mutation(write.seq, write.op, write.row_id, write.id, record_from_json(obj, write.new))


def _settlement(connector: Connector, write: Write, outcome: Outcome | None) -> Settlement:
    if outcome is None:
        return Settlement(write, "unknown", reason="the reply did not mention this write")
    match outcome.result:
        case Result.CONFIRMED:
            return Settlement(write, "confirmed", id=outcome.id or write.id)
        case Result.REJECTED:
            return Settlement(write, "rejected", reason=outcome.reason)
        case Result.GONE if write.op is Op.DELETE:
            return Settlement(write, "confirmed", reason="it was deleted in the CRM already")
        case Result.GONE:
            return Settlement(write, "rejected", reason=outcome.reason or _GONE)
        case Result.RETRY:
            return Settlement(write, "pending", reason=outcome.reason, retry_after=_pause(write.attempts))
        case Result.UNKNOWN:
            return Settlement(write, "unknown", reason=outcome.reason)


def _pause(attempts: int) -> timedelta:
    """Exponential from half a second, with full jitter above half of it, so that many do not come back at once."""
    longest = min(timedelta(seconds=0.5 * 2.0 ** min(attempts, 12)), _LONGEST_PAUSE)
    return timedelta(seconds=longest.total_seconds() * random.uniform(0.5, 1.0))


_COUNTED = {"confirmed": "confirmed", "rejected": "rejected", "unknown": "unknown", "pending": "retried"}


def _settle(
    db: Database, connection: str, obj: Object, settlements: Sequence[Settlement], report: WritebackReport
) -> None:
    settle(db, connection, obj, settlements)
    for settlement in settlements:
        counts: dict[str, Any] = {_COUNTED[settlement.state]: 1}
        report.add(obj.table, **counts)
