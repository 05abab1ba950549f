"""Associations, version 4: of one record, in batches, and the labels they may have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from crm_assets.sandbox.http import Reply
from crm_assets.sandbox.routes import Routes

from . import clock
from .edges import EdgeType
from .errors import ApiError, invalid
from .kinds import Kind
from .records import Records, number
from .store import Tx
from .wire import Call, batch, inputs, json_reply, limit, page

_PAGE = 500
_READ = 1000
_WRITE = 2000


class Associations:
    """``/crm/v4/objects/{type}/{key}/associations/…`` and ``/crm/v4/associations/{type}/{to}/…``."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._store = records.store
        self._schema = records.schema
        self._edges = records.edges

    def routes(self, routes: Routes) -> None:
        one = "/crm/v4/objects/{type}/{key}/associations"
        routes.add("GET", f"{one}/{{to}}", "associations_get", self.listing)
        routes.add("PUT", f"{one}/default/{{to}}/{{to_key}}", "associations_put", self.put_default)
        routes.add("PUT", f"{one}/{{to}}/{{to_key}}", "associations_put", self.put)
        routes.add("DELETE", f"{one}/{{to}}/{{to_key}}", "associations_delete", self.delete)
        many = "/crm/v4/associations/{type}/{to}"
        routes.add("POST", f"{many}/batch/read", "associations_batch_read", self.batch_read)
        routes.add("POST", f"{many}/batch/create", "associations_batch_create", self.batch_create)
        routes.add("POST", f"{many}/batch/associate/default", "associations_batch_create", self.batch_default)
        routes.add("POST", f"{many}/batch/archive", "associations_batch_archive", self.batch_archive)
        routes.add("POST", f"{many}/batch/labels/archive", "associations_batch_archive", self.batch_labels_archive)
        routes.add("GET", f"{many}/labels", "association_labels", self.labels)
        routes.add("POST", f"{many}/labels", "association_labels", self.add_label)
        routes.add("PUT", f"{many}/labels", "association_labels", self.rename_label)
        routes.add("DELETE", f"{many}/labels/{{type_id}}", "association_labels", self.drop_label)

    # One record

    def listing(self, call: Call, type: str, key: str, to: str) -> Reply:
        kind, to_kind, record_id = self._schema.kind(type), self._schema.kind(to), number(key)
        size, after = limit(call.one("limit"), _PAGE, _PAGE), _after(call.one("after"))
        with self._store.snapshot() as db:
            row = self._records.follow(db, kind, record_id)
            if row is None or not row.live:
                raise _nobody(kind, key)
            held = self._edges.of(db, kind, [row.id], to_kind, after).get(row.id, {})
        results, following = _page(held, size)
        return page(results, following, call.request)

    def put_default(self, call: Call, type: str, key: str, to: str, to_key: str) -> Reply:
        kind, to_kind, started = self._schema.kind(type), self._schema.kind(to), clock.now()
        here, there = number(key), number(to_key)
        self._store.transact(lambda tx: self._edges.add(tx, kind, here, to_kind, there, []), call.late)
        return batch(self._plain_results(kind, to_kind, here, there), [], started)

    def put(self, call: Call, type: str, key: str, to: str, to_key: str) -> Reply:
        kind, to_kind = self._schema.kind(type), self._schema.kind(to)
        here, there = number(key), number(to_key)
        types = self._types(kind, to_kind, call.json())
        held = self._store.transact(lambda tx: self._edges.add(tx, kind, here, to_kind, there, types), call.late)
        return json_reply(_pair(kind, to_kind, here, there, held), 201)

    def delete(self, call: Call, type: str, key: str, to: str, to_key: str) -> Reply:
        kind, to_kind, here, there = self._schema.kind(type), self._schema.kind(to), number(key), number(to_key)
        self._store.transact(lambda tx: self._edges.remove(tx, kind, here, to_kind, there), call.late)
        return Reply(204)

    # Batches

    def batch_read(self, call: Call, type: str, to: str) -> Reply:
        kind, to_kind, started = self._schema.kind(type), self._schema.kind(to), clock.now()
        given = inputs(call.body(), _READ)
        keys = {number(one.get("id")): _after(one.get("after")) for one in given}
        with self._store.snapshot() as db:
            found = self._edges.of(db, kind, list(keys), to_kind)
        results, missing = [], []
        for key, after in keys.items():
            held = {other: senses for other, senses in found.get(key, {}).items() if other >= after}
            if not held:
                missing.append(str(key))
                continue
            entries, following = _page(held, _PAGE)
            one: dict[str, Any] = {"from": {"id": str(key)}, "to": entries}
            if following is not None:
                one["paging"] = {"next": {"after": str(following)}}
            results.append(one)
        errors = [
            {
                "status": "error",
                "category": "OBJECT_NOT_FOUND",
                "subCategory": "crm.associations.NO_ASSOCIATIONS_FOUND",
                "message": f"No {to_kind.singular} is associated with {kind.singular} {key}.",
                "context": {
                    "fromObjectId": [key],
                    "fromObjectType": [kind.singular],
                    "toObjectType": [to_kind.singular],
                },
                "links": {},
                "errors": [],
            }
            for key in missing
        ]
        return batch(results, errors, started)

    def batch_create(self, call: Call, type: str, to: str) -> Reply:
        kind, to_kind = self._schema.kind(type), self._schema.kind(to)

        def write(tx: Tx, one: dict[str, Any]) -> list[dict[str, Any]]:
            here, there = _ends(one)
            types = self._types(kind, to_kind, one.get("types"))
            held = self._edges.add(tx, kind, here, to_kind, there, types)
            return [_pair(kind, to_kind, here, there, held)]

        return self._write(call, write, 201)

    def batch_default(self, call: Call, type: str, to: str) -> Reply:
        kind, to_kind = self._schema.kind(type), self._schema.kind(to)

        def write(tx: Tx, one: dict[str, Any]) -> list[dict[str, Any]]:
            here, there = _ends(one)
            self._edges.add(tx, kind, here, to_kind, there, [])
            return self._plain_results(kind, to_kind, here, there)

        return self._write(call, write, 200)

    def batch_archive(self, call: Call, type: str, to: str) -> Reply:
        kind, to_kind = self._schema.kind(type), self._schema.kind(to)

        def write(tx: Tx, one: dict[str, Any]) -> list[dict[str, Any]]:
            for other in one.get("to") or []:
                self._edges.remove(tx, kind, number(_key(one.get("from"))), to_kind, number(_key(other)))
            return []

        self._write(call, write, 204)
        return Reply(204)

    def batch_labels_archive(self, call: Call, type: str, to: str) -> Reply:
        kind, to_kind = self._schema.kind(type), self._schema.kind(to)

        def write(tx: Tx, one: dict[str, Any]) -> list[dict[str, Any]]:
            here, there = _ends(one)
            types = [sense.type for sense in self._types(kind, to_kind, one.get("types"))]
            self._edges.remove(tx, kind, here, to_kind, there, types)
            return []

        self._write(call, write, 204)
        return Reply(204)

    def _write(self, call: Call, write: Any, status: int) -> Reply:
        """Each input stands for itself, where its records exist; a senseless one undoes them all."""
        given, started = inputs(call.body(), _WRITE), clock.now()

        def work(tx: Tx) -> tuple[list[Any], list[Any]]:
            done: list[Any] = []
            errors: list[Any] = []
            for position, one in enumerate(given):
                try:
                    with tx.part():
                        if call.half and position % 2:
                            raise ApiError(500, "internal error", "INTERNAL_ERROR")
                        done += write(tx, one)
                except ApiError as failed:
                    if failed.category == "VALIDATION_ERROR":
                        raise
                    errors.append(failed.item({"fromObjectId": [_key(one.get("from"))]}))
            return done, errors

        done, errors = self._store.transact(work, call.late)
        return batch(done, errors, started, status)

    # Labels

    def labels(self, call: Call, type: str, to: str) -> Reply:
        types = self._edges.types(self._schema.kind(type), self._schema.kind(to))
        return json_reply({"results": [one.api() for one in types]})

    def add_label(self, call: Call, type: str, to: str) -> Reply:
        body = call.body()
        label, name, inverse = body.get("label"), body.get("name"), body.get("inverseLabel")
        if not label or not name:
            raise invalid("A label needs a label and a name")
        made = self._edges.add_label(
            self._schema.kind(type), self._schema.kind(to), str(name), str(label), str(inverse) if inverse else None
        )
        return json_reply({"results": [one.api() for one in made]})

    def rename_label(self, call: Call, type: str, to: str) -> Reply:
        body = call.body()
        type_id = number(body.get("associationTypeId"))
        self._edges.rename_label(self._schema.kind(type), self._schema.kind(to), type_id, str(body.get("label")))
        return Reply(204)

    def drop_label(self, call: Call, type: str, to: str, type_id: str) -> Reply:
        self._edges.drop_label(self._schema.kind(type), self._schema.kind(to), number(type_id))
        return Reply(204)

    def _types(self, kind: Kind, to_kind: Kind, specs: Any) -> list[EdgeType]:
        """The senses that a body names."""
        if not isinstance(specs, list) or not specs:
            raise invalid("types: at least one association type is needed")
        found = []
        for spec in specs:
            try:
                category, type_id = str(spec["associationCategory"]), int(spec["associationTypeId"])
            except (TypeError, KeyError, ValueError):
                raise invalid("types: associationCategory and associationTypeId are needed") from None
            one = self._edges.type(kind.name, to_kind.name, type_id)
            if one is None or one.category != category:
                raise invalid(f"{category} {type_id} is no association type from {kind.singular} to {to_kind.singular}")
            found.append(one)
        return found

    def _plain_results(self, kind: Kind, to_kind: Kind, here: int, there: int) -> list[dict[str, Any]]:
        one = self._edges.plain(kind, to_kind)
        return [
            {
                "from": {"id": str(first)},
                "to": {"id": str(second)},
                "associationSpec": {"associationCategory": one.category, "associationTypeId": type_id},
            }
            for first, second, type_id in ((here, there, one.type), (there, here, one.inverse))
        ]


