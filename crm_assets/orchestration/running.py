"""Whether a job is under way: two runs of the same work would only wait for each other."""

from __future__ import annotations

import dagster as dg

_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def running(instance: dg.DagsterInstance, *jobs: str) -> str | None:
    """Which run of these jobs is under way, in words; None if there is none."""
    for job in jobs:
        for run in instance.get_runs(dg.RunsFilter(job_name=job, statuses=_UNDER_WAY), limit=1):
            return f"run {run.run_id[:8]} of {job} is {run.status.value.lower()}"
    return None
