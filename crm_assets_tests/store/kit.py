"""One CRM object with its mirror, as the tests of the store see it: the CRM's side, the product's side, apply."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pyarrow as pa
from psycopg import sql
from psycopg.rows import dict_row

from crm_assets.core.model import Field, FieldType, Object, Page, Source
from crm_assets.store import apply as apply_module
from crm_assets.store import outbox, stage
from crm_assets.store.apply import Applied, apply
from crm_assets.store.database import Database
from crm_assets.store.settle import Settlement, settle
from crm_assets.store.worker import Worker
from crm_assets.store.write import Write

CONNECTION = "salesforce"
LEASE = timedelta(seconds=30)


def column(name: str, column: str, kind: FieldType = FieldType.TEXT, *, write: bool = True, **more: Any) -> Field:
    return Field(name, column, kind, "string", createable=write, updateable=write, **more)


CONTACT = Object(
    "Contact",
    "contact",
    (
        column("LastName", "last_name"),
        column("Email", "email"),
        column("Amount", "amount", FieldType.NUMBER),
        column("MetAt", "met_at", FieldType.TIMESTAMP),
        column("ReportsToId", "reports_to_id", FieldType.REFERENCE, reference_to=("Contact",)),
        column("Crm_Assets_Row_Id__c", "crm_assets_row_id_c"),
        column("Score", "score", FieldType.INTEGER, write=False),
    ),
    createable=True,
    updateable=True,
    deletable=True,
    external_id="Crm_Assets_Row_Id__c",
)
CONTACT_WITHOUT_EXTERNAL_ID = replace(CONTACT, external_id=None)


def at(second: int) -> datetime:
    """A version of the CRM; small numbers are old."""
    return datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=second)


@dataclass
class Mirror:
    """``db`` acts as the owner; ``product`` opens sessions of the product, which end with the test."""

    db: Database
    writer_url: str
    obj: Object = CONTACT
    sessions: list[psycopg.Connection[dict[str, Any]]] = field(default_factory=list)

    # The CRM's side.

    def observe(
        self,
        *records: dict[str, Any],
        source: Source = Source.LIST,
        observed_at: datetime | None = None,
        load: int | None = None,
    ) -> datetime:
        """Stage records, their ``v`` being the version in seconds. Returns when they were observed."""
        observed_at = observed_at or self.db.now()
        schema = self.obj.page_schema()
        rows = []
        for record in records:
            given = {"_deleted": False, **record}
            version = given.pop("v", None)
            given["_version"] = version if version is None or self.obj.version_text else at(version)
            rows.append({name: given.get(name) for name in schema.names})
        page = Page(pa.Table.from_pylist(rows, schema=schema))
        with self.db.transaction() as conn:
            stage.put(conn, CONNECTION, self.obj, page, source, observed_at)
            if load is not None:
                conn.execute(f"UPDATE {CONNECTION}_stage.{self.obj.table} SET _load = %s WHERE _load IS NULL", (load,))
        return observed_at

    def gone(
        self, record_id: str, version: int | None = None, source: Source = Source.ID, when: datetime | None = None
    ) -> None:
        """Stage a deletion; without a version it is a primary read that found nothing."""
        moment = None if version is None else at(version)
        with self.db.transaction() as conn:
            stage.put_deleted(conn, CONNECTION, self.obj, [(record_id, moment)], source, when or self.db.now())

    def apply(self, **options: Any) -> Applied:
        return apply(self.db, CONNECTION, self.obj, **options)

    def seen(self, *records: dict[str, Any], source: Source = Source.LIST) -> Applied:
        self.observe(*records, source=source)
        return self.apply()

    @contextmanager
    def before(self, step: str, then: Callable[[], object], *, must: bool = True) -> Iterator[None]:
        """Inside: ``apply`` does ``then`` once, from outside of its transaction, just before one of its statements.

        ``step`` names a statement of a batch, or is a part of the text of another one.
        """
        plain = self.db
        statements = apply_module._statements(CONNECTION, self.obj, plain.server_version >= apply_module._RETURNS_OLD)
        statement = getattr(statements, step, None)
        fired: list[bool] = []

        def hook(query: sql.Composed | str) -> None:
            text = query if isinstance(query, str) else query.as_string(None)
            if not fired and (query is statement if statement is not None else step in text):
                fired.append(True)
                then()

        self.db = _Hooked(plain, hook)  # type: ignore[assignment]
        try:
            yield
        finally:
            self.db = plain
        assert fired or not must, f"apply never came to {step}"

    # The product's side.

    def product(self, **options: Any) -> psycopg.Connection[dict[str, Any]]:
        """A session of the product: its own transaction until it commits."""
        conn = psycopg.connect(
            self.writer_url, row_factory=dict_row, options="-c statement_timeout=20s -c timezone=UTC", **options
        )
        self.sessions.append(conn)
        return conn

    def write(self, query: str, *values: Any) -> None:
        """One statement of the product, committed."""
        with psycopg.connect(self.writer_url) as conn:
            conn.execute(query, values)

    # What is there now.

    def all(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with self.db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
            cursor.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def one(self, query: str, *values: Any) -> dict[str, Any]:
        (row,) = self.all(query, *values)
        return row

    def value(self, query: str, *values: Any) -> Any:
        (value,) = self.one(query, *values).values()
        return value

    def rows(self) -> dict[str, dict[str, Any]]:
        """Mirror rows by id."""
        return {r["id"]: r for r in self.all(f"SELECT * FROM {CONNECTION}.{self.obj.table}")}

    def row(self, record_id: str) -> dict[str, Any]:
        return self.rows()[record_id]

    def outbox(self, where: str = "true") -> list[dict[str, Any]]:
        return self.all(f"SELECT * FROM crm_assets.outbox WHERE {where} ORDER BY seq")

    def states(self) -> list[tuple[str, str]]:
        return [(r["op"], r["state"]) for r in self.outbox()]

    def staged(self) -> int:
        return int(self.value(f"SELECT count(*) FROM {CONNECTION}_stage.{self.obj.table}"))

    def rereads(self) -> list[str]:
        return [r["record_id"] for r in self.all("SELECT record_id FROM crm_assets.inbox ORDER BY seq")]

    def drift(self) -> list[tuple[str, str]]:
        return [(r["id"], r["kind"]) for r in self.all("SELECT id, kind FROM crm_assets.drift WHERE state = 'open'")]

    # Write-back.

    def claim(self, worker: Worker, limit: int = 100, lease: timedelta = LEASE) -> list[Write]:
        return outbox.claim(self.db, CONNECTION, self.obj, worker, limit, lease)

    def settle(self, write: Write, state: str, **more: Any) -> int:
        return settle(self.db, CONNECTION, self.obj, [Settlement(write, state, **more)])

    def confirm(self, worker: Worker, *ids: str) -> list[Write]:
        """Claim what is due and confirm it; ``ids`` are for creates, in order."""
        writes = self.claim(worker)
        given = iter(ids)
        for write in writes:
            self.settle(write, "confirmed", id=next(given) if write.op == "create" else write.id)
        return writes

    def reject(self, worker: Worker, reason: str = "no") -> list[Write]:
        writes = self.claim(worker)
        for write in writes:
            self.settle(write, "rejected", reason=reason)
        return writes


class _Hooked:
    """A Database whose statements are announced before they run."""

    def __init__(self, db: Database, hook: Callable[[Any], None]) -> None:
        self._db, self._hook = db, hook

    @contextmanager
    def transaction(self) -> Iterator[_HookedConn]:
        with self._db.transaction() as conn:
            yield _HookedConn(conn, self._hook)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


class _HookedConn:
    def __init__(self, conn: Any, hook: Callable[[Any], None]) -> None:
        self._conn, self._hook = conn, hook

    def execute(self, query: sql.Composed | str, *rest: Any) -> Any:
        self._hook(query)
        return self._conn.execute(query, *rest)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._conn, name)


@contextmanager
def in_thread(work: Callable[[], Any]) -> Iterator[Future[Any]]:
    """Runs ``work`` beside the body; its exceptions come out of ``result()``."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(work)


def wait_until(condition: Callable[[], Any], seconds: float = 15.0) -> Any:
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, f"not within {seconds} s"
        time.sleep(0.01)
    return value


def wait_for_waiter(mirror: Mirror, holder: psycopg.Connection[Any]) -> None:
    """Until some session waits for a lock that ``holder`` has."""
    pid = holder.info.backend_pid
    wait_until(
        lambda: mirror.value(
            "SELECT EXISTS (SELECT FROM pg_locks w WHERE NOT w.granted AND %s = ANY (pg_blocking_pids(w.pid)))", pid
        )
    )
