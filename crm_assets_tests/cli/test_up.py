"""``crm-assets up`` as people run it: it serves, mends itself, and ends without leaving anything behind."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator

import httpx
import psycopg

from crm_assets.up import proc
from crm_assets_tests.cli.terminal import PROGRAM, TWO, Terminal, Up
from crm_assets_tests.plugins.sandbox import wait_until

CHILDREN = ("crm_assets.sandbox", "crm_assets.cli relay", "dagster-webserver", "dagster-daemon", "bin/postgres")
RESTART_S = 5.0
"""From the end of a child to the start of the next one; given some more on a busy machine."""


def name_of(url: str, record_id: str) -> str | None:
    with psycopg.connect(url) as conn:
        row = conn.execute("SELECT last_name FROM salesforce.contact WHERE id = %s", (record_id,)).fetchone()
    return row[0] if row else None


def in_crm(up: Up) -> Iterator[tuple[str, dict[str, object]]]:
    page = httpx.get(f"http://127.0.0.1:{up.sandbox}/_sandbox/salesforce/Contact", trust_env=False, timeout=30)
    for record in page.json()["records"]:
        yield record["id"], record["fields"]


def test_up_serves_after_a_killed_one_mends_itself_and_stops(terminal: Terminal) -> None:
    terminal.only(TWO)
    stray = killed_while_it_starts(terminal)
    up = terminal.up("--rows", "200")
    up.wait_for("stopped stray")
    assert stray not in terminal.processes()
    assert f"http://127.0.0.1:{up.dagster}" in up.wait_for("Dagster ", 180), up.told()
    url = up.wait_for("Database ").split()[-1]
    assert f"http://127.0.0.1:{up.sandbox}" in up.wait_for("Sandbox ")
    assert up.wait_for("ready") == "ready"

    # The addresses that it told are real, for this machine only, and the product is no superuser.
    assert terminal.run("url").stdout.strip() == url
    with psycopg.connect(url) as conn:
        assert conn.execute("SELECT current_user, current_setting('is_superuser')").fetchone() == (
            "crm_assets_writer",
            "off",
        )
        record = conn.execute("SELECT id FROM salesforce.contact ORDER BY id LIMIT 1").fetchone()
    assert record is not None
    with urllib.request.urlopen(f"http://127.0.0.1:{up.dagster}/server_info", timeout=30) as reply:
        assert reply.status == 200
    assert terminal.run("status").returncode == 0

    # A second one of the same home is refused, whatever ports it asks for.
    second = terminal.run("up", "--dagster-port", "0", "--sandbox-port", "0", "--relay-port", "0")
    assert second.returncode == 2 and "runs already" in second.stderr and len(second.stderr.splitlines()) == 1

    # The relay brings single changes in both directions.
    control = f"http://127.0.0.1:{up.sandbox}/_sandbox/salesforce/Contact/{record[0]}"
    httpx.patch(control, json={"fields": {"LastName": "Inward"}}, trust_env=False).raise_for_status()
    wait_until(lambda: name_of(url, record[0]) == "Inward", 20)
    with psycopg.connect(url) as conn:
        conn.execute("UPDATE salesforce.contact SET last_name = 'Outward' WHERE id = %s", record)
    wait_until(lambda: dict(in_crm(up))[record[0]]["LastName"] == "Outward", 20)

    # Every child that is killed comes back.
    for part in CHILDREN:
        pid = up.child(part)
        assert pid is not None, up.told()
        os.kill(pid, signal.SIGKILL)
        started = time.monotonic()
        wait_until(lambda part=part, pid=pid: up.child(part) not in (None, pid), 20)  # type: ignore[misc]
        assert time.monotonic() - started < RESTART_S * 2, part
    wait_until(lambda: terminal.run("url").stdout.strip() == url, 20)

    def again() -> bool:
        try:
            httpx.patch(control, json={"fields": {"LastName": "Again"}}, trust_env=False).raise_for_status()
            return name_of(url, record[0]) == "Again"
        except (httpx.HTTPError, psycopg.OperationalError):
            return False

    wait_until(again, 60, every=0.5)

    assert up.end(signal.SIGTERM) == 0, up.told()
    wait_until(lambda: not terminal.processes(), 5)
    assert list((terminal.home / "run").iterdir()) == []


def killed_while_it_starts(terminal: Terminal) -> int:
    """An ``up`` that is killed takes its children along where the system ties them to it. What stays behind all the
    same is for the next one to stop, and only if it is what was recorded."""
    up = terminal.up("--rows", "200")
    wait_until(lambda: up.child("dagster-webserver") and up.child("crm_assets.cli relay"), 120)
    up.end(signal.SIGKILL)
    if sys.platform == "linux":
        wait_until(lambda: not terminal.processes(), 20)
    return stray_child(terminal)


def stray_child(terminal: Terminal) -> int:
    """A child as an ``up`` records it, that does not mind its parent's end."""
    child = subprocess.Popen(
        [sys.executable, "-c", "import time; time.sleep(600)"], env=terminal.env({}), start_new_session=True
    )
    record = {"pid": child.pid, "start_time": proc.start_time(child.pid)}
    (terminal.home / "run" / "stray.json").write_text(json.dumps(record), encoding="utf-8")
    # A number that belongs to somebody else by now: this very process.
    other = {"pid": os.getpid(), "start_time": "1"}
    (terminal.home / "run" / "reused.json").write_text(json.dumps(other), encoding="utf-8")
    return child.pid


def test_a_ctrl_c_while_it_starts_stops_everything(terminal: Terminal) -> None:
    terminal.only(TWO)
    up = terminal.up("--rows", "2000")
    wait_until(lambda: up.child("dagster-webserver"), 60)
    assert up.end(signal.SIGINT) == 0, up.told()
    wait_until(lambda: not terminal.processes(), 5)


def test_the_relay_alone_brings_its_database_and_takes_it_away(terminal: Terminal) -> None:
    process = subprocess.Popen(
        [*PROGRAM, "relay", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        env=terminal.env({}),
        cwd=terminal.home.parent,
    )
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline().startswith("relay listening on http://127.0.0.1:")
        assert terminal.run("url").returncode == 0
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
    wait_until(lambda: not terminal.processes(), 5)
    assert terminal.run("url").returncode == 2
