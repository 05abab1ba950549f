"""Wake-ups: NOTIFY of the database, passed on to the workers."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Mapping

import psycopg
from psycopg import sql

from crm_assets.relay.link import Link

log = logging.getLogger(__name__)

_CHANNELS: Mapping[str, str] = {
    "crm_assets_inbox": "events",
    "crm_assets_outbox": "writeback",
    "crm_assets_stage": "apply",
    "crm_assets_sweep": "sweep",
}
"""NOTIFY channel → kind of the worker that it wakes; payloads are connections."""


class Listener(threading.Thread):
    """Passes NOTIFY on to the workers; while it is reconnecting, they poll."""

    def __init__(self, url: str, links: Mapping[str, Link], stop: threading.Event) -> None:
        super().__init__(name="listener", daemon=True)
        self._url = url
        self._links = links
        self._stop_asked = stop

    def run(self) -> None:
        while not self._stop_asked.is_set():
            try:
                self._listen()
            except psycopg.Error as error:
                log.warning("wake-ups are lost, polling goes on: %s", str(error).strip())
                self._stop_asked.wait(random.uniform(0.5, 1.5))

    def _listen(self) -> None:
        with psycopg.connect(self._url, autocommit=True, application_name="crm_assets listener") as conn:
            for channel in _CHANNELS:
                conn.execute(sql.SQL("LISTEN {}").format(sql.Identifier(channel)))
            for link in self._links.values():
                for worker in link.workers.values():
                    worker.wake()
            while not self._stop_asked.is_set():
                for note in conn.notifies(timeout=0.5):
                    if (named := self._links.get(note.payload)) is not None:
                        named.workers[_CHANNELS[note.channel]].wake()
