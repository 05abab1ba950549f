"""Sandboxes without their imports: one process loads the program once and forks each sandbox from there.

A sandbox is still a process of its own, with its own standard output, and may be killed like any other. All of them
end with the test process.
"""

from __future__ import annotations

import gc
import json
import os
import random
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

_REPLY = 4096


class Nursery:
    """The process that forks; started when it is first needed."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "crm_assets_tests.plugins.nursery", str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._socket = ours
        self._lock = threading.Lock()

    def start(self, arguments: list[str], log: IO[str]) -> Child:
        """``python -m crm_assets.sandbox`` with these arguments; its errors go to ``log``."""
        reading, writing = os.pipe()
        try:
            pid = self._ask({"start": arguments}, [writing, log.fileno()])
        finally:
            os.close(writing)
        return Child(self, int(pid), os.fdopen(reading, encoding="utf-8"))

    def poll(self, pid: int) -> int | None:
        """As ``Popen.poll``."""
        code = self._ask({"poll": pid})
        return None if code is None else int(code)

    def close(self) -> None:
        self._socket.close()
        self._process.wait(20)

    def _ask(self, request: dict[str, Any], fds: list[int] | None = None) -> Any:
        with self._lock:
            socket.send_fds(self._socket, [json.dumps(request).encode() + b"\n"], fds or [])
            return json.loads(self._socket.recv(_REPLY))


class Child:
    """A forked sandbox, with what its callers need of ``subprocess.Popen``."""

    def __init__(self, nursery: Nursery, pid: int, stdout: IO[str]) -> None:
        self._nursery = nursery
        self.pid = pid
        self.stdout = stdout

    def poll(self) -> int | None:
        return self._nursery.poll(self.pid)

    def wait(self, timeout: float) -> int:
        end = time.monotonic() + timeout
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise TimeoutError(f"process {self.pid} did not end within {timeout} s")
            time.sleep(0.005)
        return code


def _warm() -> None:
    """Loads and builds here what each child would have to for itself: modules, standard objects, grammars."""
    import uvicorn

    from crm_assets.sandbox.__main__ import main  # noqa: F401  with the server
    from crm_assets.sandbox.app import House
    from crm_assets.sandbox.netsuite import suiteql
    from crm_assets.sandbox.room import VENDORS, Opening, open_rooms
    from crm_assets.sandbox.salesforce import soql

    with tempfile.TemporaryDirectory() as folder:
        rooms = open_rooms(VENDORS, Opening(Path(folder), None, rows=10))
        uvicorn.Config(House(rooms, {}).app, ws="none").load()
        for room in rooms:
            room.close()
    soql.parse("SELECT Id FROM Account")
    suiteql.parse("SELECT id FROM customer")
    # The children share these pages as long as no collection writes to them.
    gc.collect()
    gc.freeze()


def _serve(connection: socket.socket) -> None:
    """Until the test process closes its end, or ends."""
    _warm()
    codes: dict[int, int | None] = {}
    while True:
        data, fds, *_ = socket.recv_fds(connection, 1 << 16, 2)
        if not data:
            break
        request = json.loads(data)
        if "start" in request:
            pid = os.fork()
            if pid == 0:
                connection.close()
                _become_sandbox(request["start"], *fds)
            for fd in fds:
                os.close(fd)
            codes[pid] = None
            reply: Any = pid
        else:
            pid = request["poll"]
            if codes[pid] is None and (ended := os.waitpid(pid, os.WNOHANG))[0]:
                codes[pid] = os.waitstatus_to_exitcode(ended[1])
            reply = codes[pid]
        connection.sendall(json.dumps(reply).encode())
    for pid, code in codes.items():
        if code is None:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _become_sandbox(arguments: list[str], stdout: int, stderr: int) -> None:
    from crm_assets.sandbox.__main__ import main

    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for fd in (stdout, stderr):
        os.close(fd)
    random.seed()
    sys.argv = ["crm_assets.sandbox", *arguments]
    code = 1
    try:
        code = main()
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
