"""Send claimed writes: compare with the CRM, one call per operation, settle each outcome."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from crm_assets.connectors.base import Conditional, Connector
from crm_assets.core.conflict import Ruling, changed_since, judge, rule, rule_delete
from crm_assets.core.errors import CrmAssetsError, ObjectUnavailable, RejectedError, RetriableError
from crm_assets.core.model import Mutation, Object, Op, Outcome, Policy, Result
from crm_assets.core.values import from_json, record_from_json, record_to_json
from crm_assets.store import conflicts, merges, outbox
from crm_assets.store.database import Database
from crm_assets.store.settle import Settlement, settle
from crm_assets.store.write import Write
from crm_assets.writeback import theirs, waves
from crm_assets.writeback.carried import Carried
from crm_assets.writeback.report import WritebackReport
from crm_assets.writeback.unsendable import unsendable
from crm_assets.writeback.waves import Crew

_LONGEST_PAUSE = timedelta(minutes=5)
_UNREADABLE = "the CRM's record is set aside (see crm_assets.drift); it cannot be compared before it is written"


NOTHING = Carried()


def send(
    db: Database,
    connector: Connector,
    obj: Object,
    writes: Sequence[Write],
    report: WritebackReport,
    crew: Crew,
    carried: Carried = NOTHING,
) -> None:
    """Bring claimed writes to an end: each is settled when this returns, and with it what it carries. Calls of one
    operation go out side by side.

    RetriableError and ObjectUnavailable pass on after the writes went back to ``pending``: the call itself could not
    be made, so nothing was done.
    """
    connection = connector.config.name
    left = list(writes)
    try:
        if obj.external_id is not None:
            left = [_with_row_id(obj, write) for write in left]
        refused = [Settlement(write, "rejected", reason=reason) for write, reason in unsendable(obj, left)]
        carried.settle(db, connection, refused, {}, report)
        _settle(db, connection, obj, refused, report)
        left = _without(left, [settled.write for settled in refused])
        if _sent_unchanged(db, connector, obj, left, report, crew):
            return
        looked = _looked_at(obj)
        ready: list[Write] = []
        compared: list[Write] = []
        for write in left:
            (compared if _needs_look(obj, write, looked) else ready).append(write)
        ready += _compare(db, connector, obj, compared, report, crew)
        left = ready
        for op in (Op.CREATE, Op.UPDATE, Op.DELETE):
            groups = waves.parts([w for w in ready if w.op is op], connector.max_write)
            faults: list[CrmAssetsError] = []
            done: list[Write] = []
            for group, sent in crew.side_by_side(
                lambda some: _send(db, connector, obj, some, report, crew, carried=carried), groups
            ):
                if isinstance(sent, CrmAssetsError):
                    faults.append(sent)
                else:
                    done += group
            left = _without(left, done)
            if faults:
                raise faults[0]
    except CrmAssetsError as error:
        # Raised only where certainly nothing was sent: these writes wait, they are not lost.
        delay = error.retry_after if isinstance(error, RetriableError) else None
        permanent = isinstance(error, RejectedError)
        waiting = [
            Settlement(w, "pending", reason=str(error), retry_after=delay or _pause(w.attempts + 4 * permanent))
            for w in left
        ]
        carried.settle(db, connection, waiting, {}, report)
        settle(db, connection, obj, waiting)
        raise


def _without(writes: Sequence[Write], done: Sequence[Write]) -> list[Write]:
    if not done:
        return list(writes)
    seqs = {write.seq for write in done}
    return [write for write in writes if write.seq not in seqs]


def _sent_unchanged(
    db: Database, connector: Connector, obj: Object, writes: Sequence[Write], report: WritebackReport, crew: Crew
) -> bool:
    """Send a lone update under the condition that the CRM's record is still the one it was made on. False: it has to be
    compared. Nothing was done to the CRM's record then."""
    if len(writes) != 1 or not isinstance(connector, Conditional) or obj.version_text or obj.version_field is None:
        return False
    (write,) = writes
    if write.op is not Op.UPDATE or write.theirs or not _needs_look(obj, write, _looked_at(obj)):
        return False
    version = outbox.version_behind(db, connector.config.name, obj, write, connector.condition_blind)
    if version is None:
        return False
    return _send(db, connector, obj, writes, report, crew, if_version=version)


def _send(
    db: Database,
    connector: Connector,
    obj: Object,
    group: Sequence[Write],
    report: WritebackReport,
    crew: Crew,
    if_version: str | None = None,
    carried: Carried = NOTHING,
) -> bool:
    """One call. A batch that is refused as a whole is halved until the write that the CRM cannot take stands alone.
    False, with nothing settled: the record of a lone write is not of the version ``if_version`` any more."""
    mutations = [_mutation(obj, w, if_version, carried) for w in group]
    try:
        with crew.calling:
            outcomes = connector.write(obj, mutations)
    except ObjectUnavailable:
        raise
    except RejectedError as error:
        if len(group) == 1:
            refused = [Settlement(group[0], "rejected", reason=str(error))]
            carried.settle(db, connector.config.name, refused, {}, report)
            _settle(db, connector.config.name, obj, refused, report)
            return True
        middle = len(group) // 2
        for half in (group[:middle], group[middle:]):
            _send(db, connector, obj, half, report, crew, carried=carried)
        return True
    if if_version is not None and [outcome.result for outcome in outcomes] == [Result.CHANGED]:
        return False
    report.add(obj.table, sent=len(group))
    by_seq = {outcome.seq: outcome for outcome in outcomes}
    connection = connector.config.name
    settlements = [_settlement(db, connection, obj, w, by_seq.get(w.seq)) for w in group]
    carried.settle(db, connection, settlements, by_seq, report)
    _settle(db, connection, obj, settlements, report)
    return True


