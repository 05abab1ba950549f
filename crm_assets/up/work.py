"""``describe``, ``sync`` and ``reconcile`` as commands: one line per object, the others go on when one fails."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from rich.console import Console

from crm_assets import runtime
from crm_assets.connections import ConnectionSpec, load_connections
from crm_assets.core.errors import ConfigurationError, CrmAssetsError
from crm_assets.core.model import Object
from crm_assets.mirror import sync as mirror
from crm_assets.mirror.follow import follow
from crm_assets.reconcile.compare import Reconciled
from crm_assets.reconcile.compare import reconcile as compare
from crm_assets.settings import Settings
from crm_assets.store import activity
from crm_assets.store.database import Database
from crm_assets.up.working import prepared

_out = Console(highlight=False, soft_wrap=True)


def describe(names: Sequence[str]) -> int:
    """Describe all objects of the named connections, or of all."""
    with prepared() as (settings, db):
        specs = load_connections(settings.defs)
        code = 0
        for name in names or list(specs):
            spec = named(specs, name)
            connector = runtime.open_connector(db, spec, "incremental")
            try:
                found = runtime.refresh(runtime.Connection(spec, connector, {}, db, settings.home))
            finally:
                runtime.close_connector(connector)
            for table, obj in found.objects.items():
                writable = sum(fld.writable for fld in obj.fields) if spec.objects[obj.name].write else 0
                _out.print(f"{name}.{table}: {obj.name}, {len(obj.fields)} fields, {writable} writable")
            for absent in sorted(set(spec.objects) - {obj.name for obj in found.objects.values()}):
                code = 1
                _out.print(f"{name}: {absent} is not available to this account")
    return code


def sync(connection: str, objects: Sequence[str], *, full: bool) -> int:
    """Sync the named objects, or all; 1 if one of them stopped early."""
    with _opened(connection, "incremental") as (settings, opened):

        def one(obj: Object) -> bool:
            mode: mirror.Mode = "full" if full else "incremental"
            report = follow(opened.db, settings.home, opened.connector, opened.spec, obj, mode).report
            remember(opened.db, report)
            _out.print(f"{connection}.{obj.table}: {sync_line(report)}")
            return not report.partial

        return _each(opened, objects, one)


def reconcile(connection: str, objects: Sequence[str]) -> int:
    """Compare the named objects, or all; 1 if one of them is not complete."""
    with _opened(connection, "reconcile") as (_, opened):

        def one(obj: Object) -> bool:
            verdict = compare(opened.db, opened.connector, obj)
            _out.print(f"{connection}.{obj.table}: {reconcile_line(verdict)}")
            return verdict.complete

        return _each(opened, objects, one)


def remember(db: Database, report: mirror.SyncReport) -> None:
    """Leave word of what was done outside of Dagster; its dispatcher shows it as an asset event."""
    counts = {name: getattr(report, name) for name in ("inserted", "updated", "deleted", "undeleted")}
    with db.transaction() as conn:
        activity.record(conn, report.connection, report.object, "sync", counts)


def sync_line(report: mirror.SyncReport) -> str:
    if report.partial:
        return f"stopped early: {report.reason}"
    counts = {
        "new": report.inserted,
        "changed": report.updated,
        "deleted": report.deleted,
        "undeleted": report.undeleted,
        "set aside": report.set_aside,
        "waiting": report.waiting,
    }
    told = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count) or "nothing new"
    return f"{report.rows_read:,} read, {told} ({report.seconds:.1f} s, {report.api_calls} calls)"


def reconcile_line(verdict: Reconciled) -> str:
    if verdict.complete:
        repaired = f", {verdict.repaired:,} repaired" if verdict.repaired else ""
        return f"complete, {verdict.local_rows:,} rows{repaired}"
    doubled = f", {verdict.duplicates:,} with the external id of another" if verdict.duplicates else ""
    return (
        f"not complete: {verdict.missing:,} missing, {verdict.extra:,} extra, {verdict.differing:,} differing{doubled}"
    )


def named(specs: Mapping[str, ConnectionSpec], name: str) -> ConnectionSpec:
    if name not in specs:
        known = ", ".join(specs) or "none is defined"
        raise ConfigurationError(f"there is no connection {name!r} in defs.yaml; known: {known}")
    return specs[name]


@contextmanager
def _opened(name: str, lane: str) -> Iterator[tuple[Settings, runtime.Connection]]:
    with prepared() as (settings, db):
        spec = named(load_connections(settings.defs), name)
        connection = runtime.open_connection(settings, db, spec, lane)
        try:
            yield settings, connection
        finally:
            connection.close()


def _each(connection: runtime.Connection, wanted: Sequence[str], one: Callable[[Object], bool]) -> int:
    by_name = {obj.name: obj for obj in connection.objects.values()} | dict(connection.objects)
    unknown = [name for name in wanted if name not in by_name]
    if unknown:
        raise ConfigurationError(
            f"connection {connection.name} has no object {unknown[0]!r}; configured: {', '.join(connection.objects)}"
        )
    chosen = {by_name[name].table: by_name[name] for name in wanted} or connection.objects
    code = 0
    for obj in chosen.values():
        try:
            code = code if one(obj) else 1
        except ConfigurationError:
            raise
        except CrmAssetsError as error:
            _out.print(f"{connection.name}.{obj.table}: {error}")
            code = 1
    return code
