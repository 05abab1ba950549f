"""The resources of single records: CRUD, upsert, and the lists of what was changed or deleted."""

from __future__ import annotations

from base64 import b64decode
from datetime import datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

from crm_assets.sandbox.http import Reply

from . import clock
from .compile import compile_query
from .errors import error, not_found
from .objects import SObject
from .queries import read
from .records import Records
from .schema import quote
from .soql import Compare, Literal, Query
from .store import Tx, ago
from .wire import Call, Router


class Rows:
    """The record resources of ``/sobjects``."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def routes(self, router: Router) -> None:
        router.add("POST", "sobjects/{name}", "sobject_write", self.create)
        router.add("GET", "sobjects/{name}/updated", "updated", self.updated)
        router.add("GET", "sobjects/{name}/deleted", "deleted", self.deleted)
        router.add("GET", "sobjects/{name}/{record_id}", "sobject_read", self.get)
        router.add("PATCH", "sobjects/{name}/{record_id}", "sobject_write", self.update)
        router.add("DELETE", "sobjects/{name}/{record_id}", "sobject_write", self.delete)
        router.add("GET", "sobjects/{name}/{key}/{value}", "sobject_read", self.get_by_key)
        router.add("PATCH", "sobjects/{name}/{key}/{value}", "sobject_write", self.upsert)
        router.add("DELETE", "sobjects/{name}/{key}/{value}", "sobject_write", self.delete_by_key)

    def create(self, call: Call, name: str) -> Reply:
        kind, values = self._records.object(name), call.record()
        new = self._records.store.transact(lambda tx: self._records.create(tx, kind, values), call.late)
        headers = {"Location": f"{call.base}/sobjects/{kind.name}/{new}"}
        return Reply(201, {"id": new, "success": True, "errors": []}, headers)

    def get(self, call: Call, name: str, record_id: str) -> Reply:
        kind = self._records.object(name)
        with self._records.store.snapshot() as db:
            row = self._records.alive(Tx(db, clock.now(), int), kind, record_id)
            stamp = clock.parse(row["LastModifiedDate"] or row["SystemModstamp"])
            if self._since(call, "if-modified-since", stamp) is False:
                return Reply(304)
            if self._since(call, "if-unmodified-since", stamp):
                raise _precondition()
            names = [one.strip() for one in call.query.get("fields", "").split(",") if one.strip()]
            paths = [tuple(one.split(".")) for one in names] or [(field.name,) for field in kind.seen]
            if names and "id" not in {one.lower() for one in names}:
                paths.append(("Id",))
            condition = Compare(("Id",), "=", Literal("string", row["Id"]))
            select = compile_query(self._records.schema, Query(kind.name, tuple(paths), condition))
            rows = [one[0] for one in db.execute(select.rows(), select.params)]
            return Reply(body=read(db, select, rows, call.base)[0])

    def get_by_key(self, call: Call, name: str, key: str, value: str) -> Reply:
        kind = self._records.object(name)
        if (body := kind.find(value)) is not None and body.type == "base64":
            row = self._records.alive(Tx(self._records.store.reader, clock.now(), int), kind, key)
            return Reply(body=b64decode(row[body.name] or ""), headers={"Content-Type": "application/octetstream"})
        field = self._records.key_field(kind, key)
        found = self._records.matches(self._records.store.reader, kind, field, value)
        if len(found) > 1:
            return _several(call, kind, found)
        if not found:
            raise not_found()
        return self.get(call, name, found[0])

    def update(self, call: Call, name: str, record_id: str) -> Reply:
        kind, values = self._records.object(name), call.record()

        def work(tx: Tx) -> None:
            row = self._records.alive(tx, kind, record_id)
            stamp = clock.parse(row["LastModifiedDate"] or row["SystemModstamp"])
            if self._since(call, "if-unmodified-since", stamp) or (
                self._since(call, "if-modified-since", stamp) is False
            ):
                raise _precondition()
            self._records.update(tx, kind, record_id, values)

        self._records.store.transact(work, call.late)
        return Reply(204)

    def delete(self, call: Call, name: str, record_id: str) -> Reply:
        kind = self._records.object(name)
        self._records.store.transact(lambda tx: self._records.delete(tx, kind, record_id), call.late)
        return Reply(204)

    def delete_by_key(self, call: Call, name: str, key: str, value: str) -> Reply:
        kind = self._records.object(name)
        field = self._records.key_field(kind, key)

        def work(tx: Tx) -> list[str]:
            found = self._records.matches(tx.db, kind, field, value)
            if len(found) == 1:
                self._records.delete(tx, kind, found[0])
            return found

        found = self._records.store.transact(work, call.late)
        if not found:
            raise not_found()
        return Reply(204) if len(found) == 1 else _several(call, kind, found)

    def upsert(self, call: Call, name: str, key: str, value: str) -> Reply:
        kind, values = self._records.object(name), call.record()
        update_only = call.query.get("updateOnly", "false").lower() == "true"

        def work(tx: Tx) -> tuple[str, bool] | list[str]:
            return upsert(self._records, tx, kind, key, value, values, update_only)

        done = self._records.store.transact(work, call.late)
        if isinstance(done, list):
            return _several(call, kind, done)
        record_id, created = done
        return Reply(201 if created else 200, {"id": record_id, "success": True, "errors": [], "created": created})

    def _since(self, call: Call, header: str, stamp: datetime) -> bool | None:
        """Whether the record changed after the header's moment; None without such a header."""
        text = call.headers.get(header)
        if text is None:
            return None
        try:
            return stamp > parsedate_to_datetime(text)
        except ValueError:
            raise error(400, "INVALID_HEADER", f"Bad date in {header}: {text}") from None

    def updated(self, call: Call, name: str) -> Reply:
        kind, start, end = self._window(call, name, days=30)
        # Read before the ids: what commits in between is reported again next time, never left out.
        covered = min(self._records.store.covered(), end)
        alive = ' AND "IsDeleted" = 0' if kind.deletable else ""
        within = f'"SystemModstamp" >= ? AND "SystemModstamp" <= ?{alive}'
        sql = f'SELECT "Id" FROM {quote(kind.name)} WHERE {within}'
        rows = self._records.store.reader.execute(sql, (clock.stored(start), clock.stored(end)))
        body = {"ids": [row[0] for row in rows], "latestDateCovered": clock.rest(clock.stored(covered))}
        return Reply(body=body)

    def deleted(self, call: Call, name: str) -> Reply:
        kind, start, end = self._window(call, name, days=15)
        covered = min(self._records.store.covered(), end)
        params: tuple[Any, ...] = (clock.stored(start), clock.stored(end))
        gone: list[tuple[str, str]] = []
        db = self._records.store.reader
        if kind.deletable:
            sql = (
                f'SELECT "Id", "SystemModstamp" FROM {quote(kind.name)} WHERE "IsDeleted" = 1'
                ' AND "SystemModstamp" >= ? AND "SystemModstamp" <= ?'
            )
            gone += db.execute(sql, params).fetchall()
            sql = "SELECT id, at FROM _erased WHERE object = ? AND at >= ? AND at <= ?"
            gone += db.execute(sql, (kind.name, *params)).fetchall()
        if len(gone) > 600_000:
            raise error(400, "EXCEEDED_ID_LIMIT", "The number of deleted ids exceeds 600000")
        body = {
            "deletedRecords": [{"deletedDate": clock.rest(at), "id": one} for one, at in sorted(gone, key=_second)],
            "earliestDateAvailable": clock.rest(ago(clock.now(), days=15)),
            "latestDateCovered": clock.rest(clock.stored(covered)),
        }
        return Reply(body=body)

    def _window(self, call: Call, name: str, days: int) -> tuple[SObject, datetime, datetime]:
        """The span asked for, its start at the full minute: the vendor ignores the seconds.

        Dropping them can only widen the span here, so that no id is lost between two calls.
        """
        kind = self._records.object(name)
        try:
            start, end = (clock.parse(call.query[key].replace(" ", "+")) for key in ("start", "end"))
        except (KeyError, ValueError):
            raise error(400, "INVALID_REPLICATION_DATE", "start and end must be ISO 8601 date times") from None
        if start.replace(second=0, microsecond=0) >= end:
            raise error(400, "INVALID_REPLICATION_DATE", "startDate must be before endDate")
        if start < clock.now() - timedelta(days=days):
            raise error(400, "INVALID_REPLICATION_DATE", f"startDate is more than {days} days ago")
        return kind, start.replace(second=0, microsecond=0), end.replace(microsecond=0)


def _second(pair: tuple[str, str]) -> str:
    return pair[1]


def _precondition() -> Exception:
    return error(412, "PRECONDITION_FAILED", "The record was changed in the meantime")


def _several(call: Call, kind: SObject, found: list[str]) -> Reply:
    return Reply(300, [f"{call.base}/sobjects/{kind.name}/{one}" for one in found])


def upsert(
    records: Records, tx: Tx, kind: SObject, key: str, value: str, values: dict[str, Any], update_only: bool
) -> tuple[str, bool] | list[str]:
    """By a key field: updates the one match, creates without a match, or names the several."""
    field = records.key_field(kind, key)
    if any(name.lower() == key.lower() for name in values):
        raise error(400, "INVALID_FIELD", f"The {field.name} field should not be specified in the sobject data.")
    found = records.matches(tx.db, kind, field, value)
    if len(found) > 1:
        return found
    if found:
        return records.update(tx, kind, found[0], values), False
    if update_only or field.type == "id":
        raise not_found()
    return records.create(tx, kind, {**values, field.name: value}), True
