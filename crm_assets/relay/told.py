"""What the relay did, told to ``crm_assets.activity`` about once a second: many small turns make one record."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping

from crm_assets.store import activity
from crm_assets.store.database import Database

_EVERY_S = 1.0


class Told:
    """The counts of one connection that are not written yet, by object and kind of work. Shared by its workers."""

    def __init__(self, db: Database, connection: str) -> None:
        self._db = db
        self._connection = connection
        self._lock = threading.Lock()
        self._counts: dict[tuple[str, str], Counter[str]] = {}
        self._written = float("-inf")

    def add(self, table: str, kind: str, counts: Mapping[str, int]) -> None:
        done = {name: count for name, count in counts.items() if count}
        if done:
            with self._lock:
                self._counts.setdefault((table, kind), Counter()).update(done)

    def write_if_due(self) -> None:
        if self._counts and time.monotonic() - self._written > _EVERY_S:
            self.write()

    def write(self) -> None:
        """Counts that cannot be written are kept for the next time."""
        with self._lock:
            counts, self._counts = self._counts, {}
            self._written = time.monotonic()
        try:
            with self._db.transaction() as conn:
                for (table, kind), done in counts.items():
                    activity.record(conn, self._connection, table, kind, done)
        except BaseException:
            for (table, kind), done in counts.items():
                self.add(table, kind, done)
            raise
