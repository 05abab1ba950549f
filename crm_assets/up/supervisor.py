"""Keeps the children running: what ends by itself is started again, what is stopped is stopped in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from crm_assets.core.errors import CrmAssetsError, FatalError
from crm_assets.store.embedded import EmbeddedPostgres
from crm_assets.up.child import Child, Plan

Say = Callable[[str], None]

_LOOK_EVERY = 0.1
_ASK_SERVER_EVERY = 2.0
_START_ATTEMPTS = 3


class Stopped(Exception):
    """Somebody asked for the end."""


class Supervisor:
    """All methods belong to the main thread: a child's life is tied to the thread that started it."""

    def __init__(self, home: Path, server: EmbeddedPostgres | None, stop: threading.Event, say: Say) -> None:
        self.children: list[Child] = []
        self._home = home
        self._server = server
        self._stop = stop
        self._say = say
        self._asked_server = time.monotonic()
        self._server_pause = 0.0

    def start(self, plan: Plan) -> Child:
        child = Child(plan, self._home)
        self.children.append(child)
        child.start()
        return child

    def until(self, condition: Callable[[], bool], seconds: float | None = None) -> bool:
        """Watch the children until the condition is true; False when ``seconds`` passed. Raises Stopped."""
        deadline = None if seconds is None else time.monotonic() + seconds
        while not condition():
            if self._stop.is_set():
                raise Stopped
            if deadline is not None and time.monotonic() > deadline:
                return False
            self._look()
            self._stop.wait(_LOOK_EVERY)
        return True

    def until_ready(self, children: Sequence[Child], seconds: float = 120.0) -> None:
        """Watch until all of them do their work; FatalError names the one that does not, and its log."""
        for child in children:
            came = self.until(lambda c=child: c.restarts >= _START_ATTEMPTS or c.plan.ready(), seconds)  # type: ignore[misc]
            if not came or child.restarts >= _START_ATTEMPTS:
                raise FatalError(f"{child.plan.name} does not start; see {child.log}{_last_words(child.log)}")

    def stop(self) -> None:
        """Stop everything, the last started first; those of the same kind of work end side by side."""
        talkers = [child for child in self.children if child.plan.name != "sandbox"]
        for group in (talkers, [child for child in self.children if child not in talkers]):
            for child in group:
                child.ask_to_stop()
            for child in group:
                child.stop()
        self.children.clear()

    def _look(self) -> None:
        self._look_at_server()
        for child in self.children:
            code = child.ended()
            if code is not None:
                pause = child.bury()
                when = f"in {pause:g} s" if pause else "now"
                self._say(f"{child.plan.name} ended (exit code {code}) and is started again {when}; see {child.log}")
            if child.waiting():
                child.start()

    def _look_at_server(self) -> None:
        """Postgres too is started again; its committed data is safe, children connect anew."""
        now = time.monotonic()
        if self._server is None or now < self._asked_server + max(_ASK_SERVER_EVERY, self._server_pause):
            return
        self._asked_server = now
        if self._server.running():
            self._server_pause = 0.0
            return
        self._say("Postgres does not answer and is started again")
        try:
            self._server.start()
        except CrmAssetsError as error:
            self._server_pause = min(max(1.0, self._server_pause * 2), 30.0)
            self._say(str(error))


def _last_words(log: Path) -> str:
    """The last line of a log, which usually names the reason."""
    try:
        lines = [line for line in log.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]
    except OSError:
        return ""
    return f" ({lines[-1].strip()[:300]})" if lines else ""
