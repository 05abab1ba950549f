"""Backfill: a range of the CRM's cursor read again, in slices."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.orchestration.assets import stopped
from crm_assets.orchestration.metadata import sync_metadata
from crm_assets.orchestration.naming import mirror_key
from crm_assets.orchestration.opening import opened, the_object
from crm_assets.settings import Settings

_CONFIG = {
    "object": dg.Field(str, description="Table name or API name of the object."),
    "from": dg.Field(str, description="First moment of the range, ISO 8601; without an offset it is UTC."),
    "to": dg.Field(str, is_required=False, description="End of the range, exclusive; now if absent."),
    "slice_days": dg.Field(float, default_value=7.0, description="Days per slice."),
}

_LEASE_TRIES = 60
_LEASE_WAIT_SECONDS = 2.0


def backfill_job(spec: ConnectionSpec) -> dg.JobDefinition:
    """``<connection>_backfill``: one mapped step per slice, so that one that fails is tried again alone."""
    tags = {"crm_assets/connection": spec.connection}

    @dg.op(
        name=f"{spec.connection}_plan",
        config_schema=_CONFIG,
        out=dg.DynamicOut(dict),
        tags=tags,
        description="Cut the range into slices.",
    )
    def plan(context: dg.OpExecutionContext) -> Iterator[dg.DynamicOutput[dict[str, str]]]:
        from crm_assets.core.windows import slices

        config: dict[str, Any] = context.op_config
        table = _table(spec, config["object"])
        low = _moment("from", config["from"])
        high = _moment("to", config["to"]) if config.get("to") else datetime.now(UTC)
        if config["slice_days"] <= 0:
            raise dg.Failure(description="slice_days: write a number above 0", allow_retries=False)
        try:
            windows = slices(low, high, timedelta(days=config["slice_days"]))
        except ValueError as error:
            raise dg.Failure(description=f"from, to: {error}", allow_retries=False) from error
        context.log.info(f"{spec.connection}.{table}: {len(windows)} slices")
        for number, window in enumerate(windows):
            assert window.low is not None
            yield dg.DynamicOutput(
                {"table": table, "low": window.low.isoformat(), "high": window.high.isoformat()},
                mapping_key=f"{number:05d}",
            )

    @dg.op(name=f"{spec.connection}_read_slice", tags=tags, description="Read one slice again; the cursor stays.")
    def read_slice(context: dg.OpExecutionContext, part: dict[str, str]) -> dict[str, Any]:
        from crm_assets.core.errors import RetriableError
        from crm_assets.core.model import Window
        from crm_assets.mirror.sync import sync

        window = Window(datetime.fromisoformat(part["low"]), datetime.fromisoformat(part["high"]))
        table = part["table"]
        with opened(spec, "backfill") as connection:
            obj = the_object(connection, table)
            try:
                report = sync(connection.db, Settings().home, connection.connector, obj, "backfill", window)
            except RetriableError as error:
                # Another run is reading the object: its turn ends soon.
                raise dg.RetryRequested(_LEASE_TRIES, _LEASE_WAIT_SECONDS) from error
        metadata = sync_metadata(report, None)
        if report.partial:
            stopped(context, mirror_key(spec.connection, table), report.reason, metadata)
        return {"table": table, **{name: metadata[name] for name in _SUMMED}}

    @dg.op(name=f"{spec.connection}_sum_up", tags=tags, out=dg.Out(dg.Nothing), description="Tell what all slices did.")
    def sum_up(context: dg.OpExecutionContext, done: list[dict[str, Any]]) -> None:
        totals: dict[str, Any] = {name: sum(part[name] for part in done) for name in _SUMMED}
        key = mirror_key(spec.connection, done[0]["table"])
        context.log_event(dg.AssetMaterialization(key, metadata={"mode": "backfill", "slices": len(done), **totals}))

    @dg.job(
        name=f"{spec.connection}_backfill",
        description="Read a range of an object again, by the CRM's own modification time.",
        executor_def=dg.in_process_executor,
    )
    def backfill() -> None:
        sum_up(plan().map(read_slice).collect())

    return backfill


_SUMMED = ("rows_read", "rows_applied", "rows_unchanged", "rows_deleted", "rows_set_aside", "api_calls")


def _table(spec: ConnectionSpec, name: str) -> str:
    tables = spec.tables()
    table = name if name in tables else spec.table(name)
    if table not in tables:
        raise dg.Failure(
            description=f"object: {spec.connection} does not sync {name!r}; choose one of {', '.join(tables)}",
            allow_retries=False,
        )
    return table


def _moment(key: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise dg.Failure(
            description=f"{key}: {text!r} is no date; write it like 2026-01-31 or 2026-01-31T12:00:00+00:00",
            allow_retries=False,
        ) from error
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
