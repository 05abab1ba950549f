"""Processes that can die, or be interrupted, at any step, inside the process of the test.

A step is the beginning or the end of a transaction, or a call to the CRM before it leaves or after its reply. Death
is an exception that no handler of ours catches, after which nothing of the process reaches the database or the CRM.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest.mock import patch

from crm_assets import runtime
from crm_assets.connections import ConnectionSpec
from crm_assets.core.errors import CrmAssetsError
from crm_assets.settings import Settings
from crm_assets.store.database import Conn, Database


class Killed(BaseException):
    """The process is dead."""


class Fuse:
    """Counts the steps of one piece of work; at ``at`` it kills, or lets something else happen."""

    def __init__(self) -> None:
        self.arm(0, None)

    def arm(self, at: int, then: Callable[[], object] | None) -> None:
        """``then`` None: die at step ``at`` (0: never)."""
        self._left, self._then, self.dead, self._inside, self._depth = at, then, False, False, 0

    @contextmanager
    def transaction(self) -> Iterator[None]:
        self._depth += 1
        try:
            yield
        finally:
            self._depth -= 1

    def burn(self) -> None:
        if self._inside:
            return
        if self.dead:
            raise Killed
        self._left -= 1
        if self._left > 0 or self._left < -1_000_000:
            return
        if self._left == 0 and self._then is None:
            self.dead = True
            raise Killed
        # Something else may only happen where this process holds no transaction: one thread cannot wait for itself.
        if self._then is not None and self._left <= 0 and self._depth == 0:
            then, self._then, self._left = self._then, None, -2_000_000
            self._inside = True
            try:
                then()
            finally:
                self._inside = False


class _Watched(Database):
    def __init__(self, url: str, fuse: Fuse) -> None:
        self._fuse = fuse
        super().__init__(url)

    @contextmanager
    def transaction(self) -> Iterator[Conn]:
        self._fuse.burn()
        with self._fuse.transaction(), super().transaction() as conn:
            yield conn
            self._fuse.burn()
        self._fuse.burn()


class Process:
    """One process of the product's operator: its own pool, connector, clock and fuse."""

    def __init__(self, url: str, home: Path, spec: ConnectionSpec, ahead: float = 0.0) -> None:
        self.fuse, self.home, self._ahead = Fuse(), home, ahead
        self.db = _Watched(url, self.fuse)
        self._settings = Settings(database_url=url, home=home)
        self.connection = runtime.open_connection(self._settings, self.db, spec, "incremental")
        http: Any = self.connection.connector._client._http  # type: ignore[attr-defined]
        plain = http.send

        def send(*args: Any, **options: Any) -> Any:
            self.fuse.burn()
            reply = plain(*args, **options)
            self.fuse.burn()
            return reply

        http.send = send

    def run(self, work: Callable[[Process], object], at: int = 0, then: Callable[[], object] | None = None) -> bool:
        """Do some work; whether it came to its end. Its own clock runs ahead of everybody else's."""
        self.fuse.arm(at, then)
        plain = time.time
        try:
            with patch("time.time", lambda: plain() + self._ahead):
                work(self)
        except Killed:
            return False
        finally:
            self.fuse.arm(0, None)
        return True

    def described(self) -> None:
        """Go on with the objects as they are described by now, as a process does before each turn."""
        spec, connector = self.connection.spec, self.connection.connector
        try:
            objects = runtime.described(self._settings, self.db, spec, connector)
        except CrmAssetsError:  # the turn fails, and the next one asks again
            return
        self.connection = replace(self.connection, objects=objects)

    def close(self) -> None:
        self.connection.close()
        self.db.close()
