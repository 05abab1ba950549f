"""Workers: who claims outbox rows, and how others know that it died.

A worker holds a session-level advisory lock on a connection of its own for as long as it lives. When its process is
killed the lock goes with the connection, and its claims are taken over at once instead of at the end of a lease.
"""

from __future__ import annotations

import os
import secrets
import socket
from types import TracebackType
from typing import Any

import psycopg

from crm_assets.store.database import plain_url

LOCK_CLASS = 0x63726D61  # "crma"


class Worker:
    """A name for claims (``host:pid:key``) and the lock that proves it alive. Not shared between threads."""

    def __init__(self, url: str) -> None:
        self._url = plain_url(url)
        self._conn: psycopg.Connection[tuple[Any, ...]] | None = None
        self.key = secrets.randbelow(2**31)
        self.name = f"{socket.gethostname()}:{os.getpid()}:{self.key}"

    def __enter__(self) -> Worker:
        self.stay_alive()
        return self

    def stay_alive(self) -> None:
        """Take the lock again if the connection was lost, for example by a restart of the server."""
        if self._conn is not None:
            try:
                self._conn.execute("SELECT 1")
                return
            except psycopg.Error:
                self._conn.close()
        self._conn = psycopg.connect(self._url, autocommit=True, application_name="crm_assets worker")
        self._conn.execute("SELECT pg_advisory_lock(%s, %s)", (LOCK_CLASS, self.key))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._conn is not None:
            self._conn.close()
            self._conn = None
