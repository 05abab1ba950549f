"""The two ends of a measured relay as processes: the relay itself, and the sandbox that stands for the CRM."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RELAY = "from crm_assets.relay import main; main(port=0)"


@dataclass(frozen=True)
class Running:
    """A process that has said where it listens."""

    pid: int
    url: str
    more: tuple[str, ...] = ()


def defs(url: str, secrets: Sequence[str], contacts: dict[str, Any], **attributes: Any) -> str:
    """A defs.yaml of contacts whose schedule never comes; each of the ``secrets`` is the variable BENCH_SECRET."""
    told = {
        "connection": "salesforce",
        "connector": "salesforce",
        "url": url,
        "credentials": dict.fromkeys(secrets, "BENCH_SECRET"),
        "schedule": "0 0 1 1 *",
        "objects": {"Contact": contacts},
    }
    # JSON is YAML, too.
    return json.dumps({"type": "crm_assets.components.CrmConnection", "attributes": told | attributes})


@contextmanager
def relay(home: Path, database: str, defs: str, secret: str) -> Iterator[Running]:
    """A relay of one connection, ``defs`` being its defs.yaml; its credentials are the variable BENCH_SECRET."""
    folder = home / "defs" / "salesforce"
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(defs, encoding="utf-8")
    environment = {
        "CRM_ASSETS_DATABASE_URL": database,
        "CRM_ASSETS_HOME": str(home),
        "CRM_ASSETS_DEFS": str(home / "defs"),
        "BENCH_SECRET": secret,
    }
    with _started(home / "relay.log", ["-c", _RELAY], "relay listening on ", environment) as running:
        yield running


@contextmanager
def sandbox(home: Path, records: int) -> Iterator[Running]:
    """A Salesforce of so many records of all objects together; ``more`` is the address of its stream of changes."""
    arguments = ["-m", "crm_assets.sandbox", "--vendor", "salesforce", "--port", "0", "--grpc-port", "0"]
    arguments += ["--data-dir", str(home / "sandbox"), "--rows", str(records)]
    with _started(home / "sandbox.log", arguments, "sandbox listening on ", {}, lines=2) as running:
        yield running


@contextmanager
def _started(
    log: Path, arguments: list[str], greeting: str, environment: dict[str, str], lines: int = 1
) -> Iterator[Running]:
    with log.open("w", encoding="utf-8") as errors:
        process = subprocess.Popen(
            [sys.executable, *arguments],
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=os.environ | environment,
        )
    assert process.stdout is not None
    try:
        said = [process.stdout.readline().strip() for _ in range(lines)]
        if not said[0].startswith(greeting):
            raise RuntimeError(f"{log.stem} did not start:\n{log.read_text(encoding='utf-8')[-2000:]}")
        yield Running(process.pid, said[0].removeprefix(greeting), tuple(line.split()[-1] for line in said[1:]))
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)
        process.stdout.close()
