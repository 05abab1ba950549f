"""Checks: what a green mirror means."""

from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.orchestration.cadence import late_after
from crm_assets.orchestration.drift import schema_verdict
from crm_assets.orchestration.naming import mirror_key
from crm_assets.orchestration.opening import opened, shared_database, the_object
from crm_assets.settings import Settings

if TYPE_CHECKING:
    from crm_assets.reconcile.compare import Reconciled
    from crm_assets.store.database import Conn, Database

_SHOWN = 20
"""Findings are kept in ``crm_assets.drift``; the page of a check shows this many."""

_HELD = {
    "in": "were deleted in the CRM",
    "out": "were deleted in the product",
    "repair": "differ between both ends and wait to be repaired",
}
"""What a guard holds, by its direction."""


def mirror_checks(spec: ConnectionSpec, name: str) -> Iterator[dg.AssetChecksDefinition]:
    """``complete`` and ``schema`` of one object. Both ask the CRM."""
    table = spec.table(name)
    key = mirror_key(spec.connection, table)

    @dg.asset_check(
        asset=key,
        name="complete",
        description="Both ends hold the same records with the same values; what differs is repaired first.",
    )
    def complete(context: dg.AssetCheckExecutionContext) -> dg.AssetCheckResult:
        from crm_assets.core.errors import RetriableError
        from crm_assets.reconcile import fields
        from crm_assets.reconcile.compare import Depth, Limits, Repair, reconcile

        chosen = spec.reconcile
        with opened(spec, "reconcile") as connection:
            due = fields.due(connection.db, spec.connection, table, chosen.fields_every)
            try:
                verdict = reconcile(
                    connection.db,
                    connection.connector,
                    the_object(connection, table),
                    Depth.FIELDS if due else Depth.COUNTS,
                    Repair(chosen.repair),
                    Limits(chosen.ask_from),
                )
            except RetriableError as error:
                raise dg.Failure(description=f"not compared: {error}", allow_retries=False) from error
        # Dagster plots the numbers of an asset's events over time, not those of its checks.
        context.op_execution_context.log_event(dg.AssetObservation(key, metadata=_series(verdict)))
        return dg.AssetCheckResult(
            passed=verdict.complete,
            severity=severity(verdict.different, chosen.fail_from),
            description=_verdict(verdict),
            metadata=_numbers(verdict),
        )

    @dg.asset_check(
        asset=key,
        name="schema",
        description="The object in the CRM is what the mirror was made for, and no column is still being filled.",
    )
    def schema() -> dg.AssetCheckResult:
        from crm_assets.core.errors import ObjectUnavailable
        from crm_assets.mirror.describing import pending

        with opened(spec, "reconcile") as connection:
            stored = the_object(connection, table)
            try:
                found = pending(connection.db, connection.connector, name, spec.objects[name], stored)
            except ObjectUnavailable as error:
                return dg.AssetCheckResult(
                    passed=False,
                    severity=dg.AssetCheckSeverity.ERROR,
                    description=f"{error}; the rows stay as they were read last",
                    metadata={"fields": len(stored.fields)},
                )
            with connection.db.transaction() as conn:
                return schema_verdict(conn, spec.connection, stored, found)

    yield complete
    yield schema


def connection_checks(spec: ConnectionSpec) -> dg.AssetChecksDefinition:
    """``fresh``, ``guard``, ``unsettled_writes`` and ``quota`` of all mirrors in one step, from the database only."""
    specs: dict[dg.AssetCheckKey, tuple[str, Callable[[Any, ConnectionSpec, str], dg.AssetCheckResult]]] = {}
    for table, choice in spec.tables().items():
        key = mirror_key(spec.connection, table)
        specs[dg.AssetCheckKey(key, "fresh")] = table, _fresh
        specs[dg.AssetCheckKey(key, "guard")] = table, _guard
        specs[dg.AssetCheckKey(key, "quota")] = table, _quota
        if choice.write:
            specs[dg.AssetCheckKey(key, "unsettled_writes")] = table, _unsettled_writes

    @dg.multi_asset_check(
        name=f"{spec.connection}_state",
        specs=[dg.AssetCheckSpec(key.name, asset=key.asset_key, description=_ABOUT[key.name]) for key in specs],
        can_subset=True,
    )
    def state(context: dg.AssetCheckExecutionContext) -> Iterator[dg.AssetCheckResult]:
        from crm_assets.store import history

        db: Database = shared_database()
        for key in context.selected_asset_check_keys:
            table, evaluate = specs[key]
            with db.transaction() as conn:
                result = evaluate(conn, spec, table)
            yield result._replace(asset_key=key.asset_key, check_name=key.name)
        # A relay does this too; without one nobody else would.
        history.forget(db, [spec.connection], timedelta(days=Settings().audit_days))

    return state


_ABOUT = {
    "fresh": "The object was read lately, and nothing waits for long in either direction.",
    "guard": "No deletions wait because they are unusually many.",
    "unsettled_writes": "No write of the product was rejected, is in conflict, or has an unknown outcome.",
    "quota": "The CRM still answers our calls: its limits are not used up.",
}


