"""Failpoints: every commit and every call to the CRM of a process, found by watching its drivers.

The code under test knows nothing of them, so a new commit or call cannot be forgotten: it is one step more.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from typing import Any

Step = Callable[[str], None]


def install(step: Step) -> None:
    """Call ``step`` with a name before and after each commit that changed something, and each call over HTTP.

    For a process of its own: nothing of it is undone.
    """
    _watch_psycopg(step)
    _watch_psycopg2(step)
    _watch_adbc(step)
    _watch_http(step)


def killer(at: int, victim: Callable[[], int] = os.getpid) -> tuple[Step, list[str]]:
    """A step that kills ``victim`` (this process) when it comes to number ``at``; and the steps so far."""
    seen: list[str] = []

    def step(name: str) -> None:
        seen.append(name)
        if len(seen) == at:
            os.kill(victim(), signal.SIGKILL)

    return step, seen


def _around(step: Step, name: str, act: Callable[[], Any]) -> Any:
    step(f"before {name}")
    result = act()
    step(f"after {name}")
    return result


def _watch_psycopg(step: Step) -> None:
    import psycopg
    from psycopg.pq import TransactionStatus

    plain = psycopg.Connection.commit

    def commit(self: psycopg.Connection[Any]) -> None:
        if self.info.transaction_status is TransactionStatus.INTRANS:
            cursor = psycopg.ClientCursor(self)
            cursor.execute("SELECT pg_current_xact_id_if_assigned()")
            row = cursor.fetchone()
            # Without an id the transaction has only read: before and after are the same.
            if row is not None and row[0] is not None:
                return _around(step, "commit", lambda: plain(self))
        return plain(self)

    psycopg.Connection.commit = commit  # type: ignore[method-assign]


def _watch_psycopg2(step: Step) -> None:
    import psycopg2
    import psycopg2.extensions

    class Cursor(psycopg2.extensions.cursor):
        def execute(self, query: Any, *rest: Any) -> Any:
            act = super().execute
            text = query if isinstance(query, str) else query.as_string(self)
            if self.connection.autocommit and not text.lstrip().upper().startswith("SELECT"):
                return _around(step, "dlt's commit", lambda: act(query, *rest))
            return act(query, *rest)

    class Connection(psycopg2.extensions.connection):
        def cursor(self, *args: Any, **options: Any) -> Any:
            return super().cursor(*args, **{"cursor_factory": Cursor, **options})

        def commit(self) -> None:
            _around(step, "dlt's commit", super().commit)

    plain = psycopg2.connect
    psycopg2.connect = lambda *args, **options: plain(*args, **{"connection_factory": Connection, **options})


def _watch_adbc(step: Step) -> None:
    from adbc_driver_manager import dbapi

    plain = dbapi.Connection.commit
    dbapi.Connection.commit = lambda self: _around(step, "commit of pages", lambda: plain(self))


def _watch_http(step: Step) -> None:
    import httpx

    plain = httpx.Client.send

    def send(self: httpx.Client, request: httpx.Request, **options: Any) -> httpx.Response:
        # Ids of jobs differ from run to run; the kind of call is what names the step.
        path = "/".join(part for part in request.url.path.split("/")[4:] if len(part) not in (15, 18))
        return _around(step, f"{request.method} {path}", lambda: plain(self, request, **options))

    httpx.Client.send = send  # type: ignore[method-assign]
