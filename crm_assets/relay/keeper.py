"""The relay's sign of life, and the forgetting of old history."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from datetime import timedelta

import psycopg

from crm_assets.relay.link import Link
from crm_assets.store import activity, history
from crm_assets.store.database import Database

log = logging.getLogger(__name__)

_HEARTBEAT = 2.0
_HOUSEKEEPING = 3600.0


class Keeper(threading.Thread):
    """Heartbeats of the connections whose workers turn, and the forgetting of old history."""

    def __init__(self, db: Database, links: Mapping[str, Link], stop: threading.Event, audit_kept: timedelta) -> None:
        super().__init__(name="keeper", daemon=True)
        self._db = db
        self._links = links
        self._stop_asked = stop
        self._audit_kept = audit_kept
        self._process = activity.relay_process()

    def run(self) -> None:
        cleaned = float("-inf")
        while not self._stop_asked.is_set():
            try:
                for name, link in self._links.items():
                    if all(worker.is_alive() for worker in link.workers.values()):
                        activity.heartbeat(self._db, f"{self._process}:{name}", name)
                if time.monotonic() - cleaned > _HOUSEKEEPING:
                    cleaned = time.monotonic()
                    history.forget(self._db, self._links, self._audit_kept, lambda: not self._stop_asked.is_set())
            except psycopg.Error as error:
                log.warning("no heartbeat: %s", str(error).strip())
            self._stop_asked.wait(_HEARTBEAT)

    def farewell(self) -> None:
        for name in self._links:
            activity.farewell(self._db, f"{self._process}:{name}")