def _after(text: Any) -> int:
    shown = str(text or "0")
    if not shown.isdigit():
        raise invalid(f"after: {shown} is no place in the list")
    return int(shown)


def _key(given: Any) -> str:
    return str(given.get("id")) if isinstance(given, dict) else ""


def _ends(one: dict[str, Any]) -> tuple[int, int]:
    return number(_key(one.get("from"))), number(_key(one.get("to")))


def _page(held: dict[int, list[EdgeType]], size: int) -> tuple[list[dict[str, Any]], int | None]:
    """The first of the associations, and where the next page starts."""
    keys = list(held)
    entries = [{"toObjectId": str(key), "associationTypes": [one.api() for one in held[key]]} for key in keys[:size]]
    return entries, keys[size] if len(keys) > size else None


def _pair(kind: Kind, to_kind: Kind, here: int, there: int, held: Sequence[EdgeType]) -> dict[str, Any]:
    return {
        "fromObjectTypeId": kind.type_id,
        "fromObjectId": str(here),
        "toObjectTypeId": to_kind.type_id,
        "toObjectId": str(there),
        "labels": [one.label for one in held if one.label],
    }


def _nobody(kind: Kind, key: str) -> ApiError:
    return ApiError(404, f"{kind.noun} {key} does not exist", "OBJECT_NOT_FOUND", {"id": [key]})
