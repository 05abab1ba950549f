"""Measurements: each is a whole process of its own, seen from outside."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any


@dataclass(frozen=True)
class Flow:
    """Changes that do not stop: for how long, and how many a second in each direction."""

    seconds: float
    rate: float


@dataclass(frozen=True)
class Setting:
    """What a measured process is told: which work by which system, and where its two ends are."""

    work: str
    system: str
    rows: int
    server: str
    database: str
    writer: str
    home: str
    changed: int = 0
    flow: Flow | None = None


@dataclass(frozen=True)
class Measured:
    """Seconds of the work alone; of the whole process, imports included, peak memory in MB and CPU seconds. ``more`` is
    what only this work tells."""

    rows: int
    seconds: float
    peak_mb: float
    cpu: float
    more: Mapping[str, Any] = field(default_factory=dict)

    @property
    def rate(self) -> float:
        return self.rows / self.seconds


def run(setting: Setting) -> Measured:
    """Do the work in a new process. RuntimeError with what it said if it fails."""
    command = [sys.executable, "-m", "crm_assets_tests.bench.child", json.dumps(asdict(setting))]
    environment = os.environ | {"RUNTIME__DLTHUB_TELEMETRY": "false", "RUNTIME__LOG_LEVEL": "ERROR"}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stdout is not None and process.stderr is not None
    with process.stdout, process.stderr:
        said, complained = process.stdout.read(), process.stderr.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{setting.work} by {setting.system} failed:\n{complained[-3000:]}")
    told = json.loads(said.splitlines()[-1])
    peak = told.get("peak_mb", usage.ru_maxrss / 1024)
    return Measured(told["rows"], told["seconds"], peak, usage.ru_utime + usage.ru_stime, told.get("more", {}))


@contextmanager
def served(rows: int, changed: int = 0, delay: float = 0.0) -> Iterator[str]:
    """The address of a server of prepared bytes, for as long as the body runs."""
    command = [sys.executable, "-m", "crm_assets_tests.bench.server", str(rows), str(changed), str(delay)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def result(work: str, system: str, measured: list[Measured], limit: list[Measured] | None) -> dict[str, Any]:
    """One entry of bench.json. The ratio compares rates of runs that stood side by side."""
    seconds = [one.seconds for one in measured]
    ratios = [one.rate / least.rate for one, least in zip(measured, limit, strict=False)] if limit else []
    return {
        "work": work,
        "system": system,
        "rows": measured[0].rows,
        "seconds": {
            "median": round(median(seconds), 4),
            "min": round(min(seconds), 4),
            "max": round(max(seconds), 4),
        },
        "rows_per_second": round(measured[0].rows / median(seconds), 1),
        "peak_mb": round(max(one.peak_mb for one in measured), 1),
        "ratio_to_limit": round(median(ratios), 3) if ratios else None,
        **measured[-1].more,
    }
