"""Drain: what the inbox names is read by id, staged and applied.

No lock and no transaction is held while the CRM answers. A hint is done in the transaction that stages what was
read for it, so that a process killed at any moment leaves the hint to be read again.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

import psycopg
import pyarrow as pa

from crm_assets.connectors.base import Connector
from crm_assets.core.errors import (
    ConfigurationError,
    ObjectUnavailable,
    QuotaExhausted,
    RejectedError,
    RetriableError,
    SchemaChanged,
    UnknownOutcome,
)
from crm_assets.core.model import Object, Page, Poison, Source
from crm_assets.core.width import storable
from crm_assets.store import catalog, children, inbox, merges, setaside, stage
from crm_assets.store.apply import Applied, apply
from crm_assets.store.database import Conn, Database

log = logging.getLogger(__name__)

# A describe that changes under us more often than this within one drain is left to the next one.
_RELOADS = 3
_IGNORE_AT_ONCE = 1_000


@dataclass(slots=True)
class ObjectEvents:
    """What became of the hints of one object, in records; ``gone`` are those the CRM no longer knows."""

    read: int = 0
    gone: int = 0
    set_aside: int = 0
    failed: int = 0
    retried: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    undeleted: int = 0
    waiting: int = 0
    busy: bool = False

    def add(self, applied: Applied) -> None:
        self.inserted += applied.inserted
        self.updated += applied.updated
        self.unchanged += applied.unchanged
        self.deleted += applied.deleted
        self.undeleted += applied.undeleted
        self.waiting, self.busy = applied.waiting, applied.busy

    @property
    def applied(self) -> int:
        return self.inserted + self.updated + self.deleted + self.undeleted

    def counts(self) -> dict[str, int]:
        """As ``store.activity`` keeps it."""
        names = ("read", "inserted", "updated", "deleted", "undeleted", "set_aside", "failed", "retried", "waiting")
        return {name: int(getattr(self, name)) for name in names}


@dataclass(slots=True)
class EventsReport:
    """One drain. ``faults`` are errors of ours or of a setting, by object; their hints wait for another try."""

    objects: dict[str, ObjectEvents] = field(default_factory=dict)
    ignored: int = 0
    api_calls: int = 0
    exhausted: str | None = None
    faults: dict[str, str] = field(default_factory=dict)

    def of(self, table: str) -> ObjectEvents:
        return self.objects.setdefault(table, ObjectEvents())

    @property
    def reread(self) -> int:
        return sum(part.read for part in self.objects.values())

    @property
    def applied(self) -> int:
        return sum(part.applied for part in self.objects.values())

    @property
    def failed(self) -> int:
        return sum(part.failed for part in self.objects.values())

    @property
    def retried(self) -> int:
        return sum(part.retried for part in self.objects.values())

    @property
    def waiting(self) -> bool:
        """Whether staged records were left for a later apply."""
        return any(part.busy or part.waiting for part in self.objects.values())

    @property
    def settled(self) -> int:
        """Hints' records that need no further try."""
        return self.ignored + self.reread + self.failed


def drain(db: Database, connector: Connector, objects: Mapping[str, Object], limit: int | None = None) -> EventsReport:
    """Read what the inbox names until nothing is due or ``limit`` records were taken. Safe in any number of processes.

    An object that fails leaves its hints for later (or fails them, if the vendor refuses for good) and does not stop
    the others; only a fault of the database ends the drain.
    """
    return _Drain(db, connector, dict(objects)).run(limit)


class _DescribeChanged(Exception):
    """The page was read with fields that are no longer the described ones."""


