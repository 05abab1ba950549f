"""The first sync: describe, read everything, compare both ends. In a thread, beside the start of the children."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from crm_assets import runtime
from crm_assets.connections import ConnectionSpec
from crm_assets.core.errors import CrmAssetsError, FatalError, QuotaExhausted, RetriableError
from crm_assets.core.model import Object
from crm_assets.mirror.follow import follow
from crm_assets.reconcile.compare import reconcile
from crm_assets.settings import Settings
from crm_assets.store import catalog
from crm_assets.store.database import Database
from crm_assets.up.work import reconcile_line, remember, sync_line

_PATIENCE_S = 45.0
"""How long, over all objects, one waits for another process's sync of an object (a dead one's lease ends in that
time), or for a CRM that is away. Then it is left to the schedules."""


class _Cancelled(Exception):
    """Somebody asked for the end."""


@dataclass
class FirstSync:
    """``described`` is set when Dagster can load its definitions, ``done`` when there is nothing left to do.

    ``always`` compares also objects that have been compared before. ``unfinished`` names what went wrong, per object;
    ``failure`` is what kept everything from working.
    """

    settings: Settings
    db: Database
    specs: Mapping[str, ConnectionSpec]
    stop: threading.Event
    console: Console
    always: bool = False
    described: threading.Event = field(default_factory=threading.Event)
    done: threading.Event = field(default_factory=threading.Event)
    unfinished: list[str] = field(default_factory=list)
    failure: Exception | None = None
    _thread: threading.Thread | None = None
    _deadline: float = 0.0

    def start(self) -> None:
        self._deadline = time.monotonic() + _PATIENCE_S
        self._thread = threading.Thread(target=self._run, name="first-sync", daemon=True)
        self._thread.start()

    def join(self, seconds: float) -> None:
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        connections: list[runtime.Connection] = []
        try:
            for spec in self.specs.values():
                connections.append(self._open(spec))
            self.described.set()
            bar = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                TextColumn("{task.fields[read]}"),
                TimeElapsedColumn(),
                console=self.console,
                transient=True,
                disable=not self.console.is_terminal,
            )
            with bar:
                for connection in connections:
                    self._sync(connection, bar)
                for connection in connections:
                    self._reconcile(connection, bar)
        except _Cancelled:
            pass
        except Exception as error:  # noqa: BLE001 (told by the main thread)
            if not self.stop.is_set():
                self.failure = error
        finally:
            for connection in connections:
                try:
                    connection.close()
                except Exception as error:  # noqa: BLE001 (the database may be gone by now)
                    self.failure = self.failure or (None if self.stop.is_set() else error)
            self.described.set()
            self.done.set()

    def _open(self, spec: ConnectionSpec) -> runtime.Connection:
        """The connection, described anew. While the CRM is away the stored describe serves."""
        known = bool(catalog.load(self.db, spec.connection))
        connection = runtime.open_connection(self.settings, self.db, spec, "incremental")
        if known:
            try:
                connection = runtime.refresh(connection)
            except RetriableError as error:
                self.console.print(f"{spec.connection}: not described anew: {error}")
        for name in sorted(set(spec.objects) - {obj.name for obj in connection.objects.values()}):
            self.unfinished.append(f"{spec.connection}: {name} is not available to this account")
            self.console.print(self.unfinished[-1])
        return connection

    def _sync(self, connection: runtime.Connection, bar: Progress) -> None:
        for obj in connection.objects.values():
            name = f"{connection.name}.{obj.table}"
            task = bar.add_task(f"reading {name}", total=None, read="")

            def progress(rows: int, task: object = task) -> None:
                self._unless_stopped()
                bar.update(task, read=f"{rows:,} records")  # type: ignore[arg-type]

            def one(obj: Object = obj, progress: Callable[[int], None] = progress) -> tuple[bool, str]:
                report = follow(
                    self.db, self.settings.home, connection.connector, connection.spec, obj, progress=progress
                ).report
                remember(self.db, report)
                return not report.partial, sync_line(report)

            self._told(name, one)
            bar.remove_task(task)

    def _reconcile(self, connection: runtime.Connection, bar: Progress) -> None:
        compared = set() if self.always else self._compared(connection.name)
        for obj in connection.objects.values():
            if obj.table in compared:
                continue
            name = f"{connection.name}.{obj.table}"
            task = bar.add_task(f"comparing {name}", total=None, read="")

            def one(obj: Object = obj) -> tuple[bool, str]:
                verdict = reconcile(self.db, connection.connector, obj)
                return verdict.complete, reconcile_line(verdict)

            self._told(name, one)
            bar.remove_task(task)

    def _told(self, name: str, work: Callable[[], tuple[bool, str]]) -> None:
        """Do it and say what became of it; a fault of one object does not end the others."""
        self._unless_stopped()
        try:
            good, line = self._patiently(work)
        except FatalError:
            self._unless_stopped()
            raise
        except CrmAssetsError as error:
            self._unless_stopped()
            good, line = False, str(error)
        self.console.print(f"{name}: {line}")
        if not good:
            self.unfinished.append(f"{name}: {line}")

    def _patiently(self, work: Callable[[], tuple[bool, str]]) -> tuple[bool, str]:
        """Another process may be reading the object, or have died while doing so a moment ago."""
        while True:
            try:
                return work()
            except RetriableError as error:
                if isinstance(error, QuotaExhausted) or time.monotonic() > self._deadline:
                    raise
                self.stop.wait(1.0)
                self._unless_stopped()

    def _compared(self, connection: str) -> set[str]:
        with self.db.transaction() as conn:
            rows = conn.execute(
                "SELECT object FROM crm_assets.cursor WHERE connection = %s AND complete IS NOT NULL", (connection,)
            ).fetchall()
        return {row[0] for row in rows}

    def _unless_stopped(self) -> None:
        if self.stop.is_set():
            raise _Cancelled
