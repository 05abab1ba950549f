"""Everything that Dagster shows of one connection."""

from __future__ import annotations

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.orchestration.alerts import alerting
from crm_assets.orchestration.assets import assets_of
from crm_assets.orchestration.checks import connection_checks, mirror_checks
from crm_assets.orchestration.dispatcher import dispatcher
from crm_assets.orchestration.jobs import jobs_of
from crm_assets.orchestration.schedules import schedules_of
from crm_assets.settings import Settings
from crm_assets.store.snapshot import read_snapshot


def build(spec: ConnectionSpec) -> dg.Definitions:
    """Definitions from defs.yaml and the stored describe alone: neither the CRM nor the database is asked."""
    described = read_snapshot(Settings().home, spec.connection)
    assets = [asset for name in spec.objects for asset in assets_of(spec, name, described.get(spec.table(name)))]
    checks = [check for name in spec.objects for check in mirror_checks(spec, name)]
    jobs = jobs_of(spec)
    return dg.Definitions(
        assets=assets,
        asset_checks=[*checks, connection_checks(spec)],
        jobs=list(jobs.values()),
        schedules=schedules_of(spec, jobs),
        sensors=[dispatcher(spec, jobs), alerting(spec)],
    )
