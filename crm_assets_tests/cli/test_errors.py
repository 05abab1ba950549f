"""What a person can mend is one clear line on stderr and exit code 2."""

from __future__ import annotations

import socket
import subprocess
import sys
from pathlib import Path

import pytest

from crm_assets_tests.cli.terminal import Terminal, free_ports

UNREACHABLE = "postgresql://someone:hush@127.0.0.1:1/crm"
COMMANDS = ("up", "sandbox", "relay", "status", "url", "describe", "sync", "reconcile", "check")


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    """Exit 2 and one line that holds the words."""
    assert done.returncode == 2, done.stdout + done.stderr
    lines = done.stderr.strip().splitlines()
    assert len(lines) == 1, done.stderr
    for word in words:
        assert word in lines[0]


def defs(directory: Path, text: str) -> str:
    (directory / "defs" / "salesforce").mkdir(parents=True)
    (directory / "defs" / "salesforce" / "defs.yaml").write_text(text, encoding="utf-8")
    return str(directory / "defs")


def test_help_names_every_command_and_loads_nothing_heavy(terminal: Terminal) -> None:
    done = terminal.run("--help")
    assert done.returncode == 0
    for name in COMMANDS:
        assert f" {name} " in done.stdout
    code = "import sys, crm_assets.cli; print({'pyarrow', 'psycopg', 'sqlalchemy', 'dlt', 'dagster'} & {*sys.modules})"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == "set()"


def test_url_with_nothing_running_says_how_to_start(terminal: Terminal) -> None:
    refused(terminal.run("url"), "crm-assets up")
    refused(terminal.run("url", "--role", "king"), "king", "writer, reader, owner")


@pytest.mark.parametrize(
    "command", [["up"], ["up", "--once"], ["status"], ["url"], ["check"], ["relay", "--port", "0"]]
)
def test_a_database_out_of_reach_is_named_without_its_password(terminal: Terminal, command: list[str]) -> None:
    if command[0] == "up":
        dagster, sandbox, relay = map(str, free_ports(3))
        command += ["--dagster-port", dagster, "--sandbox-port", sandbox, "--relay-port", relay]
    done = terminal.run(*command, CRM_ASSETS_DATABASE_URL=UNREACHABLE)
    refused(done, "127.0.0.1:1", "CRM_ASSETS_DATABASE_URL")
    assert "hush" not in done.stdout + done.stderr


def test_a_url_that_is_none(terminal: Terminal) -> None:
    refused(terminal.run("status", CRM_ASSETS_DATABASE_URL="mysql://x"), "CRM_ASSETS_DATABASE_URL", "postgresql://")


@pytest.mark.parametrize("option", ["--dagster-port", "--sandbox-port", "--relay-port"])
def test_up_names_the_busy_port_before_anything_starts(terminal: Terminal, option: str) -> None:
    ports = dict(zip(("--dagster-port", "--sandbox-port", "--relay-port"), map(str, free_ports(3)), strict=True))
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        ports[option] = str(busy.getsockname()[1])
        done = terminal.run("up", *(word for pair in ports.items() for word in pair))
        refused(done, ports[option], option)
    assert not (terminal.home / "postgres.json").exists()
    assert terminal.processes() == {}


@pytest.mark.parametrize("command", [["up"], ["check"], ["sync", "salesforce"]])
def test_a_broken_defs_yaml_is_named_with_its_place(terminal: Terminal, tmp_path: Path, command: list[str]) -> None:
    folder = defs(tmp_path, "type: crm_assets.components.CrmConnection\nattributes:\n  connection: [\n")
    if command == ["up"]:
        command = ["up", "--dagster-port", "0", "--sandbox-port", "0", "--relay-port", "0"]
    done = terminal.run(*command, CRM_ASSETS_DEFS=folder)
    refused(done, "defs.yaml:4: this is no YAML")


def test_an_unknown_key_is_named_with_its_line(terminal: Terminal, tmp_path: Path) -> None:
    text = "type: crm_assets.components.CrmConnection\nattributes:\n  connection: salesforce\n  connectr: salesforce\n"
    refused(
        terminal.run("check", CRM_ASSETS_DEFS=defs(tmp_path, text)),
        "defs.yaml:4",
        "connectr",
        "did you mean connector?",
    )


def test_no_connection_at_all(terminal: Terminal, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    refused(terminal.run("check", CRM_ASSETS_DEFS=str(tmp_path / "empty")), "no connection", "defs.yaml")


def test_check_names_a_missing_credential(terminal: Terminal) -> None:
    done = terminal.run("check", SALESFORCE_URL="https://acme.my.salesforce.com")
    refused(done, "SALESFORCE_CLIENT_ID")


def test_check_of_a_fresh_checkout_is_fine(terminal: Terminal) -> None:
    done = terminal.run("check")
    assert done.returncode == 0, done.stderr
    assert "salesforce" in done.stdout and done.stdout.endswith("ok\n")


def test_up_without_the_credentials_of_a_configured_crm_starts_nothing(terminal: Terminal) -> None:
    done = terminal.run("up", "--once", SALESFORCE_URL="http://127.0.0.1:1")
    refused(done, "SALESFORCE_CLIENT_ID")
    assert not (terminal.home / "postgres.json").exists()


def test_a_seed_directory_that_is_none(terminal: Terminal, tmp_path: Path) -> None:
    refused(terminal.run("up", "--seed-dir", str(tmp_path / "nowhere")), "--seed-dir", "nowhere")


def test_the_sandbox_says_that_its_port_is_busy(terminal: Terminal) -> None:
    with socket.socket() as busy:
        busy.bind(("127.0.0.1", 0))
        busy.listen()
        refused(terminal.run("sandbox", "--port", str(busy.getsockname()[1])), "port")
