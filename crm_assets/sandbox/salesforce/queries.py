"""Queries over REST: pages, locators, and rows as JSON."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from array import array
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from crm_assets.sandbox.http import Reply

from . import clock
from .compile import ADDRESS_PARTS, Column, Select, compile_query
from .errors import error
from .fields import Field
from .schema import Schema
from .soql import parse
from .store import Store
from .wire import Call, Router

_KEEP = timedelta(days=2)
_MOST = 200
_CHUNK = 2000


def wire(field: Field, value: Any) -> Any:
    """A stored value as JSON shows it."""
    if value is None:
        return None
    if field.type == "datetime":
        return clock.rest(value)
    if field.type == "boolean":
        return bool(value)
    return value


def address(values: Sequence[Any]) -> dict[str, Any] | None:
    """The compound field of an address, from street, city, state, postal code and country."""
    if all(value is None for value in values):
        return None
    body: dict[str, Any] = {
        "city": None,
        "country": None,
        "geocodeAccuracy": None,
        "latitude": None,
        "longitude": None,
        "postalCode": None,
        "state": None,
        "street": None,
    }
    for part, value in zip(ADDRESS_PARTS, values, strict=True):
        body[part[0].lower() + part[1:]] = value
    return body


class Shape:
    """Turns rows of a compiled query into nested records."""

    def __init__(self, select: Select, base: str) -> None:
        self._select = select
        self._base = f"{base}/sobjects/"
        self._slots: list[tuple[Column, int]] = []
        at = 0
        for column in select.columns:
            self._slots.append((column, at))
            at += len(column.sql)
        self._parents = {prefix: (kind.name, at + i) for i, (prefix, kind, _) in enumerate(select.parents)}

    def attributes(self, kind: str, record_id: str) -> dict[str, str]:
        return {"type": kind, "url": f"{self._base}{kind}/{record_id}"}

    def record(self, row: Sequence[Any], record_id: str) -> dict[str, Any]:
        record: dict[str, Any] = {"attributes": self.attributes(self._select.kind.name, record_id)}
        nested: dict[tuple[str, ...], dict[str, Any] | None] = {(): record}
        for column, at in self._slots:
            for end in range(1, len(column.path)):
                self._parent(nested, column.path[:end], row)
            target = nested[column.path[:-1]]
            if target is None:
                continue
            if column.field.type == "base64":
                # The bytes are a resource of their own.
                own = len(column.path) == 1 and row[at] is not None
                path = f"{self._base}{self._select.kind.name}/{record_id}/{column.field.name}"
                target[column.path[-1]] = path if own else None
            elif column.field.type == "address":
                target[column.path[-1]] = address(row[at : at + len(ADDRESS_PARTS)])
            else:
                target[column.path[-1]] = wire(column.field, row[at])
        return record

    def _parent(
        self,
        nested: dict[tuple[str, ...], dict[str, Any] | None],
        prefix: tuple[str, ...],
        row: Sequence[Any],
    ) -> None:
        """Opens the object of a parent where its first field stands; null if there is no parent."""
        if prefix in nested:
            return
        kind, at = self._parents[prefix]
        own: dict[str, Any] | None = None if row[at] is None else {"attributes": self.attributes(kind, row[at])}
        above = nested[prefix[:-1]]
        nested[prefix] = own
        if above is not None:
            above[prefix[-1]] = own


@dataclass(frozen=True, slots=True)
class Cursor:
    """An open result: the compiled query and the numbers of its rows as they were when it began."""

    select: Select
    rows: array[int]
    opened: datetime
    size: int


class Queries:
    """The query resources."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._cursors: OrderedDict[str, Cursor] = OrderedDict()
        self._lock = threading.Lock()

    @property
    def _schema(self) -> Schema:
        return self._store.schema

    def routes(self, router: Router) -> None:
        router.add("GET", "query", "query", lambda call: self.query(call, deleted=False))
        router.add("GET", "queryAll", "query", lambda call: self.query(call, deleted=True))
        router.add("GET", "query/{locator}", "query_more", self.more)
        router.add("GET", "queryAll/{locator}", "query_more", self.more)

    def query(self, call: Call, deleted: bool) -> Reply:
        text = call.query.get("q")
        if not text:
            raise error(400, "MALFORMED_QUERY", "A query string has to be specified")
        select = compile_query(self._schema, parse(text), deleted)
        size = batch_size(call)
        with self._store.snapshot() as db:
            if select.count_only:
                sql = f"SELECT count(*) FROM {select.source} WHERE {select.where}"
                total = db.execute(sql, select.params).fetchone()[0]
                return Reply(body={"totalSize": total, "done": True, "records": []})
            if select.aggregates:
                return self._aggregate(db, select)
            rows = array("q", (row[0] for row in db.execute(select.rows(), select.params)))
            cursor = Cursor(select, rows, clock.now(), size)
            locator = self._keep(cursor) if len(rows) > size else ""
            return self._page(db, call, cursor, locator, 0)

    def more(self, call: Call, locator: str) -> Reply:
        name, _, offset = locator.partition("-")
        with self._lock:
            cursor = self._cursors.get(name)
        if cursor is None or clock.now() - cursor.opened > _KEEP or not (offset or "0").isdigit():
            raise error(400, "INVALID_QUERY_LOCATOR", "invalid query locator")
        with self._store.snapshot() as db:
            return self._page(db, call, cursor, name, int(offset or "0"))

    def _keep(self, cursor: Cursor) -> str:
        name = "0r8" + secrets.token_hex(8)[:15].upper()
        with self._lock:
            self._cursors[name] = cursor
            # As in the real system, too many open results close the oldest one.
            while len(self._cursors) > _MOST:
                self._cursors.popitem(last=False)
        return name

    def _page(self, db: sqlite3.Connection, call: Call, cursor: Cursor, locator: str, start: int) -> Reply:
        end = start + cursor.size
        records = read(db, cursor.select, cursor.rows[start:end], call.base)
        body: dict[str, Any] = {"totalSize": len(cursor.rows), "done": end >= len(cursor.rows)}
        if not body["done"]:
            body["nextRecordsUrl"] = f"{call.base}/query/{locator}-{end}"
        return Reply(body=body | {"records": records})

    def _aggregate(self, db: sqlite3.Connection, select: Select) -> Reply:
        columns = ", ".join(sql for _, sql, _ in select.aggregates)
        sql = f"SELECT {columns} FROM {select.source} WHERE {select.where}{select.tail}"
        records = []
        for row in db.execute(sql, select.params):
            record: dict[str, Any] = {"attributes": {"type": "AggregateResult"}}
            for (name, _, field), value in zip(select.aggregates, row, strict=True):
                record[name] = wire(field, value)
            records.append(record)
        return Reply(body={"totalSize": len(records), "done": True, "records": records})


def read(db: sqlite3.Connection, select: Select, rows: Sequence[int], base: str) -> list[dict[str, Any]]:
    """Records of given rows, in their order; rows that are gone by now are left out."""
    shape = Shape(select, base)
    found: dict[int, dict[str, Any]] = {}
    for at in range(0, len(rows), _CHUNK):
        part = rows[at : at + _CHUNK]
        sql = select.page(len(part))
        for row in db.execute(sql, tuple(part)):
            found[row[0]] = shape.record(row[1:-1], row[-1])
    return [found[row] for row in rows if row in found]


def batch_size(call: Call) -> int:
    """The page size a client asked for, within what the vendor allows."""
    options = call.headers.get("sforce-query-options", "")
    for option in options.split(","):
        name, _, value = option.partition("=")
        if name.strip().lower() == "batchsize" and value.strip().isdigit():
            return min(2000, max(200, int(value)))
    return 2000
