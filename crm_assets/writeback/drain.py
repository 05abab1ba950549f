"""The drain: everything in the outbox that can be sent now is sent now.

The relay calls it in milliseconds, Dagster in runs; both may do so at once, because claims are exclusive.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack

from crm_assets.connectors.base import Connector
from crm_assets.core.errors import QuotaExhausted, RejectedError, RetriableError
from crm_assets.core.model import Object
from crm_assets.store import outbox
from crm_assets.store.database import Database
from crm_assets.store.worker import Worker
from crm_assets.writeback.lanes import Lanes
from crm_assets.writeback.order import parents_first
from crm_assets.writeback.report import WritebackReport
from crm_assets.writeback.resolve import resolve_unknown
from crm_assets.writeback.waves import Crew


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
        crew = stack.enter_context(Crew())
        try:
            for obj in chosen:
                try:
                    resolve_unknown(db, connector, obj, report, crew)
                except QuotaExhausted:
                    raise
                except (RetriableError, RejectedError) as error:
                    report.stopped = str(error)
            left = limit
            for obj in chosen:
                lanes = Lanes(db, connector, objects.values(), obj, own, report, crew, left)
                lanes.run()
                left = lanes.left
        except QuotaExhausted as error:
            report.stopped = str(error)
    report.api_calls = connector.gate.calls - before
    return report
