"""Sync: read a window of one object, land it, apply it, move the cursor."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import psycopg
import pyarrow as pa
from psycopg import sql

from crm_assets.connectors.base import Connector
from crm_assets.core.errors import Busy, CrmAssetsError, QuotaExhausted, RetriableError, SchemaChanged
from crm_assets.core.model import Object, Page, Source, Window
from crm_assets.core.width import storable
from crm_assets.core.windows import low_end, next_window
from crm_assets.mirror.ahead import ahead
from crm_assets.mirror.choice import let_go
from crm_assets.mirror.describing import Described, describe
from crm_assets.mirror.land import joined, land, verify
from crm_assets.mirror.report import SyncReport
from crm_assets.store import catalog, children, loads, merges, setaside, stage, sweeps
from crm_assets.store.apply import Applied, apply
from crm_assets.store.database import Database, statement
from crm_assets.store.ddl import stage_schema
from crm_assets.store.loads import Load
from crm_assets.store.news import news

__all__ = ["Described", "Mode", "SyncReport", "describe", "sync"]

Mode = Literal["incremental", "full", "backfill"]
Progress = Callable[[int], None]

PART_ROWS = 200_000
PART_SECONDS = 30.0
"""After so many rows, or so long, what was read of a window is landed and need not be read again."""


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
    ``partial`` report: what was read by then counts, and the next run goes on behind it, in the same window.
    """
    started, calls = time.monotonic(), connector.gate.calls
    work = _Sync(db, home, connector, obj, progress)
    try:
        report = work.run(mode, window)
    except QuotaExhausted as error:
        report = work.stopped(error, error.until)
    except Busy:
        raise
    except RetriableError as error:
        report = work.stopped(error, None)
    except BaseException:
        # What cannot be told to the database now ends with the lease.
        with contextlib.suppress(psycopg.Error):
            work.give_up()
        raise
    if report.applied or report.deleted:
        loads.changed(db, report.connection, report.object)
    return replace(report, api_calls=connector.gate.calls - calls, seconds=time.monotonic() - started)


class _Sync:
    """One sync under way. ``load`` is the part that is being read; earlier parts have landed and count."""

    def __init__(self, db: Database, home: Path, connector: Connector, obj: Object, progress: Progress | None) -> None:
        self._db, self._home, self._connector, self._obj, self._progress = db, home, connector, obj, progress
        self._load: Load | None = None
        self._report = SyncReport(connector.config.name, obj.table, "incremental")
        self._applied = Applied()

    def run(self, mode: Mode, window: Window | None) -> SyncReport:
        db, obj, connection = self._db, self._obj, self._report.connection
        started = db.now()
        cursor = loads.read_cursor(db, connection, obj.table)
        if mode == "incremental" and (cursor is None or _only_as_a_whole(db, connection, obj)):
            mode = "full"
        self._report = replace(self._report, mode=mode)
        begun = loads.unfinished(db, connection, obj.table, mode, window)
        span, quiet = (begun.window, False) if begun else _window(self._connector, obj, mode, cursor, window)
        self._report = replace(self._report, low=span.low, high=span.high, resumed=begun is not None)
        self._load = loads.open_load(db, connection, obj.table, mode, span, loads.new_owner(), begun)
        with db.transaction() as conn:
            # From here on the describe stays: who takes a new one over needs the lease, too.
            if not catalog.is_current(conn, connection, obj):
                raise SchemaChanged(f"{connection}.{obj.table} was described anew meanwhile; load its describe again")
        with loads.keeping(db, self._load):
            empty = mode == "full" and not _holds_records(db, connection, obj)
            # First, because it is one call: what follows can be gone on with, page by page.
            gone = _deletions(db, self._connector, obj, mode, span) if mode != "full" else 0
            self._report = replace(self._report, rows_read=gone)
            into_mirror = mode == "full" and cursor is None
            rows = 0 if quiet else self._read(None if mode == "full" else span, into_mirror)
            loads.land(db, self._load, rows)
            self._apply()
            if obj.where is not None and mode == "incremental" and not quiet and obj.version_field is not None:
                self._report = replace(self._report, left=let_go(db, self._connector, obj, span))
            if obj.parent is not None:
                children.read_since(db, connection, obj.table, self._load.observed_at)
            if mode == "full" and not empty:
                unseen = _unseen(db, self._connector, obj, self._load)
                self._applied = self._applied if unseen is None else _add(self._applied, unseen)
        # A reader of the same object may be applying: what it leaves is taken by the next pass.
        cursor = loads.close(db, self._load)
        if mode != "backfill" and begun is None:
            with db.transaction() as conn:
                sweeps.covered(conn, connection, obj.table, full=mode == "full", begun=started, high=span.high)
        return self._told(cursor=cursor)

    def stopped(self, error: Exception, until: datetime | None) -> SyncReport:
        """Parts that have landed count already; the next run goes on behind them."""
        self.give_up()
        if self._report.rows_read:
            self._apply()
        cursor = loads.read_cursor(self._db, self._report.connection, self._report.object)
        return self._told(partial=True, reason=str(error), until=until, cursor=cursor)

    def give_up(self) -> None:
        if self._load is not None:
            loads.abandon(self._db, self._load)

    def _read(self, window: Window | None, into_mirror: bool) -> int:
        """Read all pages, in parts. Returns the rows of the last part, which is not marked as landed yet."""
        assert self._load is not None
        read, after = self._connector.read, self._load.after
        source = read(self._obj, window) if after is None else read(self._obj, window, after=after)
        if not into_mirror:
            return self._in_parts(source, self._land)
        for schema in (self._load.connection, stage_schema(self._load.connection)):
            verify(self._db, schema, self._obj)
        with ahead(source) as pages:
            return self._in_parts(pages, self._put)

    def _in_parts(self, pages: Iterator[Page], take: Callable[[Iterator[Page]], int]) -> int:
        parts = _Parts(self._pages(pages))
        while True:
            rows = take(parts.part())
            self._report = replace(self._report, rows_read=self._report.rows_read + rows)
            if parts.place is not None:
                assert self._load is not None
                self._load = loads.land_part(self._db, self._load, rows, parts.place)
            if parts.fault is not None:
                raise parts.fault
            if parts.place is None:
                return rows

    def _pages(self, pages: Iterator[Page]) -> Iterator[Page]:
        """Pages on their way: what cannot be stored is set aside, and how far the read has come is told."""
        seen = 0
        connection, table = self._report.connection, self._report.object
        for page in map(storable, pages):
            if page.poison or page.merged or page.complete_for:
                assert self._load is not None
                with self._db.transaction() as conn:
                    children.stage_gone(conn, connection, self._obj, page, self._load.observed_at)
                    merges.note(conn, connection, table, page.merged, self._load.observed_at)
                    aside = setaside.record(conn, connection, table, page.poison)
                self._report = replace(self._report, set_aside=self._report.set_aside + aside)
            seen += page.table.num_rows
            if self._progress is not None:
                self._progress(seen)
            yield page

    def _put(self, pages: Iterator[Page]) -> int:
        """Into a mirror that was never complete, straight; what needs a decision goes to the stage."""
        # Late: ADBC brings pandas with it, which a window does without.
        from crm_assets.store.first import FirstLoad

        assert self._load is not None
        rows = straight = 0
        with FirstLoad(self._db, self._load, self._obj, Source.LIST) as into:
            for table in joined(self._obj, pages):
                rows += table.num_rows
                straight += into.put(table)
        self._applied = replace(self._applied, inserted=self._applied.inserted + straight)
        return rows

    def _land(self, pages: Iterator[Page]) -> int:
        """Into the stage, but for what the mirror shows already."""
        assert self._load is not None
        left_out = 0

        def told() -> Iterator[pa.Table]:
            nonlocal left_out
            for table in joined(self._obj, pages):
                rows = news(self._db, self._report.connection, self._obj, table)
                left_out += table.num_rows - rows.num_rows
                if rows.num_rows:
                    yield rows

        try:
            landed = land(self._db, self._home, self._load, self._obj, told(), Source.LIST)
        except CrmAssetsError:
            raise
        except Exception as error:
            # dlt wraps whatever the pages raised; the cause decides what it means.
            cause = _ours(error)
            if cause is None:
                raise
            raise cause from error
        self._applied = replace(self._applied, unchanged=self._applied.unchanged + left_out)
        return landed + left_out

    def _apply(self) -> None:
        self._applied = _add(self._applied, apply(self._db, self._report.connection, self._obj))

    def _told(self, **more: Any) -> SyncReport:
        applied = self._applied
        return replace(
            self._report,
            inserted=applied.inserted,
            updated=applied.updated,
            unchanged=applied.unchanged,
            deleted=applied.deleted,
            undeleted=applied.undeleted,
            waiting=applied.waiting,
            **more,
        )