class _Drain:
    def __init__(self, db: Database, connector: Connector, objects: dict[str, Object]) -> None:
        self._db = db
        self._connector = connector
        self._connection = connector.config.name
        self._objects = objects
        self._reloads = 0
        self._more = True
        self._report = EventsReport()

    def run(self, limit: int | None) -> EventsReport:
        before = self._connector.gate.calls
        taken = 0
        while self._more and (limit is None or taken < limit) and self._report.exhausted is None:
            with self._db.transaction() as conn:
                tables = inbox.due(conn, self._connection)
            self._more = False
            for table in tables:
                room = self._connector.max_fetch if limit is None else min(self._connector.max_fetch, limit - taken)
                if room <= 0 or self._report.exhausted is not None:
                    break
                taken += self._object(table, room)
        self._report.api_calls = self._connector.gate.calls - before
        return self._report

    def _object(self, table: str, room: int) -> int:
        """One batch of one object. Returns how many records it took from the inbox."""
        obj = self._objects.get(table)
        if obj is None:
            return self._ignore(table)
        with self._db.transaction() as conn:
            held = inbox.claim(conn, self._connection, table, room)
        if not held:
            return 0
        self._more = self._more or held.more
        self._read(obj, held, held.ids)
        self._report.of(table).add(apply(self._db, self._connection, obj))
        return len(held.ids)

    def _ignore(self, table: str) -> int:
        with self._db.transaction() as conn:
            held = inbox.claim(conn, self._connection, table, _IGNORE_AT_ONCE)
            reason = f"{self._connection} does not sync {table}; list the object in defs.yaml to sync it"
            self._report.ignored += inbox.finish(conn, held, "ignored", reason)
        self._more = self._more or held.more
        return len(held.ids)

    def _read(self, obj: Object, held: inbox.Claim, ids: Sequence[str]) -> None:
        """Fetch and stage; every id is settled, failed or released when this returns."""
        part = self._report.of(obj.table)
        try:
            assert held.at is not None
            page = storable(self._connector.fetch(obj, ids))
            self._stage(obj, held, ids, page, held.at)
        except QuotaExhausted as error:
            self._report.exhausted = str(error)
            part.retried += self._release(held, ids, error, until=error.until)
        except RetriableError as error:
            part.retried += self._release(held, ids, error, after=error.retry_after)
        except UnknownOutcome as error:  # a read changes nothing: it may simply be sent again
            part.retried += self._release(held, ids, error)
        except SchemaChanged as error:
            # Whoever reads the object next describes it anew; the hints outlast that.
            catalog.doubt(self._db, self._connection, obj.table)
            part.retried += self._release(held, ids, error)
        except RejectedError as error:
            if len(ids) > 1 and not isinstance(error, ObjectUnavailable):
                # One id that the vendor cannot read must not take the others with it.
                middle = len(ids) // 2
                self._read(obj, held, ids[:middle])
                self._read(obj, held, ids[middle:])
                return
            log.warning("%s.%s: %d records cannot be read: %s", self._connection, obj.table, len(ids), error)
            with self._db.transaction() as conn:
                inbox.finish(conn, held, "failed", str(error), ids)
            part.failed += len(ids)
        except _DescribeChanged as error:
            self._reload(obj.table)
            again = self._reloads <= _RELOADS
            part.retried += self._release(held, ids, error, now=again)
            self._more = self._more or again
        except psycopg.Error:
            raise
        except Exception as error:
            if not isinstance(error, ConfigurationError):
                log.exception("%s.%s: unexpected error while re-reading", self._connection, obj.table)
            self._report.faults[obj.table] = f"{type(error).__name__}: {error}"
            part.retried += self._release(held, ids, error)

    def _stage(self, obj: Object, held: inbox.Claim, ids: Sequence[str], page: Page, observed_at: datetime) -> None:
        part = self._report.of(obj.table)
        # A hint may also name a parent, whose children are the records.
        present = {*page.table.column("id").to_pylist(), *(p.id for p in page.poison), *page.complete_for}
        absent = [record_id for record_id in ids if record_id not in present]
        with self._db.transaction() as conn:
            self._same_describe(conn, obj)
            poison = [*page.poison, *self._put(conn, obj, page.table, observed_at)]
            merges.note(conn, self._connection, obj.table, page.merged, observed_at)
            stage.put_deleted(conn, self._connection, obj, [(i, None) for i in absent], Source.ID, observed_at)
            gone = children.stage_gone(conn, self._connection, obj, page, observed_at)
            setaside.record(conn, self._connection, obj.table, poison)
            inbox.finish(conn, held, ids=ids)
        part.read += len(ids)
        part.gone += len(absent) + gone
        part.set_aside += len(poison)

    def _put(self, conn: Conn, obj: Object, table: pa.Table, observed_at: datetime) -> list[Poison]:
        """Stage what can be stored; a record that cannot is found by halving and returned with its reason."""
        if table.num_rows == 0:
            return []
        try:
            with conn.transaction():
                stage.put(conn, self._connection, obj, Page(table), Source.ID, observed_at, wake=False)
            return []
        except (psycopg.DataError, pa.ArrowInvalid) as error:
            if table.num_rows == 1:
                return [Poison(table.column("id")[0].as_py(), "", f"cannot be stored: {_reason(error)}")]
        middle = table.num_rows // 2
        return [
            *self._put(conn, obj, table.slice(0, middle), observed_at),
            *self._put(conn, obj, table.slice(middle), observed_at),
        ]

    def _same_describe(self, conn: Conn, obj: Object) -> None:
        """A page read with older fields would empty the newer ones; the row's lock keeps them until our commit."""
        if not catalog.is_current(conn, self._connection, obj):
            raise _DescribeChanged(f"the fields of {self._connection}.{obj.table} changed while it was read")

    def _reload(self, table: str) -> None:
        self._reloads += 1
        stored = catalog.load(self._db, self._connection)
        if table in stored:
            self._objects[table] = replace(stored[table], rules=self._objects[table].rules)

    def _release(
        self,
        held: inbox.Claim,
        ids: Sequence[str],
        error: Exception,
        *,
        after: timedelta | None = None,
        until: datetime | None = None,
        now: bool = False,
    ) -> int:
        with self._db.transaction() as conn:
            inbox.release(conn, held, str(error), after=timedelta(0) if now else after, until=until, ids=ids)
        return len(ids)


def _reason(error: Exception) -> str:
    """The kind of fault; a server's message may hold the value itself and stays out."""
    if isinstance(error, psycopg.Error) and error.diag.sqlstate is None:
        return str(error).splitlines()[0]
    return type(error).__name__
