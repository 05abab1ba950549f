"""A terminal: runs ``crm-assets`` in a home of its own, and sees which processes that left behind."""

from __future__ import annotations

import contextlib
import os
import queue
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from crm_assets.store.embedded import EmbeddedPostgres
from crm_assets_tests.plugins.sandbox import nursery

PROGRAM = [sys.executable, "-m", "crm_assets.cli"]

_DEFS = """type: crm_assets.components.CrmConnection
attributes:
  connection: salesforce
  connector: salesforce
  url: "{{ env('SALESFORCE_URL') }}"
  credentials:
    client_id: SALESFORCE_CLIENT_ID
    client_secret: SALESFORCE_CLIENT_SECRET
    webhook_secret: SALESFORCE_WEBHOOK_SECRET
  objects: OBJECTS
"""
_WRITABLE = "{write: true, external_id: Crm_Assets_Row_Id__c}"
TWO = f"{{Account: {_WRITABLE}, Contact: {_WRITABLE}}}"


def free_ports(count: int) -> list[int]:
    """Ports that nobody has at the moment; all of them different."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


class Terminal:
    """Commands with one home. The variables of the developer's own set-up do not reach them."""

    def __init__(self, home: Path, **environment: str) -> None:
        self.home = home
        self.environment = environment
        self.started: list[Up] = []

    def only(self, objects: str) -> None:
        """Leave nothing to sync but these objects of Salesforce, a YAML mapping as in defs.yaml."""
        folder = self.home.parent / "defs" / "salesforce"
        folder.mkdir(parents=True)
        (folder / "defs.yaml").write_text(_DEFS.replace("OBJECTS", objects), encoding="utf-8")
        self.environment |= {"CRM_ASSETS_DEFS": str(folder.parent)}

    def run(self, *arguments: str, seconds: float = 120, **more: str) -> subprocess.CompletedProcess[str]:
        """Run a command to its end."""
        with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
            child = nursery("command").start(list(arguments), errors, self.env(more), str(self.home.parent))
            watchdog = threading.Timer(seconds, os.kill, (child.pid, signal.SIGKILL))
            watchdog.start()
            try:
                with child.stdout:
                    told = child.stdout.read()
                code = child.wait(20)
            finally:
                watchdog.cancel()
            errors.seek(0)
            return subprocess.CompletedProcess(arguments, code, told, errors.read())

    def up(self, *arguments: str, **more: str) -> Up:
        """``crm-assets up`` on free ports, in the background."""
        self.started.append(Up(self, arguments, self.env(more)))
        return self.started[-1]

    def env(self, more: Mapping[str, str]) -> dict[str, str]:
        return os.environ | {"CRM_ASSETS_HOME": str(self.home), "COLUMNS": "200"} | self.environment | dict(more)

    def close(self) -> None:
        """Nothing of this home is left afterwards."""
        for up in self.started:
            up.kill()
        for pid in self.processes():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        server = EmbeddedPostgres(self.home)
        if server.data is not None:
            with contextlib.suppress(OSError, ValueError, IndexError):
                os.kill(int((server.data / "postmaster.pid").read_text(encoding="ascii").split()[0]), signal.SIGINT)
            deadline = time.monotonic() + 20
            while server.running() and time.monotonic() < deadline:
                time.sleep(0.1)
            shutil.rmtree(server.data, ignore_errors=True)

    def processes(self) -> dict[int, str]:
        """All living processes that work for this home, Postgres and grandchildren included."""
        found = {}
        mark = f"CRM_ASSETS_HOME={self.home}".encode()
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (entry / "cmdline").read_bytes()
                ours = mark in (entry / "environ").read_bytes().split(b"\0")
                state = (entry / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
                if ours and state != "Z":
                    found[int(entry.name)] = words.replace(b"\0", b" ").decode()
        return found


class Up:
    """A running ``crm-assets up``."""

    def __init__(self, terminal: Terminal, arguments: tuple[str, ...], environment: dict[str, str]) -> None:
        self.dagster, self.sandbox, self.relay = free_ports(3)
        ports = ["--dagster-port", self.dagster, "--sandbox-port", self.sandbox, "--relay-port", self.relay]
        self.lines: list[str] = []
        self._terminal = terminal
        self._queue: queue.Queue[str | None] = queue.Queue()
        self.process = subprocess.Popen(
            [*PROGRAM, "up", *map(str, ports), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            cwd=terminal.home.parent,
        )
        assert self.process.stdout is not None
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str]) -> None:
        for line in stream:
            self._queue.put(line.rstrip("\n"))
        self._queue.put(None)

    def wait_for(self, text: str, seconds: float = 120) -> str:
        """The first line, from here on, that holds the text."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._queue.get(timeout=max(0.01, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"no {text!r} within {seconds} s\n{self.told()}") from None
            if line is None:
                raise AssertionError(f"it ended without {text!r}\n{self.told()}")
            self.lines.append(line)
            if text in line:
                return line

    def told(self) -> str:
        """Everything it said, and the ends of its logs: what one wants to know when a test fails."""
        while not self._queue.empty():
            self.lines.append(self._queue.get() or "")
        parts = list(self.lines)
        for log in sorted((self._terminal.home / "logs").glob("*.log")):
            parts += [f"--- {log.name}", *log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:]]
        return "\n".join(parts)

    def child(self, part: str) -> int | None:
        """The process number of one of its children, by a part of its command line."""
        return next((pid for pid, words in self._terminal.processes().items() if part in words), None)

    def end(self, how: signal.Signals, seconds: float = 60) -> int:
        self.process.send_signal(how)
        code = self.process.wait(seconds)
        self._reader.join(10)
        return code

    def kill(self) -> None:
        if self.process.poll() is None:
            self.end(signal.SIGKILL)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
