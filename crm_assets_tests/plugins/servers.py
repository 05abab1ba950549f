"""Servers of PostgreSQL that the machine has beside the embedded one."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from crm_assets.store import server_user
from crm_assets_tests.plugins.postgres import QUICK

_OPTIONS = {**QUICK, "listen_addresses": "127.0.0.1", "unix_socket_directories": "", "timezone": "UTC"}


def found() -> dict[int, Path]:
    """Directories with ``postgres`` and ``initdb`` by major version, as pg_config and Debian's layout tell them."""
    places = set(Path("/usr/lib/postgresql").glob("*/bin"))
    if shutil.which("pg_config"):
        told = subprocess.run(["pg_config", "--bindir"], capture_output=True, text=True, check=True)
        places.add(Path(told.stdout.strip()))
    servers = {}
    for place in sorted(places):
        if (place / "postgres").exists() and (place / "initdb").exists():
            told = subprocess.run([place / "postgres", "--version"], capture_output=True, text=True, check=True)
            number = re.search(r"\d+", told.stdout)
            assert number is not None, told.stdout
            servers[int(number[0])] = place
    return servers


@contextmanager
def running(programs: Path) -> Iterator[str]:
    """The superuser's URL of a new server; it ends with the body, or with this process."""
    user = server_user.find()
    home = Path(tempfile.mkdtemp(prefix="crm-assets-pg-"))
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = None
    try:
        if user is not None:
            os.chown(home, user.uid, user.gid)
        data = home / "data"
        subprocess.run(
            [programs / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync"],
            check=True,
            capture_output=True,
            cwd="/",
            **server_user.as_user(user),
        )
        options = [part for name, value in _OPTIONS.items() for part in ("-c", f"{name}={value}")]
        process = subprocess.Popen(
            [programs / "postgres", "-D", data, "-p", str(port), *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
            preexec_fn=server_user.stop_with_parent,
            **server_user.as_user(user),
        )
        url = f"postgresql://postgres@127.0.0.1:{port}/postgres"
        deadline = time.monotonic() + 30
        while not _answers(url):
            assert process.poll() is None and time.monotonic() < deadline, f"{programs} does not start"
            time.sleep(0.05)
        yield url
    finally:
        if process is not None:
            process.terminate()
            process.wait(30)
        shutil.rmtree(home, ignore_errors=True)


def _answers(url: str) -> bool:
    try:
        psycopg.connect(url, connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True
