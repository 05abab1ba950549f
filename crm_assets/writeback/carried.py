"""Creates that go out in the call of the record they live within: lines with their order.

They are claimed with it, and what becomes of it becomes of them: the vendor does all of the call or nothing of it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta

from crm_assets.connectors.base import Connector, Nesting
from crm_assets.core.model import Mutation, Object, Op, Outcome, Result, Within
from crm_assets.core.values import record_from_json
from crm_assets.store import outbox
from crm_assets.store.database import Database
from crm_assets.store.settle import Settlement, settle
from crm_assets.store.worker import Worker
from crm_assets.store.write import Write
from crm_assets.writeback.report import WritebackReport
from crm_assets.writeback.unsendable import unsendable


@dataclass(frozen=True, slots=True)
class Carried:
    """By the ``seq`` of a create, what it carries: the objects, each with its writes."""

    by_parent: Mapping[int, Sequence[tuple[Object, Sequence[Write]]]] = field(default_factory=dict)

    def within(self, write: Write) -> tuple[Within, ...]:
        """What a create carries, as the connector is given it."""
        return tuple(
            Within(obj, tuple(Mutation(w.seq, w.op, w.row_id, None, record_from_json(obj, w.new)) for w in writes))
            for obj, writes in self.by_parent.get(write.seq, ())
        )

    def settle(
        self,
        db: Database,
        connection: str,
        parents: Sequence[Settlement],
        outcomes: Mapping[int, Outcome],
        report: WritebackReport,
    ) -> None:
        """Settle what these creates carried, in the same way. What nobody knows of is looked for later.

        Before the creates themselves: one that is to be sent again must find what it carries ready to go with it.
        """
        for parent in parents:
            for obj, writes in self.by_parent.get(parent.write.seq, ()):
                settlements = [_settlement(parent, write, outcomes.get(write.seq)) for write in writes]
                settle(db, connection, obj, settlements)
                report.add(
                    obj.table,
                    sent=sum(s.state != "pending" for s in settlements),
                    confirmed=sum(s.state == "confirmed" for s in settlements),
                )


def _settlement(parent: Settlement, write: Write, outcome: Outcome | None) -> Settlement:
    match parent.state:
        case "confirmed" if outcome is not None and outcome.result is Result.CONFIRMED:
            return Settlement(write, "confirmed", id=outcome.id)
        case "confirmed" | "unknown":
            return Settlement(write, "unknown", reason="sent with the record it lives within; it is looked for")
        case _:
            # It follows the record it lives within: sent with it again, or refused with it.
            return Settlement(write, "pending", reason=parent.reason, retry_after=parent.retry_after)


def carry(
    db: Database,
    connector: Connector,
    objects: Collection[Object],
    obj: Object,
    worker: Worker,
    writes: Sequence[Write],
    lease: timedelta,
) -> Carried:
    """Claim what lives within the rows that these writes create. What the vendor would refuse for certain is refused
    now, and the rest goes without it."""
    creates = {write.row_id: write.seq for write in writes if write.op is Op.CREATE}
    if not creates or not isinstance(connector, Nesting):
        return Carried()
    connection, names = connector.config.name, connector.nested(obj)
    found: dict[int, list[tuple[Object, Sequence[Write]]]] = {}
    for inner in (one for one in objects if one.name in names):
        claimed = outbox.claim_within(db, connection, inner, worker, list(creates), lease, connector.settle_time)
        for row_id, some in claimed.items():
            reasons = {write.seq: reason for write, reason in unsendable(inner, some)}
            refused = [Settlement(w, "rejected", reason=reasons[w.seq]) for w in some if w.seq in reasons]
            settle(db, connection, inner, refused)
            found.setdefault(creates[row_id], []).append((inner, [w for w in some if w.seq not in reasons]))
    return Carried(found)
