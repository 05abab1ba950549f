"""Collections: up to 200 records in one call, each with a result of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from crm_assets.sandbox.http import Reply

from . import ids
from .compile import compile_query
from .errors import ApiError, Fault, error
from .objects import SObject
from .queries import read
from .records import Records
from .rows import upsert
from .soql import Among, Literal, Query
from .store import Tx
from .wire import Call, Router

MOST = 200
_LOCKED = Fault("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access to this record or 1 records: {}", ())
_HALTED = Fault(
    "ALL_OR_NONE_OPERATION_ROLLED_BACK",
    "Record rolled back because not all records were valid and the request was using AllOrNone header",
    (),
)
Work = Callable[[Tx], dict[str, Any]]


class _UndoError(Exception):
    """Leaves the transaction of a batch that must not be kept."""

    def __init__(self, results: list[dict[str, Any]]) -> None:
        super().__init__()
        self.results = results


def translate(failed: ApiError) -> tuple[Fault, ...]:
    """In a batch an unknown id has another code than at its own URL."""
    if failed.faults[0].code == "NOT_FOUND":
        return (Fault("INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", ()),)
    return failed.faults


class Batches:
    """``/composite/sobjects``."""

    def __init__(self, records: Records) -> None:
        self._records = records

    def routes(self, router: Router) -> None:
        router.add("POST", "composite/sobjects", "collections", self.create)
        router.add("PATCH", "composite/sobjects", "collections", self.update)
        router.add("DELETE", "composite/sobjects", "collections", self.delete)
        router.add("PATCH", "composite/sobjects/{name}/{key}", "collections", self.upsert)
        router.add("GET", "composite/sobjects/{name}", "retrieve", self.retrieve)
        router.add("POST", "composite/sobjects/{name}", "retrieve", self.retrieve)

    def _body(self, call: Call) -> tuple[list[dict[str, Any]], bool]:
        body = call.record()
        records = body.get("records")
        if not isinstance(records, list) or not all(isinstance(one, dict) for one in records):
            raise error(400, "JSON_PARSER_ERROR", "records: a list of objects is needed at [line:1, column:1]")
        self._size(len(records))
        types = [self._type(one) for one in records]
        runs = sum(a != b for a, b in zip(types, [None, *types], strict=False))
        if runs > 10:
            raise error(400, "LIMIT_EXCEEDED", "Cannot have more than 10 chunks in a single operation")
        return records, bool(body.get("allOrNone"))

    def _size(self, count: int) -> None:
        if count > MOST:
            raise error(
                400,
                "EXCEEDED_ID_LIMIT",
                f"record limit reached. cannot submit more than {MOST} records into this call",
            )

    def _type(self, record: dict[str, Any]) -> str | None:
        attributes = record.get("attributes")
        return attributes.get("type") if isinstance(attributes, dict) else None

    def _kind(self, record: dict[str, Any]) -> SObject:
        name = self._type(record)
        found = self._records.schema.visible(name or "")
        if found is None:
            raise error(400, "INVALID_TYPE", f"sObject type '{name}' is not supported.")
        return found

    def create(self, call: Call) -> Reply:
        records, all_or_none = self._body(call)

        def one(record: dict[str, Any]) -> Work:
            return lambda tx: {"id": self._records.create(tx, self._kind(record), _without_id(record))}

        return self._run(call, [one(record) for record in records], all_or_none)

    def update(self, call: Call) -> Reply:
        records, all_or_none = self._body(call)

        def one(record: dict[str, Any]) -> Work:
            def work(tx: Tx) -> dict[str, Any]:
                given = next((value for key, value in record.items() if key.lower() == "id"), None)
                if given is None:
                    raise error(400, "MISSING_ARGUMENT", "Id not specified in an update call", ())
                kind = self._kind(record)
                return {"id": self._records.update(tx, kind, self._id(given), _without_id(record))}

            return work

        return self._run(call, [one(record) for record in records], all_or_none)

    def _id(self, text: Any) -> str:
        found = ids.full(str(text))
        if found is None:
            raise error(400, "MALFORMED_ID", f"malformed id {text}", ("Id",))
        return found

    def delete(self, call: Call) -> Reply:
        wanted = [one.strip() for one in call.query.get("ids", "").split(",") if one.strip()]
        if not wanted:
            raise error(400, "REQUIRED_FIELD_MISSING", "The ids parameter is required")
        self._size(len(wanted))

        def one(given: str) -> Work:
            def work(tx: Tx) -> dict[str, Any]:
                found = self._id(given)
                kind = self._records.schema.by_id(found)
                if kind is None:
                    raise error(400, "INVALID_CROSS_REFERENCE_KEY", "invalid cross reference id", ())
                return {"id": self._records.delete(tx, kind, found)}

            return work

        all_or_none = call.query.get("allOrNone", "false").lower() == "true"
        return self._run(call, [one(given) for given in wanted], all_or_none)

    def upsert(self, call: Call, name: str, key: str) -> Reply:
        kind = self._records.object(name)
        field = self._records.key_field(kind, key)
        records, all_or_none = self._body(call)

        def one(record: dict[str, Any]) -> Work:
            def work(tx: Tx) -> dict[str, Any]:
                value = next((text for name, text in record.items() if name.lower() == field.name.lower()), None)
                if value in (None, ""):
                    raise error(400, "MISSING_ARGUMENT", f"{field.name} not specified", ())
                rest = {name: text for name, text in record.items() if name.lower() != field.name.lower()}
                if field.type != "id":
                    rest = _without_id(rest)
                done = upsert(self._records, tx, kind, field.name, str(value), rest, False)
                if isinstance(done, list):
                    message = f"{field.name}: more than one record found for external id field: {done}"
                    raise error(400, "DUPLICATE_EXTERNAL_ID", message, (field.name,))
                return {"id": done[0], "created": done[1]}

            return work

        return self._run(call, [one(record) for record in records], all_or_none)

    def _run(self, call: Call, works: Sequence[Work], all_or_none: bool) -> Reply:
        def batch(tx: Tx) -> list[dict[str, Any]]:
            results = []
            for number, work in enumerate(works):
                try:
                    if call.half and number % 2:
                        raise ApiError(400, Fault(_LOCKED.code, _LOCKED.message.format("0"), ()))
                    with tx.part():
                        done = work(tx)
                    results.append({"id": done["id"], "success": True, "errors": []} | done)
                except ApiError as failed:
                    results.append({"success": False, "errors": [one.item() for one in translate(failed)]})
            if all_or_none and not all(one["success"] for one in results):
                raise _UndoError(
                    [{"success": False, "errors": [_HALTED.item()]} if one["success"] else one for one in results]
                )
            return results

        try:
            return Reply(body=self._records.store.transact(batch, call.late))
        except _UndoError as undone:
            return Reply(body=undone.results)

    def retrieve(self, call: Call, name: str) -> Reply:
        """Several records by id, null where there is none."""
        kind = self._records.object(name)
        if call.method == "POST":
            body = call.record()
            wanted, names = body.get("ids") or [], body.get("fields") or []
        else:
            wanted = [one for one in call.query.get("ids", "").split(",") if one]
            names = [one for one in call.query.get("fields", "").split(",") if one]
        if not wanted or not names:
            raise error(400, "MISSING_ARGUMENT", "ids and fields are required")
        if len(wanted) > 2000:
            raise error(400, "EXCEEDED_ID_LIMIT", "cannot retrieve more than 2000 records")
        paths = list(dict.fromkeys([*(tuple(str(one).strip().split(".")) for one in names)]))
        if ("id",) not in {(one[0].lower(),) for one in paths if len(one) == 1}:
            paths.append(("Id",))
        keys = [self._id(one) for one in wanted]
        condition = Among(("Id",), tuple(Literal("string", one) for one in keys), False)
        select = compile_query(self._records.schema, Query(kind.name, tuple(paths), condition))
        with self._records.store.snapshot() as db:
            rows = [one[0] for one in db.execute(select.rows(), select.params)]
            found = {one["Id"]: one for one in read(db, select, rows, call.base)}
        return Reply(body=[found.get(one) for one in keys])


def _without_id(record: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in record.items() if name.lower() != "id"}
