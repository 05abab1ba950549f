"""Sweeping: objects of which nobody could say what changed are read, also while no schedule runs."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from crm_assets.connectors.base import Connector
from crm_assets.core.errors import Busy
from crm_assets.core.model import Object
from crm_assets.mirror.sync import SyncReport, sync
from crm_assets.store import sweeps
from crm_assets.store.database import Database

log = logging.getLogger(__name__)


def sweep(db: Database, home: Path, connector: Connector, objects: Mapping[str, Object]) -> SyncReport | None:
    """Read the object that has waited longest; None if nothing is due, or another process reads it already.

    The read itself settles the request, if it reached far enough; else it is due again after a pause.
    """
    connection = connector.config.name
    with db.transaction() as conn:
        due = sweeps.claim(conn, connection)
    if due is None:
        return None
    obj = objects.get(due.table)
    if obj is None:
        with db.transaction() as conn:
            sweeps.forget(conn, connection, due.table)
        return None
    log.info("%s.%s is read again: %s", connection, due.table, due.reason)
    try:
        report = sync(db, home, connector, obj, "full" if due.whole else "incremental")
    except Busy:
        return None
    if report.partial and report.until is not None:
        with db.transaction() as conn:
            sweeps.postpone(conn, connection, due.table, report.until)
    return report
