"""Assets: the CRM's object, its mirror, and the way back.

Dagster reads the annotations of steps, so that they are not deferred here.
"""

from collections.abc import Iterator
from enum import Enum
from typing import TYPE_CHECKING, Any

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.core.pace import SWEEP
from crm_assets.orchestration.cadence import late_after
from crm_assets.orchestration.metadata import api_schema, sync_metadata, table_metadata
from crm_assets.orchestration.naming import api_key, mirror_key, writeback_key
from crm_assets.orchestration.opening import opened, the_object
from crm_assets.orchestration.standing import standing_verdict
from crm_assets.settings import Settings

if TYPE_CHECKING:
    from crm_assets.core.model import Object
    from crm_assets.runtime import Connection


class Mode(Enum):
    """How to read. Names and values agree, because run configuration is written with the names."""

    incremental = "incremental"
    full = "full"


class SyncConfig(dg.Config):
    """``incremental`` reads what changed, ``full`` everything; a full read also finds rows that are gone."""

    mode: Mode = Mode.incremental


def assets_of(spec: ConnectionSpec, name: str, obj: "Object | None") -> Iterator[dg.AssetsDefinition | dg.AssetSpec]:
    """All assets of one object; ``obj`` is its stored describe, None before the first one."""
    yield api_asset(spec, name, obj)
    yield mirror_asset(spec, name, obj)
    if spec.objects[name].write:
        yield writeback_asset(spec, name)


def api_asset(spec: ConnectionSpec, name: str, obj: "Object | None") -> dg.AssetSpec:
    """The object in the CRM, external to Dagster."""
    metadata: dict[str, Any] = {"dagster/uri": f"{spec.url.rstrip('/')}/{name}"}
    if obj is not None:
        metadata["dagster/column_schema"] = api_schema(obj)
    return dg.AssetSpec(
        key=api_key(spec.connection, spec.table(name)),
        group_name=spec.connection,
        description=f"{name} in the CRM, as its API shows it.",
        kinds={spec.connector},
        owners=spec.owners,
        metadata=metadata,
    )


def mirror_asset(spec: ConnectionSpec, name: str, obj: "Object | None") -> dg.AssetsDefinition:
    """The object as a table of the product's database."""
    table = spec.table(name)
    description = f"{name} as the table `{spec.connection}.{table}`. " + (
        "The product reads and writes it." if spec.objects[name].write else "The product reads it."
    )
    if obj is None:
        description += " Its columns are not known yet: materialize it, then reload the definitions."
    # Known before it is known whether the CRM pushes; the check `fresh` looks closer.
    warn, fail = late_after(spec.schedule, SWEEP)

    @dg.asset(
        key=mirror_key(spec.connection, table),
        deps=[api_key(spec.connection, table)],
        group_name=spec.connection,
        description=description,
        kinds={"dlt", "postgres", spec.connector},
        owners=spec.owners,
        metadata=table_metadata(spec, obj) if obj is not None else None,
        freshness_policy=dg.FreshnessPolicy.time_window(fail_window=fail, warn_window=warn),
        op_tags={"crm_assets/connection": spec.connection},
    )
    def mirror(context: dg.AssetExecutionContext, config: SyncConfig) -> Iterator[dg.MaterializeResult[Any]]:
        from crm_assets.core.errors import RetriableError
        from crm_assets.mirror.follow import follow

        full = config.mode is Mode.full
        with opened(spec, "incremental") as connection:
            try:
                run = follow(
                    connection.db,
                    Settings().home,
                    connection.connector,
                    spec,
                    the_object(connection, table),
                    "full" if full else "incremental",
                    progress=lambda rows: context.log.info(f"{rows:,} rows read"),
                )
            except RetriableError as error:
                raise dg.Failure(description=str(error), allow_retries=False) from error
            report, described = run.report, run.obj
            metadata = sync_metadata(report, _row_count(connection, table))
            if report.partial:
                stopped(context, mirror_key(spec.connection, table), report.reason, metadata)
            yield dg.MaterializeResult(metadata=metadata | table_metadata(spec, described))
            with connection.db.transaction() as conn:
                verdict = standing_verdict(conn, spec, table)
            if verdict is not None:
                context.instance.report_runless_asset_event(verdict)

    return mirror


def writeback_asset(spec: ConnectionSpec, name: str) -> dg.AssetsDefinition:
    """The product's changes of the table, on their way back to the CRM."""
    table = spec.table(name)

    @dg.asset(
        key=writeback_key(spec.connection, table),
        deps=[mirror_key(spec.connection, table)],
        group_name=spec.connection,
        description=f"Changes the product made to `{spec.connection}.{table}`, written back to {name} in the CRM.",
        kinds={"postgres", spec.connector},
        owners=spec.owners,
        # Metadata and no edge: an edge would make the graph a cycle.
        metadata={"writes_to": dg.MetadataValue.asset(api_key(spec.connection, table))},
        op_tags={"crm_assets/connection": spec.connection},
    )
    def writeback(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        from crm_assets.events.drain import drain as drain_events
        from crm_assets.store.apply import apply
        from crm_assets.writeback.drain import drain
        from crm_assets.writeback.report import COUNTS

        with opened(spec, "writeback") as connection:
            obj = the_object(connection, table)
            report = drain(connection.db, connection.connector, connection.objects, only=table)
            # The mirror's part of what was settled; then what was written is read again, because the CRM's own
            # automation may have changed it.
            apply(connection.db, connection.name, obj)
            reread = drain_events(connection.db, connection.connector, connection.objects)
            metadata: dict[str, Any] = {f"rows_{count}": report.total(count) for count in COUNTS}
            metadata |= {"rows_reread": reread.reread, "api_calls": report.api_calls + reread.api_calls}
            if report.stopped:
                stopped(context, writeback_key(spec.connection, table), report.stopped, metadata)
            return dg.MaterializeResult(metadata=metadata)

    return writeback


def stopped(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    key: dg.AssetKey,
    reason: str | None,
    metadata: dict[str, Any],
) -> None:
    """A run that ended early is not green: it says how far it came, keeps its place, and fails without a retry."""
    partial = {**metadata, "partial": True, "reason": reason or ""}
    context.log_event(dg.AssetObservation(asset_key=key, metadata=partial))
    raise dg.Failure(
        description=f"stopped early, the next run goes on from the same place: {reason}", allow_retries=False
    )


def _row_count(connection: "Connection", table: str) -> int:
    from crm_assets.store.status import row_count

    with connection.db.transaction() as conn:
        return row_count(conn, connection.name, table)
