"""A CRM in memory behind the connector's socket, for faults that must strike at one exact moment."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pyarrow as pa

from crm_assets.connectors.base import ConnectionConfig
from crm_assets.core.errors import RejectedError
from crm_assets.core.model import (
    Bound,
    Change,
    Deleted,
    Field,
    FieldType,
    Limit,
    Mutation,
    Object,
    Outcome,
    Page,
    Poison,
    Value,
    Window,
)

SECRET = "sandbox"
OLDEST_SIGNATURE = 300


def described(table: str, *columns: str) -> Object:
    """An object with text fields, as describe would give it."""
    return Object(
        name=table.title().replace("_", ""),
        table=table,
        fields=tuple(
            Field(name=c.title(), column=c, type=FieldType.TEXT, vendor_type="string", updateable=True) for c in columns
        ),
        createable=True,
        updateable=True,
        deletable=True,
    )


def delivery(changes: Sequence[Mapping[str, Any]], *, at: float | None = None, secret: str = SECRET) -> dict[str, Any]:
    """Arguments for httpx: a signed webhook."""
    body = json.dumps({"events": list(changes)}).encode()
    stamp = str(int(time.time() if at is None else at))
    signature = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"content": body, "headers": {"X-Timestamp": stamp, "X-Signature": signature}}


class CountingGate:
    def __init__(self) -> None:
        self.calls = 0

    @contextmanager
    def call(self, api: str) -> Iterator[None]:
        self.calls += 1
        yield

    def observe(self, limits: Sequence[Limit]) -> None:
        del limits


class Desk:
    """Records by object and id. ``before_fetch`` runs in the middle of a call: after it left, before its answer."""

    max_write = 200
    max_fetch = 100
    overlap = timedelta(seconds=0)

    def __init__(self, name: str = "desk") -> None:
        self.config = ConnectionConfig(name, "desk", "http://127.0.0.1:9")
        self.gate = CountingGate()
        self.records: dict[str, dict[str, dict[str, str | None]]] = {}
        self.versions: dict[tuple[str, str], datetime] = {}
        self.before_fetch: Callable[[Object, Sequence[str]], None] = lambda _obj, _ids: None
        self.unreadable: set[str] = set()
        self.poisonous: set[str] = set()
        self.fetched: list[tuple[str, tuple[str, ...]]] = []

    def put(self, table: str, record_id: str, **values: str | None) -> None:
        self.records.setdefault(table, {})[record_id] = values
        self.versions[table, record_id] = datetime.now(UTC)

    def drop(self, table: str, record_id: str) -> None:
        del self.records[table][record_id]

    def fetch(self, obj: Object, ids: Sequence[str]) -> Page:
        with self.gate.call("query"):
            self.fetched.append((obj.table, tuple(ids)))
            self.before_fetch(obj, ids)
            if bad := self.unreadable.intersection(ids):
                raise RejectedError(f"malformed id: {len(bad)}", "MALFORMED_ID")
            found = {i: self.records.get(obj.table, {})[i] for i in ids if i in self.records.get(obj.table, {})}
        rows = [
            {"id": i, "_version": self.versions[obj.table, i], "_deleted": False}
            | {f.column: values.get(f.column) for f in obj.fields}
            for i, values in found.items()
            if i not in self.poisonous
        ]
        poison = tuple(Poison(i, "Name", "no such date") for i in found if i in self.poisonous)
        return Page(pa.Table.from_pylist(rows, schema=obj.page_schema()), poison)

    def parse_event(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[Change]:
        stamp = headers.get("x-timestamp", "")
        signed = hmac.new(SECRET.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
        if not hmac.compare_digest(signed, headers.get("x-signature", "")):
            raise PermissionError("wrong signature")
        if abs(time.time() - int(stamp)) > OLDEST_SIGNATURE:
            raise PermissionError("old signature")
        events = json.loads(body)["events"]
        return [Change(e["event_id"], e["object"], e["record_id"], e.get("change", "updated")) for e in events]

    def describe(self, object_name: str, chosen: Mapping[str, str] | None = None) -> Object:
        raise NotImplementedError

    def object_names(self) -> Sequence[str]:
        return list(self.records)

    def bound(self, obj: Object, low: datetime | None) -> Bound:
        raise NotImplementedError

    def read(self, obj: Object, window: Window | None) -> Iterator[Page]:
        raise NotImplementedError

    def deletes(self, obj: Object, window: Window) -> Iterator[Deleted]:
        raise NotImplementedError

    def lookup(self, obj: Object, row_ids: Sequence[str]) -> Page:
        raise NotImplementedError

    def count(self, obj: Object, window: Window | None = None) -> int:
        return len(self.records.get(obj.table, {}))

    def ids(self, obj: Object, window: Window | None = None) -> Iterator[Sequence[str]]:
        yield list(self.records.get(obj.table, {}))

    def write(self, obj: Object, mutations: Sequence[Mutation]) -> Sequence[Outcome]:
        raise NotImplementedError

    def same(self, fld: Field, ours: Value, theirs: Value) -> bool:
        return ours == theirs

    def close(self) -> None:
        return None
