"""The embedded Postgres as real processes: it starts, stops, dies with its starter, and opens nothing to others."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest

from crm_assets.core.errors import ConfigurationError
from crm_assets.store import embedded
from crm_assets.store.embedded import EmbeddedPostgres
from crm_assets_tests.plugins.sandbox import wait_until

MakeServer = Callable[[Path], EmbeddedPostgres]

STARTER = """
import sys, threading
from pathlib import Path
from crm_assets.store.embedded import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]))
server.start()
print(server.pid or 0, server.url(), flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture
def make_server() -> Iterator[MakeServer]:
    """Servers that are stopped, and whose data is removed, after the test."""
    made: list[EmbeddedPostgres] = []

    def make(home: Path) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(home))
        return made[-1]

    yield make
    for server in made:
        data = server.data
        server.stop()
        if data is not None:
            shutil.rmtree(data, ignore_errors=True)


def start_in_process(home: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", STARTER, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def first_line(process: subprocess.Popen[str]) -> tuple[int, str]:
    assert process.stdout is not None
    pid, url = process.stdout.readline().split()
    return int(pid), url


def end(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None and process.stdout is not None
    process.stdin.close()
    process.wait(30)
    process.stdout.close()


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_it_starts_stops_and_keeps_what_was_committed(make_server: MakeServer, home: Path) -> None:
    server = make_server(home)
    with pytest.raises(ConfigurationError, match="crm-assets up"):
        server.url()
    assert not server.running()
    server.start()
    assert server.running() and embedded.running_url(home) == server.url()
    with psycopg.connect(server.url()) as conn:
        conn.execute("CREATE TABLE kept (x int)")
        conn.execute("INSERT INTO kept VALUES (42)")
    server.stop()
    assert not server.running() and embedded.running_url(home) is None
    server.start()
    with psycopg.connect(server.url()) as conn:
        assert conn.execute("SELECT x FROM kept").fetchall() == [(42,)]


def test_no_login_is_a_superuser_and_each_needs_its_password(make_server: MakeServer, home: Path) -> None:
    server = make_server(home)
    server.start()
    passwords = set()
    for role in ("owner", "writer", "reader"):
        url = server.url(role)
        with psycopg.connect(url) as conn:
            assert conn.execute("SELECT current_setting('is_superuser')").fetchone() == ("off",)
            assert conn.execute("SHOW listen_addresses").fetchone() == ("127.0.0.1",)
            passwords.add(conn.info.password)
            wrong = url.replace(conn.info.password, "guess")
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(wrong)
    assert len(passwords) == 3


def test_passwords_and_logs_are_for_the_owner_only(make_server: MakeServer, home: Path) -> None:
    server = make_server(home)
    server.start()
    assert mode(home / "postgres.json") == 0o600
    assert mode(home / "logs") == 0o700 and mode(home / "logs" / "postgres.log") == 0o600
    assert server.data is not None and mode(server.data) == 0o700


@pytest.mark.parametrize("closed", [0o700, 0o711])
def test_no_directory_of_the_user_is_opened_to_others(make_server: MakeServer, tmp_path: Path, closed: int) -> None:
    above = tmp_path / "above"
    above.mkdir(mode=closed)
    before = {path: mode(path) for path in (above, *above.parents)}
    server = make_server(above / "home")
    server.start()
    assert {path: mode(path) for path in before} == before
    assert mode(above / "home") == (0o711 if os.geteuid() == 0 else 0o700)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ties a process to its parent")
def test_a_killed_starter_leaves_no_server(make_server: MakeServer, home: Path) -> None:
    starter = start_in_process(home)
    pid, url = first_line(starter)
    psycopg.connect(url).close()
    starter.send_signal(signal.SIGKILL)
    end(starter)
    wait_until(lambda: not alive(pid), 20)
    server = make_server(home)
    server.start()  # and nothing stands in the way of the next one
    assert server.pid != pid


def test_a_port_taken_meanwhile_is_left_to_its_new_owner(make_server: MakeServer, home: Path) -> None:
    server = make_server(home)
    server.start()
    with psycopg.connect(server.url()) as conn:
        port = conn.info.port
    server.stop()
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        other.bind(("127.0.0.1", port))
        other.listen()
        server.start()
        with psycopg.connect(server.url()) as conn:
            assert conn.info.port != port


def test_a_killed_server_is_started_again_at_its_address(make_server: MakeServer, home: Path) -> None:
    server = make_server(home)
    server.start()
    url, pid = server.url(), server.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not server.running(), 10)
    server.start()
    assert server.url() == url and server.pid != pid
    psycopg.connect(url).close()


def test_two_starters_at_once_share_one_server(make_server: MakeServer, home: Path) -> None:
    starters = [start_in_process(home) for _ in range(2)]
    try:
        told = [first_line(starter) for starter in starters]
        assert told[0][1] == told[1][1]
        assert sorted(pid > 0 for pid, _ in told) == [False, True]  # one of them found it running
        psycopg.connect(told[0][1]).close()
    finally:
        for starter in starters:
            end(starter)
        make_server(home)
