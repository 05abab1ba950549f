"""A sandbox as a real process, and a handle on its control API.

A folder's conftest.py makes the fixtures its own:
``from crm_assets_tests.plugins.sandbox import make_sandbox, sandbox``.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.nursery import Child, Nursery

MakeSandbox = Callable[..., "Sandbox"]
_READY = "sandbox listening on "


class Sandbox:
    """One running sandbox. All helpers act on ``connection``, as a CRM user or as its owner would.

    ``vendors`` are the rooms it opens: without it, only that of ``connection``.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        rows: int = 100,
        seed_dir: Path | None = None,
        port: int = 0,
        push: tuple[str, ...] = (),
        session_seconds: float | None = None,
        keep_alive_seconds: float | None = None,
        streams: bool = False,
        connection: str = "salesforce",
        vendors: tuple[str, ...] = (),
    ) -> None:
        self.data_dir = data_dir
        self.connection = connection
        self.url = ""
        self.pubsub = ""
        self._port = port
        self._streams = streams
        self._arguments = ["--data-dir", str(data_dir), "--rows", str(rows)]
        for vendor in vendors or (connection,):
            self._arguments += ["--vendor", vendor]
        if seed_dir is not None:
            self._arguments += ["--seed-dir", str(seed_dir)]
        if session_seconds is not None:
            self._arguments += ["--session-seconds", str(session_seconds)]
        if keep_alive_seconds is not None:
            self._arguments += ["--keep-alive-seconds", str(keep_alive_seconds)]
        for target in push:
            self._arguments += ["--push", target]
        self._process: Child | None = None
        self._http: httpx.Client | None = None
        self.start()

    def start(self) -> None:
        """Starts it, again at the same address if it ran before."""
        arguments = ["--port", str(self._port), *self._arguments]
        if self._streams:
            arguments += ["--grpc-port", self.pubsub.rpartition(":")[2] or "0"]
        with (self.data_dir.parent / f"{self.data_dir.name}.log").open("a", encoding="utf-8") as log:
            self._process = nursery("sandbox").start(arguments, log)
        line = self._process.stdout.readline()
        if not line.startswith(_READY):
            self._process.wait(10)
            raise RuntimeError(f"the sandbox did not start: {self.log[-2000:]}")
        self.url = line.removeprefix(_READY).strip()
        self._port = int(self.url.rpartition(":")[2])
        if self._streams:
            self.pubsub = self._process.stdout.readline().rpartition(" ")[2].strip()
        self._http = httpx.Client(base_url=f"{self.url}/_sandbox/{self.connection}", timeout=60, trust_env=False)

    @property
    def log(self) -> str:
        return (self.data_dir.parent / f"{self.data_dir.name}.log").read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def stop(self) -> int:
        """Asks it to stop; returns its exit code."""
        return self._end(signal.SIGTERM)

    def kill(self) -> int:
        """Takes it away without a word."""
        return self._end(signal.SIGKILL)

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        if self._http:
            self._http.close()
        if self._process.poll() is None:
            os.kill(self._process.pid, how)
        code = self._process.wait(20)
        self._process.stdout.close()
        return code

    def control(self, method: str, path: str, body: Any = None, **params: str) -> Any:
        """One call of the control API; raises httpx.HTTPStatusError on a refusal."""
        assert self._http is not None
        reply = self._http.request(method, path, json=body, params=params or None)
        if reply.is_error:
            raise httpx.HTTPStatusError(f"{reply.status_code}: {reply.text}", request=reply.request, response=reply)
        return reply.json()

    def records(self, name: str) -> dict[str, dict[str, Any]]:
        """The ground truth by id, the recycle bin too: ``{"id", "deleted", "modified_at", "fields"}``."""
        found: dict[str, dict[str, Any]] = {}
        after = ""
        while True:
            page = self.control("GET", f"/{name}", after=after)
            found |= {one["id"]: one for one in page["records"]}
            after = page["next"]
            if after is None:
                return found

    def alive(self, name: str) -> dict[str, dict[str, Any]]:
        """The fields of the records that are not deleted, by id."""
        return {key: one["fields"] for key, one in self.records(name).items() if not one["deleted"]}

    def create(self, name: str, /, **fields: Any) -> str:
        return str(self.control("POST", f"/{name}", {"fields": fields})["id"])

    def update(self, name: str, record_id: str, /, **fields: Any) -> None:
        self.control("PATCH", f"/{name}/{record_id}", {"fields": fields})

    def delete(self, name: str, record_id: str) -> None:
        self.control("DELETE", f"/{name}/{record_id}")

    def undelete(self, name: str, record_id: str) -> None:
        self.control("POST", f"/{name}/{record_id}/undelete")

    def merge(self, name: str, winner: str, losers: list[str]) -> None:
        self.control("POST", f"/{name}/merge", {"winner": winner, "losers": losers})

    def faults(self, *faults: dict[str, Any]) -> None:
        """Orders faults, such as ``{"kind": "503", "path": "/query", "times": 2}``."""
        self.control("POST", "/faults", {"faults": list(faults)})

    def clear_faults(self) -> None:
        self.control("DELETE", "/faults")

    def calls(self) -> dict[str, Any]:
        return dict(self.control("GET", "/calls"))

    def reset_calls(self) -> None:
        self.control("DELETE", "/calls")

    def limits(self, **limits: int) -> None:
        self.control("POST", "/limits", limits)

    def schema(self, name: str, action: str, field: str, **more: Any) -> None:
        self.control("POST", "/schema", {"object": name, "action": action, "field": field, **more})

    def subscribe(self, url: str, secret: str = "sandbox") -> None:
        self.control("POST", "/subscriptions", {"url": url, "secret": secret})

    def unsubscribe(self, url: str) -> None:
        self.control("DELETE", "/subscriptions", {"url": url})

    def api(self, **options: Any) -> httpx.Client:
        """A client of the vendor's API with a session that never ends; close it after use."""
        headers = {"Authorization": "Bearer sandbox"} | options.pop("headers", {})
        url = f"{self.url}/services/data/v67.0"
        return httpx.Client(base_url=url, headers=headers, timeout=60, trust_env=False, **options)


@cache
def nursery(program: str) -> Nursery:
    """The one of this test process."""
    return Nursery(program)


def wait_until(condition: Callable[[], Any], seconds: float = 10.0, every: float = 0.05) -> Any:
    """The first true answer of a condition; AssertionError if it takes too long."""
    end = time.monotonic() + seconds
    while True:
        if value := condition():
            return value
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(every)


def _make() -> Iterator[MakeSandbox]:
    running: list[Sandbox] = []
    with tempfile.TemporaryDirectory(prefix="sandbox-") as folder:

        def make(**options: Any) -> Sandbox:
            data_dir = options.pop("data_dir", None) or Path(folder) / str(len(running))
            running.append(Sandbox(data_dir, **options))
            return running[-1]

        yield make
        for one in running:
            one.kill()


@pytest.fixture
def make_sandbox() -> Iterator[MakeSandbox]:
    """Starts sandboxes: ``make_sandbox(rows=…, seed_dir=…)``; all are gone after the test."""
    yield from _make()


@pytest.fixture
def sandbox(make_sandbox: MakeSandbox) -> Sandbox:
    """A fresh sandbox with about a hundred records."""
    return make_sandbox()


@pytest.fixture(scope="module")
def module_sandbox() -> Iterator[Sandbox]:
    """One sandbox for all tests of a module: for tests that do not disturb each other."""
    for make in _make():
        yield make()
