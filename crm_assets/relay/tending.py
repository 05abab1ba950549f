"""Tending: what a schedule would do is done here where no schedule does it."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from datetime import timedelta
from pathlib import Path

from crm_assets.connections import ConnectionSpec
from crm_assets.connectors.base import Connector
from crm_assets.core.errors import Busy
from crm_assets.core.model import Object
from crm_assets.mirror.follow import follow
from crm_assets.mirror.sync import SyncReport
from crm_assets.store.backlog import unread
from crm_assets.store.database import Database

log = logging.getLogger(__name__)

NEGLECTED = timedelta(hours=24)
"""Nobody has read an object for so long. A daily schedule is left to itself."""

_ASK_EVERY = 60.0
_AGAIN_AFTER = 300.0
"""Seconds; an object that failed does not keep the others from their turn."""


class Tending:
    """Reads what nobody has read for a day, one object at a time, as a scheduled run does: what no event told is found,
    the describe is kept up with, and what the CRM calculates is read again."""

    def __init__(self) -> None:
        self._asked = float("-inf")
        self._tried: dict[str, float] = {}

    def turn(
        self, db: Database, home: Path, connector: Connector, spec: ConnectionSpec, objects: Mapping[str, Object]
    ) -> SyncReport | None:
        """None if nothing is neglected, or another process reads it already. Raises what ``follow`` raises."""
        now = time.monotonic()
        if now - self._asked < _ASK_EVERY:
            return None
        with db.transaction() as conn:
            tables = unread(conn, spec.connection, NEGLECTED)
        due = [t for t in tables if t in objects and now - self._tried.get(t, float("-inf")) >= _AGAIN_AFTER]
        if not due:
            self._asked = now
            return None
        self._tried[due[0]] = now
        log.info("%s.%s: nobody has read it for a day", spec.connection, due[0])
        try:
            return follow(db, home, connector, spec, objects[due[0]]).report
        except Busy:
            return None
