"""Sync: read a window of one object, land it, apply it, move the cursor."""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Literal

from psycopg import sql

from crm_assets.connectors.base import Connector
from crm_assets.core.errors import Busy, CrmAssetsError, QuotaExhausted, RetriableError
from crm_assets.core.model import Object, Page, Source, Window
from crm_assets.core.windows import low_end, next_window
from crm_assets.mirror.ahead import ahead
from crm_assets.mirror.describing import Described, describe
from crm_assets.mirror.land import joined, land, verify
from crm_assets.mirror.report import SyncReport
from crm_assets.store import loads, merges, setaside, stage
from crm_assets.store.apply import Applied, apply
from crm_assets.store.database import Database, statement
from crm_assets.store.ddl import stage_schema
from crm_assets.store.first import FirstLoad
from crm_assets.store.loads import Load

__all__ = ["Described", "Mode", "SyncReport", "describe", "sync"]

Mode = Literal["incremental", "full", "backfill"]
Progress = Callable[[int], None]


def sync(
    db: Database,
    home: Path,
    connector: Connector,
    obj: Object,
    mode: Mode = "incremental",
    window: Window | None = None,
    progress: Progress | None = None,
) -> SyncReport:
    """Bring one object's mirror up to the CRM; ``home`` is where pages are kept on their way.

    incremental: the window behind the cursor (the first time, and for objects without one: everything). full:
    everything, then rows that were not seen are looked up one by one and deleted only if the CRM says so. backfill:
    the given ``window`` again, the cursor stays. ``progress`` gets the number of rows read so far.

    Raises Busy while another run reads the object. A vendor's fault in the middle is no exception but a
    ``partial`` report: nothing is lost, the next run reads the window again.
    """
    started, calls = time.monotonic(), connector.gate.calls
    connection = connector.config.name
    report = SyncReport(connection, obj.table, mode)
    load: Load | None = None
    try:
        cursor = loads.read_cursor(db, connection, obj.table)
        if mode == "incremental" and (cursor is None or obj.version_field is None):
            mode = "full"
        read, quiet = _window(connector, obj, mode, cursor, window)
        report = replace(report, mode=mode, low=read.low, high=read.high)
        owner = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        load = loads.open_load(db, connection, obj.table, mode, read, owner)
        with loads.keeping(db, load):
            rows, aside, straight = 0, 0, 0
            empty = mode == "full" and not _holds_records(db, connection, obj)
            if not quiet:
                span = None if mode == "full" else read
                if mode == "full" and cursor is None:
                    rows, aside, straight = _read_first(db, connector, obj, load, progress)
                else:
                    rows, aside = _read(db, home, connector, obj, load, span, progress)
            gone = _deletions(db, connector, obj, mode, read) if mode != "full" else 0
            loads.land(db, load, rows)
            applied = apply(db, connection, obj)
            if mode == "full" and not empty:
                unseen = _unseen(db, connector, obj, load)
                applied = applied if unseen is None else _add(applied, unseen)
        report = replace(
            report,
            rows_read=rows + gone,
            set_aside=aside,
            inserted=applied.inserted + straight,
            updated=applied.updated,
            unchanged=applied.unchanged,
            deleted=applied.deleted,
            undeleted=applied.undeleted,
            waiting=applied.waiting,
        )
        # A reader of the same object may be applying: what it leaves is taken by the next pass.
        report = replace(report, cursor=loads.close(db, load))
    except QuotaExhausted as error:
        report = _stopped(db, load, report, error, error)
    except Busy:
        raise
    except RetriableError as error:
        report = _stopped(db, load, report, error, None)
    except CrmAssetsError:
        if load is not None:
            loads.abandon(db, load)
        raise
    return replace(report, api_calls=connector.gate.calls - calls, seconds=time.monotonic() - started)


def _stopped(
    db: Database, load: Load | None, report: SyncReport, error: Exception, quota: QuotaExhausted | None
) -> SyncReport:
    if load is not None:
        loads.abandon(db, load)
    cursor = loads.read_cursor(db, report.connection, report.object)
    return replace(report, partial=True, reason=str(error), until=quota.until if quota else None, cursor=cursor)


def _window(
    connector: Connector, obj: Object, mode: Mode, cursor: str | None, window: Window | None
) -> tuple[Window, bool]:
    """The span to read, its high end frozen now, and whether the vendor says that nothing is in it."""
    if mode == "backfill":
        if window is None or window.low is None:
            raise ValueError("a backfill needs a window with both ends")
        return window, False
    low = low_end(cursor, connector.overlap) if mode == "incremental" else None
    bound = connector.bound(obj, low)
    if mode == "full":
        return Window(None, bound.high), False
    return next_window(cursor, bound.high, connector.overlap), bound.quiet


