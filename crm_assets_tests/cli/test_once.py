"""``up --once`` end to end, and the commands on what it left."""

from __future__ import annotations

import json
import signal
import stat

import psycopg

from crm_assets_tests.cli.terminal import TWO, Terminal
from crm_assets_tests.plugins.sandbox import Sandbox, wait_until

OBJECTS = {"account", "contact", "lead", "opportunity", "product2", "user"}


def test_once_syncs_compares_and_leaves_nothing_running(terminal: Terminal) -> None:
    up = terminal.run("up", "--once", "--rows", "60", "--sandbox-port", "0", seconds=240)
    assert up.returncode == 0, up.stdout + up.stderr
    assert "salesforce.account: complete" in up.stdout and up.stdout.rstrip().endswith("ok")
    wait_until(lambda: not terminal.processes(), 10)

    status = terminal.run("status", "--json")
    assert status.returncode == 0, status.stderr
    found = json.loads(status.stdout)
    objects = found["connections"]["salesforce"]["objects"]
    assert found["ok"] and set(objects) == OBJECTS
    assert all(one["rows"] > 0 and one["complete"] and one["cursor"] for one in objects.values())
    assert "account" in terminal.run("status").stdout
    assert terminal.run("url").returncode == 2, "status starts the server only for its own duration"

    for entry in terminal.home.rglob("*"):
        if "postgres" not in entry.relative_to(terminal.home).parts and entry.parent != terminal.home:
            assert not stat.S_IMODE(entry.parent.stat().st_mode) & 0o077 or entry.parent.parent != terminal.home
    for name in ("logs", "run", "sandbox", "dlt", "describe"):
        assert stat.S_IMODE((terminal.home / name).stat().st_mode) == 0o700

    again = terminal.run("up", "--once", "--sandbox-port", "0", seconds=240)
    assert again.returncode == 0, again.stdout + again.stderr
    assert "nothing new" in again.stdout


def test_once_exits_1_when_an_object_cannot_be_had(terminal: Terminal) -> None:
    terminal.only("{Product2: {}, Gadget__c: {}}")
    done = terminal.run("up", "--once", "--rows", "50", "--sandbox-port", "0", seconds=240)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "Gadget__c is not available" in done.stdout
    assert "product2: complete" in done.stdout, "the other object goes on"


def test_commands_on_a_configured_database_and_crm(
    terminal: Terminal, sandbox: Sandbox, database_url: str, writer_url: str
) -> None:
    terminal.environment |= {
        "CRM_ASSETS_DATABASE_URL": database_url,
        "SALESFORCE_URL": sandbox.url,
        "SALESFORCE_CLIENT_ID": "sandbox",
        "SALESFORCE_CLIENT_SECRET": "sandbox",
    }
    up = terminal.run("up", "--once", seconds=240)
    assert up.returncode == 0, up.stdout + up.stderr
    assert not (terminal.home / "postgres.json").exists(), "no server of its own"

    record_id = next(iter(sandbox.alive("Contact")))
    sandbox.update("Contact", record_id, LastName="Changed")

    def arrived() -> bool:
        """A change of this very second is for the next window."""
        done = terminal.run("sync", "salesforce", "Contact")
        assert done.returncode == 0 and "salesforce.contact: " in done.stdout, done.stdout + done.stderr
        with psycopg.connect(writer_url) as conn:
            row = conn.execute("SELECT last_name FROM salesforce.contact WHERE id = %s", (record_id,)).fetchone()
        return row == ("Changed",)

    wait_until(arrived, 30, every=1)
    assert terminal.run("sync", "salesforce", "--full").returncode == 0
    compared = terminal.run("reconcile", "salesforce", "contact", "Account")
    assert compared.returncode == 0 and "salesforce.account: complete" in compared.stdout
    described = terminal.run("describe")
    assert described.returncode == 0 and "salesforce.contact: Contact" in described.stdout

    unknown = terminal.run("sync", "salesforce", "Unicorn")
    assert unknown.returncode == 2 and "Unicorn" in unknown.stderr and "contact" in unknown.stderr
    unknown = terminal.run("reconcile", "hubspot")
    assert unknown.returncode == 2 and "hubspot" in unknown.stderr and "salesforce" in unknown.stderr

    assert terminal.run("url", "--role", "owner").stdout.strip() == database_url
    as_writer = terminal.run("url")
    assert as_writer.returncode == 2 and "GRANT crm_assets_writer TO" in as_writer.stderr


def test_an_interrupted_first_sync_stops_everything(terminal: Terminal) -> None:
    terminal.only(TWO)
    up = terminal.up("--once", "--rows", "20000")
    wait_until(lambda: up.child("crm_assets.sandbox"), 60)
    assert up.end(signal.SIGTERM) == 1
    wait_until(lambda: not terminal.processes(), 10)
