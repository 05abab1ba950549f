"""The relay's sign of life, and the forgetting of old history."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Mapping
from datetime import timedelta
from functools import partial

import psycopg

from crm_assets.relay.link import Link
from crm_assets.store import activity, inbox
from crm_assets.store.database import Database

log = logging.getLogger(__name__)

_HEARTBEAT = 2.0
_HOUSEKEEPING = 3600.0
_KEPT = timedelta(days=7)


class Keeper(threading.Thread):
    """Heartbeats of the connections whose workers turn, and the forgetting of old history."""

    def __init__(self, db: Database, links: Mapping[str, Link], stop: threading.Event) -> None:
        super().__init__(name="keeper", daemon=True)
        self._db = db
        self._links = links
        self._stop_asked = stop
        self._process = f"relay:{socket.gethostname()}:{os.getpid()}"

    def run(self) -> None:
        cleaned = float("-inf")
        while not self._stop_asked.is_set():
            try:
                for name, link in self._links.items():
                    if all(worker.is_alive() for worker in link.workers.values()):
                        activity.heartbeat(self._db, f"{self._process}:{name}", name)
                if time.monotonic() - cleaned > _HOUSEKEEPING:
                    cleaned = time.monotonic()
                    self._clean()
            except psycopg.Error as error:
                log.warning("no heartbeat: %s", str(error).strip())
            self._stop_asked.wait(_HEARTBEAT)

    def _clean(self) -> None:
        """In portions, each a transaction of its own, until nothing old is left."""
        portions = [partial(inbox.purge, connection=name) for name in self._links] + [activity.purge]
        for purge in portions:
            gone = 1
            while gone and not self._stop_asked.is_set():
                with self._db.transaction() as conn:
                    gone = purge(conn, older_than=_KEPT)

    def farewell(self) -> None:
        for name in self._links:
            activity.farewell(self._db, f"{self._process}:{name}")
