"""The drain: everything in the outbox that can be sent now is sent now.

The relay calls it in milliseconds, Dagster in runs; both may do so at once, because claims are exclusive.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import ExitStack
from datetime import timedelta

from crm_assets.connectors.base import Connector
from crm_assets.core.errors import ObjectUnavailable, QuotaExhausted, RejectedError, RetriableError
from crm_assets.core.model import Object
from crm_assets.store import outbox
from crm_assets.store.database import Database
from crm_assets.store.worker import Worker
from crm_assets.writeback import waves
from crm_assets.writeback.carried import carry
from crm_assets.writeback.order import parents_first
from crm_assets.writeback.report import WritebackReport
from crm_assets.writeback.resolve import resolve_unknown
from crm_assets.writeback.send import send

_MARGIN = timedelta(seconds=15)
"""Of the lease over the call's deadline, for the settlement itself."""


def drain(
    db: Database,
    connector: Connector,
    objects: Mapping[str, Object],
    *,
    only: str | None = None,
    limit: int | None = None,
    worker: Worker | None = None,
) -> WritebackReport:
    """Send what is due, parents first, until nothing can be claimed (or ``limit`` writes were).

    ``only`` restricts it to one object by table name. One object that cannot be written does not stop the others.
    """
    report = WritebackReport()
    connection = connector.config.name
    before = connector.gate.calls
    with ExitStack() as stack:
        if outbox.paused(db, connection):
            report.stopped = f"connection {connection} is paused; crm_assets.resume('{connection}') ends that"
            return report
        own = worker or stack.enter_context(Worker(db.url))
        own.stay_alive()
        outbox.expire(db, connection)
        # One question for all: a relay asks twice a second, and hardly ever is there anything to do.
        waiting = outbox.waiting(db, connection, [table for table in objects if only in (None, table)])
        chosen = [obj for obj in parents_first(objects) if obj.table in waiting]
        try:
            for obj in chosen:
                try:
                    resolve_unknown(db, connector, obj, report)
                except QuotaExhausted:
                    raise
                except (RetriableError, RejectedError) as error:
                    report.stopped = str(error)
            left = limit
            for obj in chosen:
                left = _drain_object(db, connector, objects.values(), obj, own, report, left)
        except QuotaExhausted as error:
            report.stopped = str(error)
    report.api_calls = connector.gate.calls - before
    return report


def _drain_object(
    db: Database,
    connector: Connector,
    objects: Collection[Object],
    obj: Object,
    worker: Worker,
    report: WritebackReport,
    left: int | None,
) -> int | None:
    connection = connector.config.name
    while left is None or left > 0:
        size = waves.size(connector) if left is None else min(left, waves.size(connector))
        # A claim covers its conflict reads and the calls themselves; no longer than that may it look alive.
        lease = waves.lease(connector, size, _MARGIN)
        writes = outbox.claim(db, connection, obj, worker, size, lease, connector.settle_time)
        if not writes:
            break
        if left is not None:
            left -= len(writes)
        try:
            send(db, connector, obj, writes, report, carry(db, connector, objects, obj, worker, writes, lease))
        except QuotaExhausted:
            raise
        except (RetriableError, RejectedError, ObjectUnavailable) as error:
            report.stopped = str(error)
            break
    return left
