"""The dispatcher: one sensor per connection that shows what the relay did, and starts what nobody does."""

from __future__ import annotations

from collections.abc import Mapping
from time import time as clock

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.orchestration.jobs import Job
from crm_assets.orchestration.naming import mirror_key, writeback_key
from crm_assets.orchestration.opening import shared_database
from crm_assets.orchestration.running import running
from crm_assets.orchestration.standing import standing_verdict
from crm_assets.orchestration.telling import Position, asset_events

_INTERVAL_SECONDS = 4
"""Dagster's sensor loop takes five; a minimum of five would miss every second turn."""

_PATIENCE_SECONDS = 5.0
"""How long due work is left to a relay that is alive."""


_JOBS = {"sweeps": "sync", "whole": "sync"}


def dispatcher(spec: ConnectionSpec, jobs: Mapping[str, Job]) -> dg.SensorDefinition:
    """``<connection>_dispatcher``."""

    @dg.sensor(
        name=f"{spec.connection}_dispatcher",
        jobs=[jobs[what] for what in ("events", "writeback", "sync") if what in jobs],
        minimum_interval_seconds=_INTERVAL_SECONDS,
        default_status=dg.DefaultSensorStatus.RUNNING,
        description="Shows what the relay did as asset events, and starts a run for what waits longer than it should.",
    )
    def tick(context: dg.SensorEvaluationContext) -> dg.SensorResult:
        from crm_assets.quota.state import pace, used_up
        from crm_assets.store import activity, snapshot
        from crm_assets.store.backlog import due_hints, due_sweeps, due_writes

        now = clock()
        position = Position.parse(context.cursor)
        db = shared_database()
        with db.transaction() as conn:
            position.take(activity.since(conn, spec.connection, position.seq))
            backlogs = {
                "events": due_hints(conn, spec.connection),
                "sweeps": due_sweeps(conn, spec.connection, whole=False),
                "whole": due_sweeps(conn, spec.connection, whole=True),
            }
            if "writeback" in jobs:
                backlogs["writeback"] = due_writes(conn, spec.connection)
            limit = used_up(conn, spec.connection)
            gathers = pace(conn, spec.connection, spec.quota.single_changes).gather
        alive = activity.relay_alive(db, spec.connection)
        patience = dict.fromkeys(backlogs, _PATIENCE_SECONDS if alive else 0.0)
        if alive:
            # It may be gathering them, to spare calls.
            patience["events"] += gathers

        requests: list[dg.RunRequest] = []
        reasons: list[str] = []
        for what, backlog in backlogs.items():
            job = f"{spec.connection}_{_JOBS.get(what, what)}"
            if not backlog:
                position.done(what)
            elif backlog.seconds < patience[what]:
                reasons.append(f"{what}: {backlog.count} due, left to the relay")
            elif limit is not None:
                reasons.append(
                    f"{what}: {backlog.count} due, the quota is out ({limit.name} {limit.used} of {limit.limit}); "
                    f"the CRM is asked again at {limit.until:%H:%M:%S} UTC"
                )
            elif reason := running(context.instance, job):
                reasons.append(f"{what}: {backlog.count} due, {reason}")
            elif attempt := position.attempt(what, (backlog.first, backlog.last, backlog.count), now):
                # The time makes the key new: a key that was used once, even by a run that failed, starts nothing.
                key = f"{spec.connection}_{what}:{backlog.first}-{backlog.last}:attempt-{attempt}:{int(now)}"
                requests.append(_request(spec, what, key, job, backlog.tables))
            else:
                reasons.append(f"{what}: {backlog.count} due, tried without progress; the next attempt comes later")

        events: list[dg.AssetMaterialization | dg.AssetCheckEvaluation] = []
        if position.untold(now):
            from crm_assets.settings import Settings

            objects = snapshot.read_snapshot(Settings().home, spec.connection)
            told = asset_events(spec, position, objects, now)
            with db.transaction() as conn:
                mirrors = [event.asset_key.path[-1] for event in told if event.asset_key.path[0] == spec.connection]
                events = [*told, *filter(None, (standing_verdict(conn, spec, table) for table in mirrors))]
        nothing = "; ".join(reasons) or "nothing is due"
        return dg.SensorResult(
            run_requests=requests,
            asset_events=events,
            skip_reason=None if requests or events else nothing,
            cursor=position.dump(),
        )

    return tick


def _request(spec: ConnectionSpec, what: str, key: str, job: str, tables: tuple[str, ...]) -> dg.RunRequest:
    if what == "events":
        return dg.RunRequest(run_key=key, job_name=job)
    if what == "writeback":
        keys = [writeback_key(spec.connection, table) for table in tables if table in _writable(spec)]
        return dg.RunRequest(run_key=key, job_name=job, asset_selection=keys or None)
    config = {"ops": {f"{spec.connection}__{table}": {"config": {"mode": "full"}} for table in tables}}
    return dg.RunRequest(
        run_key=key,
        job_name=job,
        asset_selection=[mirror_key(spec.connection, table) for table in tables],
        # Without the empty list their checks would run too, and one of them compares everything.
        asset_check_keys=[],
        run_config=config if what == "whole" else None,
    )


def _writable(spec: ConnectionSpec) -> set[str]:
    return {table for table, choice in spec.tables().items() if choice.write}
