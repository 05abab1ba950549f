"""Writes without a reply: look at the CRM and decide what became of them.

theirs = ours → confirmed, at once. theirs = base → nothing happened; but until the vendor's longest server time has
passed it still may, so only then is the write sent again. Anything else is a conflict.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from crm_assets.connectors.base import Connector, Repeating
from crm_assets.core.conflict import Unknown, changed_since, judge, judge_unknown, rule, rule_delete
from crm_assets.core.model import Object, Op
from crm_assets.core.values import record_from_json
from crm_assets.store import outbox
from crm_assets.store.database import Database
from crm_assets.store.settle import Settlement, settle
from crm_assets.store.write import Write
from crm_assets.writeback import theirs
from crm_assets.writeback.report import WritebackReport
from crm_assets.writeback.send import disagree, since, why_gone
from crm_assets.writeback.waves import Crew


def resolve_unknown(db: Database, connector: Connector, obj: Object, report: WritebackReport, crew: Crew) -> None:
    """Settle the unknown writes of one object that can be settled now; the others stay unknown."""
    writes = outbox.unknowns(db, connector.config.name, obj, connector.max_fetch)
    if not writes:
        return
    creates = [w for w in writes if w.op is Op.CREATE]
    settlements = _creates(db, connector, obj, creates) if obj.external_id else _searched(db, connector, obj, creates)
    settlements += _known(db, connector, obj, [w for w in writes if w.op is not Op.CREATE], report, crew)
    again = [s.write.row_id for s in settlements if s.state == "pending" and s.write.op is Op.CREATE]
    # First, so that it finds what it carried ready to go with it again.
    outbox.release_within(db, connector.config.name, again)
    settle(db, connector.config.name, obj, [s for s in settlements if s.state != "unknown"])
    report.add(obj.table, confirmed=sum(s.state == "confirmed" for s in settlements))


def _creates(db: Database, connector: Connector, obj: Object, writes: Sequence[Write]) -> list[Settlement]:
    """Found by the external id → confirmed, deleted since or not; absent after the longest time → sent again."""
    if not writes:
        return []
    # Asked for the time before the CRM: a record that appears in between must not count as absent.
    over = {w.seq: _over(db, connector, w) for w in writes}
    found = theirs.by_row_id(db, connector, obj, [str(w.row_id) for w in writes])
    result = []
    for write in writes:
        record = found.get(str(write.row_id))
        if record is not None:
            result.append(Settlement(write, "confirmed", id=record.id, reason="found by its external id"))
        elif over[write.seq]:
            result.append(Settlement(write, "pending", reason="the create never arrived"))
    return result


def _searched(db: Database, connector: Connector, obj: Object, writes: Sequence[Write]) -> list[Settlement]:
    """Creates without an external id. Those that a natural key, or the key of their call, makes one record are sent
    again; any other is sent at most once: looked for when nothing can be under way any more, and confirmed by the one
    record it can have made."""
    result = []
    for write in writes:
        parent = outbox.parent_create(db, connector.config.name, obj, write)
        if parent is not None and parent.id is None:
            if parent.state not in ("sending", "unknown"):
                result.append(Settlement(write, "pending", reason="the record it lives within never arrived"))
            continue
        if parent is not None:
            # It went out in one call with the parent, which arrived as a whole.
            write = replace(write, new={**write.new, str(obj.parent_column): parent.id})
        elif not _over(db, connector, write, connector.settle_time):
            continue
        if obj.natural_key:
            result.append(Settlement(write, "pending", reason="sent again: its natural key makes it one record"))
            continue
        if isinstance(connector, Repeating) and connector.repeatable(obj):
            result.append(Settlement(write, "pending", reason="sent again: its key makes it one record"))
            continue
        page = connector.find(obj, record_from_json(obj, write.new), (write.claimed_at or write.created_at) - _SKEW)
        found = {record.id for record in theirs.records(obj, page)}
        # What earlier ones of this very round were confirmed with is taken, too.
        taken = outbox.created(db, connector.config.name, obj.table, found) | {s.id for s in result}
        candidates = sorted(found - taken)
        if parent is not None and parent.claimed_at and write.claimed_at and parent.claimed_at > write.claimed_at:
            result.append(Settlement(write, "pending", reason="the call that carried it never arrived"))
        elif len(candidates) == 1 or (candidates and parent is not None):
            # Alike, and made by one call: it does not matter which is which.
            result.append(Settlement(write, "confirmed", id=candidates[0], reason="found by its values"))
        else:
            outbox.hand_over(
                db,
                write,
                "no reply came, and the CRM has "
                + (f"{len(candidates)} records like it: " + ", ".join(candidates[:5]) if found else "no record like it")
                + "; say crm_assets.confirm(seq, id), retry(seq) or discard(seq)",
            )
    return result


def _known(
    db: Database, connector: Connector, obj: Object, writes: Sequence[Write], report: WritebackReport, crew: Crew
) -> list[Settlement]:
    if not writes:
        return []
    over = {w.seq: _over(db, connector, w) for w in writes}
    ids = [w.id for w in writes if w.id is not None]
    found = theirs.by_id(db, connector, obj, ids, theirs.concerned(writes), crew)
    result = []
    for write in writes:
        if write.id in found.unreadable:
            continue
        record = found.records.get(write.id or "")
        if record is None or record.deleted:
            state = "confirmed" if write.op is Op.DELETE else "rejected"
            result.append(Settlement(write, state, reason=why_gone(db, connector.config.name, obj, write)))
            continue
        base = record_from_json(obj, write.base)
        if write.op is Op.DELETE:
            changed = changed_since(obj, base, record.values, connector.same)
            if over[write.seq]:
                ruling = rule_delete(obj.rules, changed, write.created_at, record.version)
                if disagree(db, connector, obj, write, ruling, record, report) is not None:
                    result.append(Settlement(write, "pending", reason="the delete never arrived"))
            continue
        verdict = judge(obj, base, record_from_json(obj, write.new), record.values, connector.same)
        match judge_unknown(verdict):
            case Unknown.DONE:
                result.append(Settlement(write, "confirmed", id=write.id, reason="the CRM has these values"))
            case Unknown.NOT_DONE if over[write.seq]:
                result.append(Settlement(write, "pending", reason="the update never arrived"))
            case Unknown.CONFLICT if over[write.seq]:
                ruling = rule(obj.rules, verdict.conflict, write.created_at, since(connector, obj, write, record))
                left = disagree(db, connector, obj, write, ruling, record, report)
                if left is not None:
                    result.append(Settlement(left, "pending", reason="the update never arrived"))
            case _:
                pass
    return result


def _over(db: Database, connector: Connector, write: Write, more: timedelta = timedelta(0)) -> bool:
    """Whether a call that may have left when it was last sent cannot be under way any more, ``more`` included."""
    return write.sent_at is None or db.now() - write.sent_at >= connector.config.longest_call + more


_SKEW = timedelta(minutes=1)
"""The CRM dates a record by its own clock."""
