"""Batches of a hundred: ``/crm/v3/objects/{type}/batch/…``.

A batch is one write: without a trace id for each input, one bad input undoes it all. With trace ids each input stands
for itself, and the reply is a 207 that says which trace id failed and why. Results come in another order than inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from crm_assets.sandbox.http import Reply
from crm_assets.sandbox.routes import Routes

from . import clock
from .errors import ApiError, invalid
from .kinds import Kind
from .objects import properties
from .records import Records, number
from .shape import Record, Shape
from .store import Row, Tx
from .wire import Call, batch, inputs, strings

Input = dict[str, Any]
Write = Callable[[Tx, Kind, Input], tuple[int, dict[str, Any]]]
_TRACE = "objectWriteTraceId"


class Batches:
    """Reads and writes of many records in one call."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._store = records.store
        self._schema = records.schema

    def routes(self, routes: Routes) -> None:
        base = "/crm/v3/objects/{type}/batch"
        routes.add("POST", f"{base}/read", "batch_read", self.read)
        routes.add("POST", f"{base}/create", "batch_create", self.create)
        routes.add("POST", f"{base}/update", "batch_update", self.update)
        routes.add("POST", f"{base}/upsert", "batch_upsert", self.upsert)
        routes.add("POST", f"{base}/archive", "batch_archive", self.archive)

    def read(self, call: Call, type: str) -> Reply:
        kind, body, started = self._schema.kind(type), call.body(), clock.now()
        keys = list(dict.fromkeys(str(one.get("id")) for one in inputs(body)))
        id_property, archived = body.get("idProperty"), call.flag("archived")
        shape = Shape(
            kind,
            self._schema.live(kind),
            strings(body.get("properties")),
            strings(body.get("propertiesWithHistory")),
        )
        with self._store.snapshot() as db:
            if id_property in (None, "", "hs_object_id"):
                # Only numbers can be ids. The ids of merged records lead to the survivor on single reads alone.
                ids = {key: int(key) for key in keys if key.isascii() and key.isdigit() and len(key) <= 18}
                found = self._records.rows(db, kind, ids.values())
                rows = {key: found[one] for key, one in ids.items() if one in found and found[one].merged is None}
                rows = {key: row for key, row in rows.items() if (row.archived is not None) is archived}
            else:
                asked = {key: self._records.by_key(db, kind, key, str(id_property), archived) for key in keys}
                rows = {key: row for key, row in asked.items() if row is not None}
            ordered = sorted({row.id: row for row in rows.values()}.values(), key=lambda row: row.id)
            made = shape.records(db, ordered)
        missing = [key for key in keys if key not in rows]
        return batch(made, [_missing(kind, missing)] if missing else [], started)

    def create(self, call: Call, type: str) -> Reply:
        def write(tx: Tx, kind: Kind, one: Input) -> tuple[int, dict[str, Any]]:
            given = properties(one)
            return self._records.create(tx, kind, given, one.get("associations") or []), {}

        return self._write(call, self._schema.kind(type), write, 201)

    def update(self, call: Call, type: str) -> Reply:
        def write(tx: Tx, kind: Kind, one: Input) -> tuple[int, dict[str, Any]]:
            key = str(one.get("id"))
            row = self._records.by_key(tx.db, kind, key, one.get("idProperty"))
            if row is None:
                raise _absent(kind, key)
            self._records.update(tx, kind, row, properties(one))
            return row.id, {}

        return self._write(call, self._schema.kind(type), write, 200)

    def upsert(self, call: Call, type: str) -> Reply:
        def write(tx: Tx, kind: Kind, one: Input) -> tuple[int, dict[str, Any]]:
            key, id_property, given = str(one.get("id")), one.get("idProperty"), properties(one)
            row = self._records.by_key(tx.db, kind, key, id_property)
            if row is not None:
                self._records.update(tx, kind, row, given)
                return row.id, {"new": False}
            if id_property in (None, "", "hs_object_id"):
                raise _absent(kind, key)
            return self._records.create(tx, kind, {id_property: key} | given), {"new": True}

        return self._write(call, self._schema.kind(type), write, 200)

    def archive(self, call: Call, type: str) -> Reply:
        kind, keys = self._schema.kind(type), [str(one.get("id")) for one in call.inputs()]

        def work(tx: Tx) -> None:
            ids = [number(key) for key in keys]
            for row in self._records.rows(tx.db, kind, ids).values():
                if row.live:
                    self._records.archive(tx, kind, row)

        self._store.transact(work, call.late)
        return Reply(204)

    def _write(self, call: Call, kind: Kind, write: Write, status: int) -> Reply:
        given, started = call.inputs(), clock.now()
        keys = [(one.get("idProperty"), str(one["id"])) for one in given if "id" in one]
        if len(set(keys)) < len(keys):
            twice = sorted({key for _, key in keys if sum(key == other for _, other in keys) > 1})
            raise invalid(f"Duplicate IDs found in batch input: [{', '.join(twice)}]. IDs must be unique", ids=twice)
        traces = [one.get(_TRACE) for one in given]
        apart = all(traces) and len(set(map(str, traces))) == len(traces)

        def work(tx: Tx) -> tuple[list[tuple[Input, Row, dict[str, Any]]], list[Record]]:
            done, errors = [], []
            for position, one in enumerate(given):
                try:
                    with tx.part():
                        if call.half and position % 2:
                            raise ApiError(500, "internal error", "INTERNAL_ERROR")
                        record_id, facts = write(tx, kind, one)
                    row = self._records.row(tx.db, kind, record_id)
                    assert row is not None
                    done.append((one, row, facts))
                except ApiError as failed:
                    # What is not there is always told apart from what is wrong.
                    if not apart and not call.half and failed.category != "OBJECT_NOT_FOUND":
                        raise
                    errors.append(failed.item(_context(one)))
            return done, errors

        done, errors = self._store.transact(work, call.late)
        return batch(self._results(kind, done), errors, started, status)

    def _results(self, kind: Kind, done: Sequence[tuple[Input, Row, dict[str, Any]]]) -> list[Record]:
        live, results = self._schema.live(kind), []
        for one, row, facts in reversed(done):
            record = Shape(kind, live, [*kind.defaults, *properties(one)]).record(row) | facts
            if one.get(_TRACE):
                record[_TRACE] = str(one[_TRACE])
            results.append(record)
        return results


def _context(one: Input) -> dict[str, Sequence[str]]:
    context: dict[str, Sequence[str]] = {}
    if one.get(_TRACE):
        context[_TRACE] = [str(one[_TRACE])]
    if "id" in one:
        context["ids"] = [str(one["id"])]
    return context


def _absent(kind: Kind, key: str) -> ApiError:
    message = f"Could not get some {kind.singular.upper()} objects, they may be deleted or not exist."
    return ApiError(404, message + " Check that ids are valid.", "OBJECT_NOT_FOUND", {"ids": [key]})


def _missing(kind: Kind, keys: Sequence[str]) -> dict[str, Any]:
    return _absent(kind, keys[0]).item({"ids": keys})
