"""Single records and lists of them: ``/crm/v3/objects/{type}``."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from crm_assets.sandbox.http import Reply
from crm_assets.sandbox.routes import Routes

from .errors import invalid, not_found
from .kinds import Kind
from .records import Records, number
from .shape import Record, Shape
from .store import COLUMNS, Row, Tx
from .wire import Call, json_reply, limit, page

_PAGE = 100
_PAGE_WITH_HISTORY = 50


class Objects:
    """Reads and writes one record per call, and lists them by id."""

    def __init__(self, records: Records) -> None:
        self._records = records
        self._store = records.store
        self._schema = records.schema

    def routes(self, routes: Routes) -> None:
        base = "/crm/v3/objects/{type}"
        routes.add("GET", base, "list", self.listing)
        routes.add("POST", base, "create", self.create)
        routes.add("POST", f"{base}/merge", "merge", self.merge)
        routes.add("POST", f"{base}/gdpr-delete", "gdpr_delete", self.erase)
        routes.add("GET", f"{base}/{{key}}", "get", self.get)
        routes.add("PATCH", f"{base}/{{key}}", "update", self.update)
        routes.add("DELETE", f"{base}/{{key}}", "archive", self.archive)

    def shape(self, call: Call, kind: Kind) -> Shape:
        history = call.names("propertiesWithHistory")
        return Shape(kind, self._schema.live(kind), call.names("properties"), history)

    def listing(self, call: Call, type: str) -> Reply:
        kind = self._schema.kind(type)
        most = _PAGE_WITH_HISTORY if call.names("propertiesWithHistory") else _PAGE
        size = limit(call.one("limit"), 10, most)
        after = call.one("after") or "0"
        if not after.isdigit():
            raise invalid(f"after: {after} is no place in the list")
        which = "archived NOTNULL" if call.flag("archived") else "archived IS NULL"
        with self._store.snapshot() as db:
            rows = [
                Row(*one)
                for one in db.execute(
                    f"SELECT {COLUMNS} FROM {kind.name} WHERE id >= ? AND {which} AND merged IS NULL"
                    " ORDER BY id LIMIT ?",
                    (int(after), size + 1),
                )
            ]
            made = self.shape(call, kind).records(db, rows[:size])
            self.associate(db, kind, made, call)
        return page(made, rows[size].id if len(rows) > size else None, call.request)

    def associate(self, db: sqlite3.Connection, kind: Kind, made: Sequence[Record], call: Call) -> None:
        """Adds the associations that were asked for; a record without any has no key for them."""
        for name in call.names("associations"):
            to_kind = self._schema.kind(name)
            found = self._records.edges.of(db, kind, [int(one["id"]) for one in made], to_kind)
            for one in made:
                held = found.get(int(one["id"]))
                if held:
                    results = [{"id": str(key), "type": sense.name} for key, senses in held.items() for sense in senses]
                    one.setdefault("associations", {})[to_kind.name.replace("_", " ")] = {"results": results}

    def get(self, call: Call, type: str, key: str) -> Reply:
        kind = self._schema.kind(type)
        with self._store.snapshot() as db:
            row = self._records.by_key(db, kind, key, call.one("idProperty"), call.flag("archived"))
            if row is None:
                raise not_found()
            made = self.shape(call, kind).records(db, [row])
            self.associate(db, kind, made, call)
        return json_reply(made[0])

    def create(self, call: Call, type: str) -> Reply:
        kind, body = self._schema.kind(type), call.body()
        given, associations = properties(body), body.get("associations") or []

        def work(tx: Tx) -> Record:
            made = self._records.create(tx, kind, given, associations)
            return self._written(tx, kind, made, given)

        record = self._store.transact(work, call.late)
        return json_reply(record, 201, {"Location": f"{call.request.url}/crm/v3/objects/{kind.name}/{record['id']}"})

    def update(self, call: Call, type: str, key: str) -> Reply:
        kind, given = self._schema.kind(type), properties(call.body())

        def work(tx: Tx) -> Record:
            row = self._records.by_key(tx.db, kind, key, call.one("idProperty"))
            if row is None:
                raise not_found()
            self._records.update(tx, kind, row, given)
            return self._written(tx, kind, row.id, given)

        return json_reply(self._store.transact(work, call.late))

    def _written(self, tx: Tx, kind: Kind, record_id: int, given: dict[str, Any]) -> Record:
        row = self._records.row(tx.db, kind, record_id)
        assert row is not None
        return Shape(kind, self._schema.live(kind), [*kind.defaults, *given]).record(row)

    def archive(self, call: Call, type: str, key: str) -> Reply:
        kind = self._schema.kind(type)

        def work(tx: Tx) -> None:
            row = self._records.follow(tx.db, kind, number(key))
            if row is None:
                raise not_found()
            if row.live:
                self._records.archive(tx, kind, row)

        self._store.transact(work, call.late)
        return Reply(204)

    def merge(self, call: Call, type: str) -> Reply:
        kind, body = self._schema.kind(type), call.body()
        keys = [number(body.get(name)) for name in ("primaryObjectId", "objectIdToMerge")]

        def work(tx: Tx) -> Record:
            rows = [self._records.follow(tx.db, kind, key) for key in keys]
            primary, other = rows
            if primary is None or other is None or not primary.live or not other.live:
                raise not_found()
            made = self._records.merge(tx, kind, primary, other)
            return self._written(tx, kind, made, {"hs_merged_object_ids": None})

        return json_reply(self._store.transact(work, call.late))

    def erase(self, call: Call, type: str) -> Reply:
        kind, body = self._schema.kind(type), call.body()
        key, id_property = str(body.get("objectId", "")), body.get("idProperty")

        def work(tx: Tx) -> None:
            row = self._records.by_key(tx.db, kind, key, id_property) or self._records.by_key(
                tx.db, kind, key, id_property, archived=True
            )
            if row is None:
                raise not_found()
            self._records.erase(tx, kind, row)

        self._store.transact(work, call.late)
        return Reply(204)


def properties(body: dict[str, Any]) -> dict[str, Any]:
    """The properties of a write."""
    given = body.get("properties", {})
    if not isinstance(given, dict):
        raise invalid("Invalid input JSON: properties has to be an object")
    return given
