"""Follow: one object's run as everybody starts it. The describe is kept up with, the records are read, and what rows
lack is filled."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from pathlib import Path

from psycopg.errors import LockNotAvailable

from crm_assets.connections import ConnectionSpec, ObjectSpec
from crm_assets.connectors.base import Connector
from crm_assets.core.errors import Busy, RetriableError, SchemaChanged
from crm_assets.core.model import Object
from crm_assets.mirror.describing import take_over
from crm_assets.mirror.fill import fill
from crm_assets.mirror.report import SyncReport
from crm_assets.mirror.sync import Mode, Progress, sync
from crm_assets.store import catalog, fills
from crm_assets.store.database import Database

log = logging.getLogger(__name__)

BELIEVED = timedelta(minutes=10)
"""How long a stored describe is taken for granted: asking is a call per object, and runs may come every minute."""


@dataclass(frozen=True)
class Run:
    """What a run did, and the object as it is described by now."""

    report: SyncReport
    obj: Object


def follow(
    db: Database,
    home: Path,
    connector: Connector,
    spec: ConnectionSpec,
    obj: Object,
    mode: Mode = "incremental",
    progress: Progress | None = None,
) -> Run:
    """Sync the object as ``mirror.sync`` does, and keep up with the CRM's schema and with defs.yaml.

    The object is described anew every ten minutes, for a full read, when defs.yaml asks for something else, and when
    the CRM refuses a field; then the read begins again, once. Raises what ``sync`` raises.
    """
    obj, begun = current(db, home, connector, spec, obj, anew=mode == "full"), db.now()
    try:
        report = sync(db, home, connector, obj, mode, progress=progress)
    except SchemaChanged as error:
        log.warning("%s.%s: %s", spec.connection, obj.table, error)
        obj = current(db, home, connector, spec, obj, anew=True)
        report = sync(db, home, connector, obj, mode, progress=progress)
    if not report.partial:
        _refresh(db, spec.connection, obj, begun if report.mode == "full" and not report.resumed else None)
        report = _filled(db, connector, obj, report)
    return Run(report, obj)


def current(
    db: Database, home: Path, connector: Connector, spec: ConnectionSpec, obj: Object, *, anew: bool = False
) -> Object:
    """The object as the CRM describes it, asked at most every ten minutes or if defs.yaml asks for something else;
    ``anew`` asks in any case. A new describe that cannot be had or taken over now costs no read: the run goes on
    with the stored one, and the next one asks again."""
    choice = spec.objects[obj.name]
    stored = replace(catalog.load(db, spec.connection).get(obj.table, obj), rules=obj.rules)
    if not anew and _believed(db, spec.connection, obj.table) and _chosen_so(stored, choice):
        return stored
    try:
        now = take_over(db, connector, obj.name, choice, stored)
    except Busy:
        return stored
    except RetriableError as error:
        if anew:
            raise
        # The read that follows meets the same trouble and reports it, with how far it came.
        log.warning("%s.%s: not described anew: %s", spec.connection, obj.table, error)
        return stored
    except LockNotAvailable:
        log.warning("%s.%s is in use; a new column is added by a later run", spec.connection, obj.table)
        return stored
    if now != stored:
        catalog.write_snapshot(home, spec.connection, catalog.load(db, spec.connection))
        log.info("%s.%s: described anew", spec.connection, obj.table)
    return replace(now, rules=spec.rules(now))


def _refresh(db: Database, connection: str, obj: Object, whole: datetime | None) -> None:
    """Columns that the CRM calculates are read for all records from time to time, as nothing tells of all their
    changes; ``whole`` is when a read of everything began that has come to its end."""
    if not obj.calculated:
        return
    with db.transaction() as conn:
        if whole is not None:
            fills.refreshed(conn, connection, obj.table, obj.calculated, whole)
        elif every := obj.rules.calculated_every:
            fills.refresh(conn, connection, obj.table, fills.stale(conn, connection, obj.table, obj.calculated, every))


def _filled(db: Database, connector: Connector, obj: Object, report: SyncReport) -> SyncReport:
    """What rows lack. A fault there is no fault of the read, whose cursor has moved; the next run goes on."""
    calls = connector.gate.calls
    try:
        done = fill(db, connector, obj)
    except RetriableError as error:
        log.warning("%s.%s: not filled to the end: %s", report.connection, report.object, error)
        return report
    return replace(
        report,
        filled=done.rows,
        left=report.left + done.left,
        filling=done.open,
        api_calls=report.api_calls + connector.gate.calls - calls,
    )


def _believed(db: Database, connection: str, table: str) -> bool:
    with db.transaction() as conn:
        row = conn.execute(
            """SELECT described_at > clock_timestamp() - %s FROM crm_assets.object
                WHERE connection = %s AND object = %s""",
            (BELIEVED, connection, table),
        ).fetchone()
    return bool(row and row[0])


def _chosen_so(stored: Object, choice: ObjectSpec) -> bool:
    if (stored.where, stored.external_id) != (choice.where, choice.external_id):
        return False
    unchosen = any(one.why == "not chosen" for one in stored.retired)
    if choice.fields == "*":
        return not unchosen
    links = {own for fld in stored.fields for own, _ in fld.through}
    own = {stored.id_field, stored.version_field, stored.external_id, *stored.needed, *links}
    return set(choice.fields) - own == set(stored.by_name) - own
