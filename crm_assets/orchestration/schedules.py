"""Schedules: the reads that happen whatever else does, and the checks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.core.pace import read_every
from crm_assets.orchestration.jobs import Job
from crm_assets.orchestration.naming import mirror_key
from crm_assets.orchestration.opening import shared_database
from crm_assets.orchestration.running import running

if TYPE_CHECKING:
    from crm_assets.store.backlog import Swept

_CHECKS_CRON = "*/5 * * * *"
_RECONCILE_CRON = "17 3 * * *"

_EARLY = timedelta(seconds=5)
"""A sweep that is due within this time is done with the tick at hand, not a whole tick later."""


def schedules_of(spec: ConnectionSpec, jobs: Mapping[str, Job]) -> list[dg.ScheduleDefinition]:
    return [
        incremental(spec, jobs["sync"]),
        dg.ScheduleDefinition(
            name=f"{spec.connection}_checks",
            job=jobs["checks"],
            cron_schedule=_CHECKS_CRON,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Freshness, unsettled writes and quota.",
        ),
        dg.ScheduleDefinition(
            name=f"{spec.connection}_reconcile",
            job=jobs["reconcile"],
            cron_schedule=_RECONCILE_CRON,
            default_status=dg.DefaultScheduleStatus.RUNNING,
            description="Both ends compared once a day.",
        ),
    ]


def incremental(spec: ConnectionSpec, job: Job) -> dg.ScheduleDefinition:
    """``<connection>_incremental``: reads what changed, unless there is nothing to gain from it now."""

    @dg.schedule(
        cron_schedule=spec.schedule,
        job=job,
        name=f"{spec.connection}_incremental",
        default_status=dg.DefaultScheduleStatus.RUNNING,
        description="Reads what changed: every object whose last read is older than its changes ask for.",
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from crm_assets.quota.state import forecast, used_up
        from crm_assets.store import activity, inbox, streams
        from crm_assets.store.backlog import swept

        if reason := running(context.instance, f"{spec.connection}_sync", f"{spec.connection}_full_refresh"):
            return dg.SkipReason(reason)
        db = shared_database()
        tables = sorted(spec.tables())
        with db.transaction() as conn:
            limit = used_up(conn, spec.connection)
            sparing = bool(forecast(conn, spec.connection))
            reads = swept(conn, spec.connection)
            # Objects are pushed one by one as somebody has chosen; that one is, only its events show.
            pushed = inbox.pushed(conn, spec.connection)
            followed = streams.fresh(conn, spec.connection)
        if limit is not None:
            return dg.SkipReason(
                f"the quota is out: {limit.name} {limit.used} of {limit.limit}; "
                f"the CRM is asked again at {limit.until:%H:%M:%S} UTC"
            )
        if not activity.relay_alive(db, spec.connection):
            pushed, followed = set(), False
        due_in = {table: _due_in(reads.get(table), table in pushed, sparing or followed) for table in tables}
        due = [table for table, left in due_in.items() if left <= _EARLY]
        if not due:
            return dg.SkipReason(_nothing_due(due_in, bool(pushed) or followed))
        # Without the empty list a request for some of the assets would run their checks too, and one of them
        # compares everything.
        return dg.RunRequest(asset_selection=[mirror_key(spec.connection, table) for table in due], asset_check_keys=[])

    return tick


def _due_in(read: Swept | None, pushed: bool, sparing: bool) -> timedelta:
    """How long an object can wait for its next read; one that was never read cannot."""
    if read is None:
        return timedelta(0)
    return read_every(read.quiet, pushed=pushed, sparing=sparing) - read.age


def _nothing_due(due_in: Mapping[str, timedelta], pushed: bool) -> str:
    table, left = min(due_in.items(), key=lambda one: one[1])
    why = "a relay brings changes as they happen" if pushed else "no object has changed lately"
    return f"{why}; the next to be read is {table}, in {left.total_seconds() / 60:.0f} minutes"
