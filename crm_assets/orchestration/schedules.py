"""Schedules: the reads that happen whatever else does, and the checks."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.orchestration.cadence import SWEEP
from crm_assets.orchestration.jobs import Job
from crm_assets.orchestration.naming import mirror_key
from crm_assets.orchestration.opening import shared_database
from crm_assets.orchestration.running import running

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
        description="Reads what changed. While a relay brings changes, each object is swept every five minutes.",
    )
    def tick(context: dg.ScheduleEvaluationContext) -> dg.RunRequest | dg.SkipReason:
        from crm_assets.quota.state import used_up
        from crm_assets.store import activity, inbox, streams
        from crm_assets.store.backlog import swept

        if reason := running(context.instance, f"{spec.connection}_sync", f"{spec.connection}_full_refresh"):
            return dg.SkipReason(reason)
        db = shared_database()
        with db.transaction() as conn:
            limit = used_up(conn, spec.connection)
            read_at = swept(conn, spec.connection)
            pushed = streams.fresh(conn, spec.connection) or inbox.events_arrive(conn, spec.connection)
        if limit is not None:
            return dg.SkipReason(
                f"the quota is out: {limit.name} {limit.used} of {limit.limit}; "
                f"the CRM is asked again at {limit.until:%H:%M:%S} UTC"
            )
        due = sorted(spec.tables())
        # A relay alone hears nothing from an account that pushes no events.
        if pushed and activity.relay_alive(db, spec.connection):
            due = due_tables(due, read_at, db.now())
            if not due:
                return dg.SkipReason(_all_swept(read_at))
        # Without the empty list a request for some of the assets would run their checks too, and one of them
        # compares everything.
        return dg.RunRequest(asset_selection=[mirror_key(spec.connection, table) for table in due], asset_check_keys=[])

    return tick


def due_tables(tables: list[str], read_at: Mapping[str, datetime], now: datetime) -> list[str]:
    """Tables whose last sweep is too old, or that were never read."""
    return [table for table in tables if table not in read_at or now - read_at[table] >= SWEEP - _EARLY]


def _all_swept(read_at: Mapping[str, datetime]) -> str:
    oldest = min(read_at.values()).astimezone(UTC)
    return (
        "a relay brings changes as they happen, and every object was swept less than 5 minutes ago "
        f"(the oldest at {oldest:%H:%M:%S} UTC); the next sweep is due at {oldest + SWEEP:%H:%M:%S} UTC"
    )
