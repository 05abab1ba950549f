"""Jobs of a connection: what schedules, sensors and people start."""

from typing import Any

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.orchestration.backfill import backfill_job
from crm_assets.orchestration.deciding import approve_job, replay_job
from crm_assets.orchestration.naming import mirror_key, writeback_key
from crm_assets.orchestration.opening import opened

Job = dg.JobDefinition | Any  # Dagster does not export the type of an asset job that is not resolved yet.


def jobs_of(spec: ConnectionSpec) -> dict[str, Job]:
    """By what they do; the name is ``<connection>_<what>``."""
    name = spec.connection
    mirrors = dg.AssetSelection.assets(*(mirror_key(name, table) for table in spec.tables()))
    writable = [writeback_key(name, table) for table, choice in spec.tables().items() if choice.write]
    jobs: dict[str, Job] = {
        "sync": dg.define_asset_job(
            f"{name}_sync",
            mirrors.without_checks(),
            description="Read what changed in the CRM.",
        ),
        "full_refresh": dg.define_asset_job(
            f"{name}_full_refresh",
            mirrors.without_checks(),
            config={"ops": {f"{name}__{table}": {"config": {"mode": "full"}} for table in spec.tables()}},
            description="Describe and read everything anew. Tables stay in use; rows that are gone are found too.",
        ),
        "reconcile": dg.define_asset_job(
            f"{name}_reconcile",
            dg.AssetSelection.checks(
                *(
                    dg.AssetCheckKey(mirror_key(name, table), check)
                    for table in spec.tables()
                    for check in ("complete", "schema")
                )
            ),
            description="Compare both ends, repair, and say what is complete as of when.",
        ),
        "checks": dg.define_asset_job(
            f"{name}_checks",
            dg.AssetSelection.checks(
                *(dg.AssetCheckKey(mirror_key(name, t), c) for t in spec.tables() for c in ("fresh", "guard", "quota")),
                *(
                    dg.AssetCheckKey(mirror_key(name, t), "unsettled_writes")
                    for t, c in spec.tables().items()
                    if c.write
                ),
            ),
            description="Freshness, held deletions, unsettled writes and quota, from the database alone.",
        ),
        "backfill": backfill_job(spec),
        "events": events_job(spec),
        "approve": approve_job(spec),
    }
    if writable:
        jobs["replay"] = replay_job(spec)
        jobs["writeback"] = dg.define_asset_job(
            f"{name}_writeback",
            dg.AssetSelection.assets(*writable).without_checks(),
            description="Send the product's changes to the CRM.",
        )
    return jobs


def events_job(spec: ConnectionSpec) -> dg.JobDefinition:
    """Records that events named, read by id."""

    @dg.op(
        name=f"{spec.connection}_read_hinted",
        description="Read by id what the inbox names, and apply it.",
        tags={"crm_assets/connection": spec.connection},
        out=dg.Out(dg.Nothing),
    )
    def read_hinted(context: dg.OpExecutionContext) -> None:
        from crm_assets.events.drain import drain

        with opened(spec, "events") as connection:
            report = drain(connection.db, connection.connector, connection.objects)
            for table, part in report.objects.items():
                if part.applied:
                    context.log_event(
                        dg.AssetMaterialization(
                            mirror_key(spec.connection, table), metadata={**part.counts(), "by": "events"}
                        )
                    )
            for table, fault in report.faults.items():
                context.log.error(f"{spec.connection}.{table}: {fault}")
            if reason := report.exhausted or "; ".join(report.faults.values()):
                raise dg.Failure(
                    description=f"stopped early, what is left stays in the inbox: {reason}", allow_retries=False
                )

    @dg.job(
        name=f"{spec.connection}_events",
        description="Read the records that webhooks and streams named.",
        executor_def=dg.in_process_executor,
    )
    def events() -> None:
        read_hinted()

    return events
