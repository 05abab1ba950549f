"""Lanes: the waves of one object, two of them under way at a time.

Each lane claims a wave, sends it, and claims the next one. The second lane begins when a claim was full: it claims, and
compares, while the calls of the first are out, so that the CRM and the engine do not wait for each other in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Collection, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from datetime import timedelta

from crm_assets.connectors.base import Connector
from crm_assets.core.errors import ObjectUnavailable, QuotaExhausted, RejectedError, RetriableError
from crm_assets.core.model import Object
from crm_assets.store import outbox
from crm_assets.store.database import Database
from crm_assets.store.worker import Worker
from crm_assets.store.write import Write
from crm_assets.writeback import waves
from crm_assets.writeback.carried import carry
from crm_assets.writeback.report import WritebackReport
from crm_assets.writeback.send import send
from crm_assets.writeback.waves import Crew

_MARGIN = timedelta(seconds=15)
"""Of the lease over the calls' deadlines, for the settlement itself."""


class Lanes:
    """What one drain does for one object. ``left`` is how many writes it may still claim; None: all."""

    def __init__(
        self,
        db: Database,
        connector: Connector,
        objects: Collection[Object],
        obj: Object,
        worker: Worker,
        report: WritebackReport,
        crew: Crew,
        left: int | None,
    ) -> None:
        self._db, self._connector, self._objects, self._obj = db, connector, objects, obj
        self._worker, self._report, self._crew = worker, report, crew
        self.left = left
        self._claiming = threading.Lock()
        self._lanes: list[Future[None]] = []
        self._stopped = False

    def run(self) -> None:
        """Return when nothing can be claimed any more, or a call of the object could not be made. QuotaExhausted, and
        what is no fault of the CRM, pass on. No lane is under way then."""
        with ThreadPoolExecutor(waves.AT_ONCE, thread_name_prefix="writeback lane") as pool:
            self._begin(pool)
            # Each is waited for; one that begins another does so before its own end.
            errors = [error for lane in self._lanes if (error := lane.exception()) is not None]
        if errors:
            # The end of the quota is expected; it must not hide what is not.
            raise next((error for error in errors if not isinstance(error, QuotaExhausted)), errors[0])

    def _lane(self, pool: ThreadPoolExecutor) -> None:
        full = waves.size(self._connector)
        try:
            while writes := self._claim(full):
                if len(writes) == full:
                    self._begin(pool)
                self._send(writes)
        except QuotaExhausted:
            self._stopped = True
            raise
        except (RetriableError, RejectedError, ObjectUnavailable) as error:
            self._stopped = True
            self._report.stopped = str(error)
        except BaseException:
            self._stopped = True
            raise

    def _begin(self, pool: ThreadPoolExecutor) -> None:
        with self._claiming:
            if len(self._lanes) < waves.AT_ONCE:
                # The context tells for whom this works: each claim notes it.
                self._lanes.append(pool.submit(copy_context().run, self._lane, pool))

    def _claim(self, most: int) -> list[Write]:
        # One after another: each of two claims at once would look at the rows that the other one takes.
        with self._claiming:
            size = most if self.left is None else min(self.left, most)
            if self._stopped or size <= 0:
                return []
            connection, lease = self._connector.config.name, self._lease(size)
            settle_time = self._connector.settle_time
            writes = outbox.claim(self._db, connection, self._obj, self._worker, size, lease, settle_time)
            if self.left is not None:
                self.left -= len(writes)
            return writes

    def _send(self, writes: Sequence[Write]) -> None:
        db, connector, obj = self._db, self._connector, self._obj
        carried = carry(db, connector, self._objects, obj, self._worker, writes, self._lease(len(writes)))
        send(db, connector, obj, writes, self._report, self._crew, carried)

    def _lease(self, size: int) -> timedelta:
        """A claim covers its conflict reads and the calls themselves; no longer than that may it look alive."""
        return waves.lease(self._connector, size, _MARGIN)
