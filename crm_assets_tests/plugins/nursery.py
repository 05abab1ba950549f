"""Sandboxes, relays and commands without their imports: one process loads a program once and forks each child from it.

A child is still a process of its own, with its own environment and standard output, and may be killed like any other.
All of them end with the test process.
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
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import IO, Any

_REPLY = 4096


class Nursery:
    """The process that forks one program, ``sandbox``, ``relay`` or ``command``."""

    def __init__(self, program: str) -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            command = [sys.executable, "-m", "crm_assets_tests.plugins.nursery", program, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL)
        self._socket = ours
        self._lock = threading.Lock()

    def start(
        self, arguments: list[str], log: IO[str], environment: Mapping[str, str] = os.environ, folder: str = "."
    ) -> Child:
        """The program with these arguments, in this folder; its errors go to ``log``."""
        reading, writing = os.pipe()
        try:
            order = {"start": arguments, "environment": dict(environment), "folder": folder}
            pid = self._ask(order, [writing, log.fileno()])
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
    """A forked process, with what its callers need of ``subprocess.Popen``."""

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


def _warm_sandbox() -> None:
    """Loads and builds what each sandbox would have to for itself: modules, standard objects, grammars."""
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


def _sandbox(arguments: list[str]) -> int:
    from crm_assets.sandbox.__main__ import main

    sys.argv = ["crm_assets.sandbox", *arguments]
    return main()


def _warm_relay() -> None:
    import crm_assets.connectors.salesforce.stream
    import crm_assets.relay.process  # noqa: F401


def _relay(arguments: list[str]) -> int:
    from crm_assets.relay import main

    main(port=int(arguments[0]))
    return 0


def _warm_command() -> None:
    import crm_assets.cli
    import crm_assets.relay.process
    import crm_assets.up.check
    import crm_assets.up.run
    import crm_assets.up.work  # noqa: F401


def _command(arguments: list[str]) -> int:
    from crm_assets.cli import app

    sys.argv = ["crm-assets", *arguments]
    app()
    return 0


_PROGRAMS = {
    "sandbox": (_warm_sandbox, _sandbox),
    "relay": (_warm_relay, _relay),
    "command": (_warm_command, _command),
}


def _serve(program: str, connection: socket.socket) -> None:
    """Until the test process closes its end, or ends."""
    warm, run = _PROGRAMS[program]
    warm()
    # The children share these pages as long as no collection writes to them.
    gc.collect()
    gc.freeze()
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
                _become(run, request, *fds)
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


def _become(run: Callable[[list[str]], int], request: dict[str, Any], stdout: int, stderr: int) -> None:
    os.dup2(stdout, 1)
    os.dup2(stderr, 2)
    for fd in (stdout, stderr):
        os.close(fd)
    os.environ.clear()
    os.environ.update(request["environment"])
    os.chdir(request["folder"])
    random.seed()
    code = 1
    try:
        code = run(request["start"])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:  # noqa: BLE001  told here, where nobody else can
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1], socket.socket(fileno=int(sys.argv[2])))
