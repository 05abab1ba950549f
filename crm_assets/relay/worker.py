"""A worker of the relay: a loop that wakes, takes its turn, and survives whatever the turn does."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

import psycopg

from crm_assets.core.errors import ConfigurationError, RetriableError
from crm_assets.store import activity, audit

log = logging.getLogger(__name__)

_LONGEST_BACKOFF = 30.0

Turn = Callable[[], bool]
"""Do what is due; true if there is probably more."""


class Worker(threading.Thread):
    """One isolated loop: a failure is logged and backed off, and touches no other worker."""

    def __init__(
        self, name: str, turn: Turn, pause: Callable[[], float], stop: threading.Event, poll: float = 0.5
    ) -> None:
        super().__init__(name=name, daemon=True)
        self._turn = turn
        self._pause = pause
        self._stop_asked = stop
        self._poll = poll
        self._woken = threading.Event()
        self._failures = 0

    def wake(self) -> None:
        self._woken.set()

    def run(self) -> None:
        with audit.acting_as(activity.relay_process()):
            self._turns()

    def _turns(self) -> None:
        more = True
        while not self._stop_asked.is_set():
            if not more and self._woken.wait(self._poll) and not self._stop_asked.is_set():
                # A change seldom comes alone: what commits within this moment shares its call.
                self._stop_asked.wait(self._pause())
            self._woken.clear()
            if self._stop_asked.is_set():
                break
            more = self._one_turn()

    def _one_turn(self) -> bool:
        try:
            more = self._turn()
        except Exception as error:
            self._failures += 1
            longest = min(0.25 * 2.0 ** min(self._failures, 10), _LONGEST_BACKOFF)
            delay = longest * random.uniform(0.5, 1.0)
            if isinstance(error, ConfigurationError | RetriableError | psycopg.OperationalError):
                log.error("%s: %s; next try in %.1f s", self.name, error, delay)
            else:
                log.exception("%s failed; next try in %.1f s", self.name, delay)
            self._stop_asked.wait(delay)
            return True
        if self._failures:
            log.info("%s works again", self.name)
        self._failures = 0
        return more
