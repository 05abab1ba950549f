"""The resources of records: lists, CRUD, upsert by external id, sublists, transform."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Mapping
from typing import Any

from crm_assets.sandbox.http import Reply

from . import lines
from .batches import MOST
from .errors import ApiError, Problem, content, no_record, parameter
from .fields import RecordType
from .filters import condition
from .preferences import Preferences
from .records import IGNORED, Records, mark
from .schema import quote
from .shown import Shown
from .store import Row, Tx
from .wire import MOST_RESULTS, MOST_ROWS, Call, Page, Router, reply

_EXTERNAL = re.compile(r"eid:[A-Za-z0-9_-]+")


class Rows:
    """Answers ``/record/v1/{type}…``."""

    def __init__(self, records: Records, preferences: Preferences) -> None:
        self._records = records
        self._preferences = preferences

    def routes(self, router: Router) -> None:
        router.add("GET", "record/v1/{name}", "record_list", self.list)
        router.add("POST", "record/v1/{name}", "record_write", self.create)
        router.add("GET", "record/v1/{name}/{key}", "record_read", self.get)
        router.add("PATCH", "record/v1/{name}/{key}", "record_write", self.update)
        router.add("PUT", "record/v1/{name}/{key}", "record_write", self.upsert)
        router.add("DELETE", "record/v1/{name}/{key}", "record_write", self.delete)
        router.add("POST", "record/v1/salesOrder/{key}/!transform/invoice", "record_write", self.transform)
        router.add("GET", "record/v1/{name}/{key}/{sublist}", "record_read", self.sublist)
        router.add("GET", "record/v1/{name}/{key}/{sublist}/{line}", "record_read", self.line)

    def list(self, call: Call, name: str) -> Reply:
        kind, page = self._records.kind(name), Page.of(call.query)
        if "ids" in call.query:
            return self._several(call, kind)
        where, params = "1", list[Any]()
        if call.query.get("q", "").strip():
            where, params = condition(kind, call.query["q"], self._preferences.date_format)
        source = f"FROM {quote(kind.table)} WHERE {where}{mark(kind)}"
        with self._records.store.snapshot() as db:
            total = db.execute(f"SELECT count(*) FROM (SELECT 1 {source} LIMIT {MOST_RESULTS})", params).fetchone()[0]
            sql = f"SELECT id {source} ORDER BY id LIMIT ? OFFSET ?"
            ids = [row[0] for row in db.execute(sql, (*params, page.limit, page.offset))]
            shown = self._shown(db, call)
        return reply("collection", page.envelope(call, [shown.stub(kind, one) for one in ids], total))

    def _several(self, call: Call, kind: RecordType) -> Reply:
        """Records by their ids, in full if that is asked for; those there are."""
        keys = [one.strip() for one in call.query["ids"].split(",") if one.strip()][:MOST]
        with self._records.store.snapshot() as db:
            shown = self._shown(db, call)
            rows = [
                self._records.by_external(db, kind, key[4:])
                if key.startswith("eid:")
                else self._records.by_id(db, kind, key)
                for key in keys
            ]
            expand, full = call.flag("expandSubResources"), call.flag("expandRecords")
            items = [
                shown.record(kind, row, expand=expand) if full else shown.stub(kind, row["id"])
                for row in rows
                if row is not None
            ]
        return reply("collection", Page(MOST_ROWS, 0).envelope(call, items, len(items)))

    def _shown(self, db: sqlite3.Connection, call: Call) -> Shown:
        return Shown(db, self._records.schema, call.base, call.flag("simpleEnumFormat"))

    def get(self, call: Call, name: str, key: str) -> Reply:
        kind, names = self._records.kind(name), call.names("fields")
        unknown = names - _names(kind)
        if unknown:
            raise parameter(f"Unknown field: {', '.join(sorted(unknown))}.", "fields")
        with self._records.store.snapshot() as db:
            row = self._found(db, kind, key)
            body = self._shown(db, call).record(kind, row, names, call.flag("expandSubResources"))
        return reply("singular", body)

    def sublist(self, call: Call, name: str, key: str, sublist: str) -> Reply:
        kind = self._records.kind(name)
        own = kind.sublist(sublist)
        if own is None:
            raise ApiError(404, Problem(f"The sublist '{sublist}' does not exist.", "INVALID_URL"))
        with self._records.store.snapshot() as db:
            row = self._found(db, kind, key)
            body = self._shown(db, call).sublist(kind, row["id"], own, call.flag("expandSubResources"))
        return reply("collection", body)

    def line(self, call: Call, name: str, key: str, sublist: str, line: str) -> Reply:
        kind = self._records.kind(name)
        own = kind.sublist(sublist)
        with self._records.store.snapshot() as db:
            row = self._found(db, kind, key)
            found = lines.read(db, own, [row["id"]])[row["id"]] if own else []
            one = next((one for one in found if own and str(one[own.key.lower()]) == line), None)
            if own is None or one is None:
                raise no_record()
            body = self._shown(db, call).line(kind, row["id"], own, one, call.flag("expandSubResources"))
        return reply("singular", body)

    def create(self, call: Call, name: str) -> Reply:
        kind, given = self._records.kind(name), call.record()
        warnings = _warnings(call, kind, given)
        new = self._records.store.transact(lambda tx: self._records.create(tx, kind, given), call.late)
        return Reply(204, None, {"Location": f"{call.base}/record/v1/{kind.name}/{new}"} | warnings)

    def update(self, call: Call, name: str, key: str) -> Reply:
        kind, given = self._records.kind(name), call.record()
        warnings = _warnings(call, kind, given)
        replace = call.names("replace")
        if call.flag("replaceSelectedFields"):
            chosen = call.names("fields")
            given = {one: None for one in chosen if kind.sublist(one) is None} | given
            replace |= {one for one in chosen if kind.sublist(one)}

        def work(tx: Tx) -> int:
            row = self._found(tx.db, kind, key)
            return self._records.update(tx, kind, row, given, replace)

        done = self._records.store.transact(work, call.late)
        return Reply(204, None, {"Location": f"{call.base}/record/v1/{kind.name}/{done}"} | warnings)

    def upsert(self, call: Call, name: str, key: str) -> Reply:
        kind, given = self._records.kind(name), call.record()
        if not key.startswith("eid:"):
            detail = "A record is upserted by its external ID only: …/eid:{externalId}."
            raise ApiError(400, Problem(detail, "INVALID_REQUEST", ("o:errorUrl", key)))
        _external(key)
        warnings, replace = _warnings(call, kind, given), call.names("replace")
        done = self._records.store.transact(
            lambda tx: self._records.upsert(tx, kind, key[4:], given, replace), call.late
        )
        return Reply(204, None, {"Location": f"{call.base}/record/v1/{kind.name}/{done}"} | warnings)

    def delete(self, call: Call, name: str, key: str) -> Reply:
        kind = self._records.kind(name)
        self._records.store.transact(
            lambda tx: self._records.delete(tx, kind, self._found(tx.db, kind, key)), call.late
        )
        return Reply(204)

    def transform(self, call: Call, key: str) -> Reply:
        kind, target = self._records.kind("salesOrder"), self._records.kind("invoice")
        given = call.record() if call.body.strip() else {}
        warnings = _warnings(call, target, given)
        new = self._records.store.transact(
            lambda tx: self._records.transform(tx, self._found(tx.db, kind, key), given), call.late
        )
        return Reply(204, None, {"Location": f"{call.base}/record/v1/{target.name}/{new}"} | warnings)

    def _found(self, db: sqlite3.Connection, kind: RecordType, key: str) -> Row:
        if key.startswith("eid:"):
            _external(key)
        return self._records.find(db, kind, key)


def _external(key: str) -> None:
    """Other letters than these cannot stand in a URL; such a record is found by ``q``."""
    if not _EXTERNAL.fullmatch(key):
        raise parameter("An external ID in a URL has letters, digits, underscores and hyphens only.", "id")


def _names(kind: RecordType) -> frozenset[str]:
    return frozenset(field.name for field in kind.fields) | {one.name for one in kind.sublists}


def _warnings(call: Call, kind: RecordType, given: Mapping[str, Any]) -> dict[str, str]:
    """What ``X-NetSuite-PropertyNameValidation`` says to names that the record type does not have."""
    unknown = sorted(given.keys() - _names(kind) - IGNORED)
    mode = call.headers.get("x-netsuite-propertynamevalidation", "Warning").lower()
    if not unknown or mode == "ignore":
        return {}
    if mode == "error":
        raise content(f"Invalid content in the request body: unknown property '{unknown[0]}'.", unknown[0])
    return {"X-NetSuite-PropertyNameValidation-Warning": f"unknown properties were ignored: {', '.join(unknown)}"}
