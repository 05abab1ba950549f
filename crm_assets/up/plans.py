"""The children: what each of them is, and how one knows that it works."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import psycopg

from crm_assets.store.database import plain_url
from crm_assets.up import ports, sandboxed
from crm_assets.up.child import Plan
from crm_assets.up.dagster_home import DagsterHome
from crm_assets.up.options import Options

BIN = Path(sys.executable).parent
"""Programs of the environment that runs us; it need not be on the PATH."""


def sandbox(
    home: Path, options: Options, port: int, grpc_port: int | None, vendors: Iterable[str], push: Iterable[str]
) -> Plan:
    """The local CRMs of these vendors. Their records are kept below the home."""
    command = [sys.executable, "-m", "crm_assets.sandbox", "--port", str(port), "--rows", str(options.rows)]
    command += ["--data-dir", str(sandboxed.data_dir(home))]
    if options.seed_dir is not None:
        command += ["--seed-dir", str(options.seed_dir.absolute())]
    if grpc_port is not None:
        command += ["--grpc-port", str(grpc_port)]
    for vendor in vendors:
        command += ["--vendor", vendor]
    for target in push:
        command += ["--push", target]
    return Plan("sandbox", command, {}, home, lambda: ports.answers(port), grace=10.0)


def relay(home: Path, port: int) -> Plan:
    command = [sys.executable, "-m", "crm_assets.cli", "relay", "--port", str(port)]
    # A call that is under way is finished first.
    return Plan("relay", command, {}, home, lambda: ports.answers(port), grace=30.0)


def webserver(dagster: DagsterHome, port: int) -> Plan:
    """Dagster's user interface, for this machine only: it knows no users."""
    command = [str(BIN / "dagster-webserver"), "-h", ports.HOST, "-p", str(port), "-w", str(dagster.workspace)]

    def ready() -> bool:
        try:
            with urllib.request.urlopen(f"http://{ports.HOST}:{port}/server_info", timeout=5) as reply:
                return bool(reply.status == 200)
        except (urllib.error.URLError, OSError):
            return False

    return Plan("dagster-webserver", command, dagster.environment, dagster.cwd, ready)


def load_problem(port: int) -> str | None:
    """Why the user interface shows no assets: the error that kept the definitions from loading, if one did."""
    query = """{ workspaceOrError { ... on Workspace { locationEntries { locationOrLoadError {
        ... on PythonError { message } } } } } }"""
    request = urllib.request.Request(
        f"http://{ports.HOST}:{port}/graphql",
        json.dumps({"query": query}).encode(),
        {"Content-Type": "application/json"},
    )
    try:
        with urllib.request.urlopen(request, timeout=30) as reply:
            entries = json.load(reply)["data"]["workspaceOrError"]["locationEntries"]
    except (urllib.error.URLError, OSError, ValueError, KeyError, TypeError) as error:
        return f"Dagster does not tell: {error}"
    messages = [(entry["locationOrLoadError"] or {}).get("message") for entry in entries]
    return next((lines[0] for message in messages if (lines := (message or "").strip().splitlines())), None)


def daemon(dagster: DagsterHome) -> Plan:
    """What ticks schedules and sensors and launches runs. Its heartbeat in its database says that it does."""
    command = [str(BIN / "dagster-daemon"), "run", "-w", str(dagster.workspace)]
    since = datetime.now(UTC).replace(tzinfo=None)

    def ready() -> bool:
        try:
            with psycopg.connect(plain_url(dagster.pg_url), connect_timeout=5) as conn:
                row = conn.execute("SELECT count(*) FROM daemon_heartbeats WHERE timestamp > %s", (since,)).fetchone()
        except psycopg.Error:
            return False
        return bool(row and row[0])

    return Plan("dagster-daemon", command, dagster.environment, dagster.cwd, ready)