class _Parts:
    """Pages cut into parts. A part ends at a place that can be gone on from, after enough rows or enough time; a
    fault of the read ends it too, so that the pages before the fault are not read again.

    After a part has been taken in, ``place`` is what lies behind it (None: it was the last one), ``fault`` what ended
    it early.
    """

    def __init__(self, pages: Iterator[Page]) -> None:
        self._pages = pages
        self.place: str | None = None
        self.fault: RetriableError | None = None

    def part(self) -> Iterator[Page]:
        self.place = None
        rows, until = 0, time.monotonic() + PART_SECONDS
        while True:
            try:
                page = next(self._pages, None)
            except RetriableError as error:
                if self.place is None:
                    raise
                self.fault = error
                return
            if page is None:
                self.place = None
                return
            self.place = page.next
            yield page
            rows += page.table.num_rows
            if self.place is not None and (rows >= PART_ROWS or time.monotonic() > until):
                return


def _only_as_a_whole(db: Database, connection: str, obj: Object) -> bool:
    """Without a time of change there is no window, except over the parents of records that live within others."""
    return obj.version_field is None and (obj.parent is None or children.due_whole(db, connection, obj))


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
    if obj.parent is not None:
        return _read_parents(db, connector, obj, children.orphans(db, connection, obj))
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
        page = storable(connector.fetch(obj, wanted))
        present = set(page.table["id"].to_pylist()) | {poison.id for poison in page.poison}
        with db.transaction() as conn:
            stage.put(conn, connection, obj, page, Source.ID, observed_at)
            absent = [(record_id, None) for record_id in wanted if record_id not in present]
            stage.put_deleted(conn, connection, obj, absent, Source.ID, observed_at)
    return apply(db, connection, obj)


def _read_parents(db: Database, connector: Connector, obj: Object, parents: list[str]) -> Applied | None:
    """Read parents that no list shows any more; their children are gone if the CRM says so."""
    for start in range(0, len(parents), connector.max_fetch):
        observed_at = db.now()
        page = storable(connector.fetch(obj, parents[start : start + connector.max_fetch]))
        with db.transaction() as conn:
            stage.put(conn, connector.config.name, obj, page, Source.ID, observed_at)
            children.stage_gone(conn, connector.config.name, obj, page, observed_at)
    return apply(db, connector.config.name, obj) if parents else None


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