def _fresh(conn: "Conn", spec: ConnectionSpec, table: str) -> dg.AssetCheckResult:
    row = conn.execute(
        """SELECT cursor, extract(epoch FROM clock_timestamp() - moved_at)::float8 FROM crm_assets.cursor
            WHERE connection = %s AND object = %s AND moved_at IS NOT NULL""",
        (spec.connection, table),
    ).fetchone()
    if row is None:
        return dg.AssetCheckResult(
            passed=False, severity=dg.AssetCheckSeverity.WARN, description="never read; materialize the asset"
        )
    from crm_assets.core.pace import SPARING, SWEEP
    from crm_assets.store import activity, inbox
    from crm_assets.store.status import oldest_unsynced_seconds

    cursor, age = row
    waiting = oldest_unsynced_seconds(conn, spec.connection, table)
    pushed = table in inbox.pushed(conn, spec.connection)
    warn, fail = late_after(
        spec.schedule, SWEEP if pushed and activity.relay_alive(shared_database(), spec.connection) else SPARING
    )
    oldest = timedelta(seconds=max(age, waiting or 0.0))
    return dg.AssetCheckResult(
        passed=oldest <= warn,
        severity=dg.AssetCheckSeverity.ERROR if oldest > fail else dg.AssetCheckSeverity.WARN,
        description=f"last read {age:.0f} s ago"
        + (f", the oldest change has been waiting for {waiting:.0f} s" if waiting is not None else ""),
        metadata={"cursor": cursor or "", "read_seconds_ago": age, "oldest_unsynced_seconds": waiting or 0.0},
    )


def _guard(conn: "Conn", spec: ConnectionSpec, table: str) -> dg.AssetCheckResult:
    held = conn.execute(
        """SELECT guard_id, direction, rows, records FROM crm_assets.guard
            WHERE connection = %s AND object = %s AND state = 'open' ORDER BY guard_id""",
        (spec.connection, table),
    ).fetchall()
    return dg.AssetCheckResult(
        passed=not held,
        severity=dg.AssetCheckSeverity.ERROR,
        description="; ".join(
            f"{rows} of {records} records {_HELD[direction]}: run {spec.connection}_approve with guard_id {guard_id}"
            for guard_id, direction, rows, records in held
        )
        or None,
        metadata={f"held_{direction}": rows for _, direction, rows, _ in held},
    )


def _unsettled_writes(conn: "Conn", spec: ConnectionSpec, table: str) -> dg.AssetCheckResult:
    states = {
        state: int(count)
        for state, count in conn.execute(
            """SELECT state, count(*) FROM crm_assets.unarrived
                WHERE connection = %s AND object = %s GROUP BY state ORDER BY state""",
            (spec.connection, table),
        )
    }
    stuck = {state: states[state] for state in ("rejected", "conflict", "unknown") if state in states}
    return dg.AssetCheckResult(
        passed=not stuck,
        severity=dg.AssetCheckSeverity.ERROR
        if "rejected" in stuck or "conflict" in stuck
        else dg.AssetCheckSeverity.WARN,
        description=", ".join(f"{count} {state}" for state, count in stuck.items())
        + "; see crm_assets.outbox, column reason"
        if stuck
        else None,
        metadata={f"writes_{state}": count for state, count in states.items()},
    )


def _quota(conn: "Conn", spec: ConnectionSpec, table: str) -> dg.AssetCheckResult:
    from crm_assets.quota.state import forecast, usage

    limits = usage(conn, spec.connection)
    ending = forecast(conn, spec.connection)
    # A short window that is full is at work; only a long one that is full stands still.
    planned = [one for one in limits if one.long]
    out = [
        f"{one.name}: {one.used} of {one.limit}, counted at {one.updated_at:%H:%M:%S} UTC" for one in planned if one.out
    ]
    warn_from = spec.quota.warn_from
    nearly = [f"{one.name}: {one.used} of {one.limit}" for one in planned if one.used >= warn_from * one.limit]
    ends = [f"{name}: at this rate used up at {at:%Y-%m-%d %H:%M} UTC" for name, at in ending.items()]
    return dg.AssetCheckResult(
        passed=not nearly and not ends,
        severity=dg.AssetCheckSeverity.ERROR if out else dg.AssetCheckSeverity.WARN,
        description="; ".join(out or [*nearly, *ends]) or None,
        metadata={f"{one.name}_used": one.used for one in limits} | {f"{one.name}_limit": one.limit for one in limits},
    )


def severity(different: int, fail_from: int) -> dg.AssetCheckSeverity:
    """Of a mirror with so many records that differ."""
    return dg.AssetCheckSeverity.ERROR if different >= fail_from else dg.AssetCheckSeverity.WARN


def _verdict(verdict: "Reconciled") -> str:
    compared = "every field" if verdict.depth == "fields" else "counts of every span of time"
    if verdict.complete:
        mended = f"; {verdict.repaired} records differed and were repaired" if verdict.mended else ""
        return f"complete as of {verdict.as_of.isoformat()} by {compared}{mended}"
    asked = f"; {verdict.guard} is the guard_id to approve their repair" if verdict.guard is not None else ""
    doubled = f", {verdict.duplicates} with the external id of another" if verdict.duplicates else ""
    return (
        f"{verdict.missing} missing, {verdict.extra} extra, {verdict.differing} differing{doubled} by {compared}; "
        f"see crm_assets.drift{asked}"
    )


def _series(verdict: "Reconciled") -> dict[str, int]:
    """What is worth a line over time."""
    names = ("missing", "extra", "differing", "duplicates", "repaired", "unsettled", "set_aside")
    numbers = {name: int(getattr(verdict, name)) for name in names}
    return numbers | {"drift": verdict.different, "reconcile_api_calls": verdict.api_calls}


def _numbers(verdict: "Reconciled") -> dict[str, Any]:
    numbers: dict[str, Any] = _series(verdict)
    numbers |= {"remote_rows": verdict.remote_rows, "local_rows": verdict.local_rows}
    numbers |= {"as_of": verdict.as_of.isoformat(), "depth": str(verdict.depth)}
    for name, found in (("findings", verdict.findings), ("mended", verdict.mended)):
        if found:
            numbers[name] = dg.MetadataValue.table(
                [
                    dg.TableRecord({"id": f.id, "kind": str(f.kind), "field": f.field, "cause": str(f.cause)})
                    for f in found[:_SHOWN]
                ]
            )
    return numbers