def _read(
    db: Database,
    home: Path,
    connector: Connector,
    obj: Object,
    load: Load,
    window: Window | None,
    progress: Progress | None,
) -> tuple[int, int]:
    """Land all pages; returns rows landed and records set aside."""
    pages = _Pages(db, load, connector.read(obj, window), progress)
    try:
        rows = land(db, home, load, obj, iter(pages), Source.LIST)
    except CrmAssetsError:
        raise
    except Exception as error:
        # dlt wraps whatever the pages raised; the cause decides what it means.
        cause = _ours(error)
        if cause is None:
            loads.abandon(db, load)
            raise
        raise cause from error
    return rows, pages.aside


def _read_first(
    db: Database, connector: Connector, obj: Object, load: Load, progress: Progress | None
) -> tuple[int, int, int]:
    """Read everything into a mirror that was never complete. Returns the rows read, the records set aside, and how
    many rows are in the mirror already; the others are in the stage."""
    for schema in (load.connection, stage_schema(load.connection)):
        verify(db, schema, obj)
    rows, straight = 0, 0
    with ahead(connector.read(obj, None)) as read, FirstLoad(db, load, obj, Source.LIST) as into:
        pages = _Pages(db, load, read, progress)
        for table in joined(obj, iter(pages)):
            rows += table.num_rows
            straight += into.put(table)
    return rows, pages.aside, straight


class _Pages:
    """Pages on their way: what cannot be stored is set aside, and how far the read has come is told."""

    def __init__(self, db: Database, load: Load, pages: Iterator[Page], progress: Progress | None) -> None:
        self._db, self._load, self._pages, self._progress = db, load, pages, progress
        self.aside = 0

    def __iter__(self) -> Iterator[Page]:
        seen = 0
        for page in self._pages:
            if page.poison or page.merged:
                with self._db.transaction() as conn:
                    merges.note(conn, self._load.connection, self._load.table, page.merged, self._load.observed_at)
                    self.aside += setaside.record(conn, self._load.connection, self._load.table, page.poison)
            seen += page.table.num_rows
            if self._progress is not None:
                self._progress(seen)
            yield page


def _holds_records(db: Database, connection: str, obj: Object) -> bool:
    """Whether the mirror has any record of the CRM: only then can a full read miss one."""
    with db.transaction() as conn:
        row = conn.execute(
            statement("SELECT EXISTS (SELECT FROM {m} WHERE id IS NOT NULL)", m=sql.Identifier(connection, obj.table))
        ).fetchone()
    return bool(row and row[0])


def _ours(error: BaseException) -> CrmAssetsError | None:
    seen: set[int] = set()
    step: BaseException | None = error
    while step is not None and id(step) not in seen:
        if isinstance(step, CrmAssetsError):
            return step
        seen.add(id(step))
        step = step.__cause__ or step.__context__
    return None


def _deletions(db: Database, connector: Connector, obj: Object, mode: Mode, window: Window) -> int:
    """What the vendor lists as deleted in the window; also what has left its recycle bin and no read shows."""
    observed_at = db.now()
    deleted = [(d.id, d.at) for d in connector.deletes(obj, window)]
    with db.transaction() as conn:
        return stage.put_deleted(conn, connector.config.name, obj, deleted, Source.LIST, observed_at)


def _unseen(db: Database, connector: Connector, obj: Object, load: Load) -> Applied | None:
    """Rows that a full read did not show: each is read by id, and only the CRM's own word deletes it.

    Seen rows are known by the ids that are left: the mirror's, less those of the CRM's list of ids.
    """
    connection = connector.config.name
    listed: set[str] = set()
    for ids in connector.ids(obj):
        listed.update(ids)
    with db.transaction() as conn:
        missing = [
            row[0]
            for row in conn.execute(
                statement(
                    """SELECT id FROM {m} WHERE id IS NOT NULL AND _deleted_at IS NULL AND _observed_at <= %s
                        ORDER BY id""",
                    m=sql.Identifier(connection, obj.table),
                ),
                (load.observed_at,),
            )
            if row[0] not in listed
        ]
    if not missing:
        return None
    for start in range(0, len(missing), connector.max_fetch):
        wanted = missing[start : start + connector.max_fetch]
        observed_at = db.now()
        page = connector.fetch(obj, wanted)
        present = set(page.table["id"].to_pylist()) | {poison.id for poison in page.poison}
        with db.transaction() as conn:
            stage.put(conn, connection, obj, page, Source.ID, observed_at)
            absent = [(record_id, None) for record_id in wanted if record_id not in present]
            stage.put_deleted(conn, connection, obj, absent, Source.ID, observed_at)
    return apply(db, connection, obj)


def _add(first: Applied, second: Applied) -> Applied:
    return replace(
        second,
        inserted=first.inserted + second.inserted,
        updated=first.updated + second.updated,
        unchanged=first.unchanged + second.unchanged,
        deleted=first.deleted + second.deleted,
        undeleted=first.undeleted + second.undeleted,
        reread=first.reread + second.reread,
    )