def _with_row_id(obj: Object, write: Write) -> Write:
    """The row_id is the record's external id; the column that shows it is ours to fill."""
    column = obj.external_id_column
    if write.op is Op.CREATE and column is not None:
        return replace(write, new={**write.new, column: str(write.row_id)})
    return write


def _looked_at(obj: Object) -> frozenset[str]:
    """The columns in which the CRM's value decides if a write may be sent: where the product does not always win."""
    return frozenset(c for c in obj.by_column if obj.rules.policy(c) is not Policy.PRODUCT_WINS)


def _needs_look(obj: Object, write: Write, looked: frozenset[str]) -> bool:
    """Whether the CRM's record has to be compared before this write is sent."""
    if write.op is Op.CREATE:
        return False
    if write.op is Op.DELETE:
        return obj.rules.conflict is not Policy.PRODUCT_WINS
    return not looked.isdisjoint(write.new)


def _compare(
    db: Database, connector: Connector, obj: Object, writes: Sequence[Write], report: WritebackReport, crew: Crew
) -> list[Write]:
    """One batched read of what the CRM has; conflicts are ruled on, what is there already is confirmed unsent."""
    if not writes:
        return []
    connection = connector.config.name
    ids = [w.id for w in writes if w.id is not None]
    found = theirs.by_id(db, connector, obj, ids, theirs.concerned(writes), crew)
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
                else Settlement(write, "rejected", reason=why_gone(db, connection, obj, write))
            )
            _settle(db, connection, obj, [gone], report)
            continue
        base = record_from_json(obj, write.base)
        if write.op is Op.DELETE:
            changed = changed_since(obj, base, record.values, connector.same)
            ruling = rule_delete(obj.rules, changed, write.created_at, record.version)
            if disagree(db, connector, obj, write, ruling, record, report) is not None:
                ready.append(write)
            continue
        verdict = judge(obj, base, record_from_json(obj, write.new), record.values, connector.same)
        known = since(connector, obj, write, record) if verdict.conflict else {}
        ruling = rule(obj.rules, verdict.conflict, write.created_at, known)
        rest = disagree(db, connector, obj, write, ruling, record, report)
        if rest is None:
            continue
        if verdict.send or ruling.product:
            ready.append(rest)
        else:
            done = Settlement(rest, "confirmed", id=write.id, reason="the CRM had these values already")
            _settle(db, connection, obj, [done], report)
    return ready


def since(connector: Connector, obj: Object, write: Write, record: theirs.Record) -> dict[str, str | None]:
    """Per column of the write, the version that first had the CRM's present value, as far as it is known."""
    result = {}
    for column in write.new:
        fld = obj.by_column.get(column)
        noted = write.theirs_since.get(column)
        known = (
            fld is not None
            and noted is not None
            and connector.same(fld, from_json(fld, write.theirs.get(column)), record.values.get(column))
        )
        result[column] = noted if known else record.version
    return result


def disagree(
    db: Database,
    connector: Connector,
    obj: Object,
    write: Write,
    ruling: Ruling,
    record: theirs.Record,
    report: WritebackReport,
) -> Write | None:
    """Keep what is in conflict as the ruling says. Returns what is left to send, None if nothing is."""
    columns = ruling.stopped | ruling.product
    if not columns:
        return write
    shown = record_to_json({c: record.values.get(c) for c in columns})
    if ruling.hold:
        report.add(obj.table, conflicts=1)
    return conflicts.settle(db, connector.config.name, obj, write, ruling, shown, record.version)


def why_gone(db: Database, connection: str, obj: Object, write: Write) -> str:
    """Why a write of a record that is no more is refused."""
    kept = merges.survivor(db, connection, obj.table, write.id)
    return f"the record was merged into {kept} in the CRM" if kept else "the record is deleted in the CRM"


def _mutation(obj: Object, write: Write, if_version: str | None, carried: Carried) -> Mutation:
    values = record_from_json(obj, write.new)
    return Mutation(write.seq, write.op, write.row_id, write.id, values, if_version, carried.within(write))


def _settlement(db: Database, connection: str, obj: Object, write: Write, outcome: Outcome | None) -> Settlement:
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
            return Settlement(write, "rejected", reason=why_gone(db, connection, obj, write))
        case Result.RETRY:
            return Settlement(write, "pending", reason=outcome.reason, retry_after=_pause(write.attempts))
        case Result.CHANGED:
            # It is compared anew with what the CRM has now.
            return Settlement(write, "pending", reason=outcome.reason or "the record changed in the CRM meanwhile")
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
    report.add(obj.table, **Counter(_COUNTED[settlement.state] for settlement in settlements))
