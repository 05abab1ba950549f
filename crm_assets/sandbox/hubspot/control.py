"""The account's part of the control API: records, owners, pipelines and associations, as a user sees to them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from crm_assets.sandbox.room import Act, Desk

from . import clock, owners, reshape
from .errors import ApiError, invalid, not_found
from .kinds import Kind
from .records import Records, number
from .schemas import Schemas
from .scopes import Scopes
from .store import COLUMNS, PERSON, Row, Tx

_PAGE = 1000
Page = tuple[list[dict[str, Any]], str | None]


class AccountDesk(Desk):
    """Objects go by their names; ``owners`` and ``pipelines`` too, and associations as ``contacts_to_companies``."""

    def __init__(self, records: Records, scopes: Scopes, schemas: Schemas) -> None:
        self._records = records
        self._scopes = scopes
        self._schemas = schemas
        self._store = records.store
        self._schema = records.schema

    def truth(self, name: str, after: str) -> Page:
        if name in ("owner", "owners"):
            return self._owners(), None
        if name in ("pipeline", "pipelines"):
            return self._pipelines(), None
        if ends := self._ends(name):
            return self._edges(*ends, after)
        kind = self._kind(name)
        rows = self._store.reader.execute(
            f"SELECT {COLUMNS} FROM {kind.name} WHERE id > ? ORDER BY id LIMIT {_PAGE + 1}", (int(after or 0),)
        ).fetchall()
        names = list(self._schema.live(kind))
        records = [_true(Row(*one), names) for one in rows[:_PAGE]]
        return records, records[-1]["id"] if len(rows) > _PAGE else None

    def perform(self, act: Act, late_seconds: float) -> str:
        work: Callable[[Tx], str]
        if act.object in ("owner", "owners"):
            work = lambda tx: self._change_owner(tx, act)  # noqa: E731
        elif act.object in ("pipeline", "pipelines"):
            return self._change_pipeline(act)
        elif ends := self._ends(act.object):
            work = lambda tx: self._change_edge(tx, act, *ends)  # noqa: E731
        else:
            kind = self._kind(act.object)
            work = lambda tx: self._change_record(tx, act, kind)  # noqa: E731

        def by_a_person(tx: Tx) -> str:
            tx.source = PERSON
            return work(tx)

        if not late_seconds:
            return self._store.transact(by_a_person)
        result, commit = self._store.open_late(by_a_person)
        self._store.later(commit, late_seconds)
        return result

    def reshape(self, order: Mapping[str, Any]) -> dict[str, Any]:
        name = str(order.get("object"))
        if order.get("action") == "add" and self._schema.find(name) is None:
            self._schemas.create({"name": name, "labels": {"singular": name, "plural": f"{name}s"}})
        kind = self._kind(name)
        if order.get("action") == "add" and not order.get("field"):
            return {"object": kind.name, "fields": list(self._schema.live(kind))}
        reshape.change(self._store, kind, order)
        return {"object": kind.name, "fields": list(self._schema.live(kind))}

    def own(self, method: str, path: str, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """``scopes``: ``{"scopes": [...]}`` gives the app these and no others, null all of them."""
        if path != "scopes":
            return None
        if method == "POST":
            self._scopes.grant(data.get("scopes"))
        return {"scopes": sorted(self._scopes.granted)}

    def _kind(self, name: str) -> Kind:
        kind = self._schema.find(name)
        if kind is None:
            raise ApiError(404, f"no such object: {name}")
        return kind

    def _ends(self, name: str) -> tuple[Kind, Kind] | None:
        first, _, second = name.partition("_to_")
        kind, to_kind = self._schema.find(first), self._schema.find(second)
        return (kind, to_kind) if kind and to_kind else None

    # Records

    def _change_record(self, tx: Tx, act: Act, kind: Kind) -> str:
        records = self._records
        if act.what == "create":
            return str(records.create(tx, kind, act.fields, system=True))
        row = self._row(tx, kind, act.id)
        if act.what == "undelete":
            records.restore(tx, kind, row)
            return str(row.id)
        if row.archived is not None:
            raise not_found()
        if act.what == "update":
            records.update(tx, kind, row, act.fields, system=True)
        elif act.what == "delete":
            records.archive(tx, kind, row)
        else:
            for loser in act.losers:
                row = self._row(tx, kind, str(records.merge(tx, kind, row, self._row(tx, kind, loser))))
        return str(row.id)

    def _row(self, tx: Tx, kind: Kind, key: str) -> Row:
        row = self._records.row(tx.db, kind, number(key))
        if row is None or row.merged is not None:
            raise not_found()
        return row

    # Owners and pipelines

    def _owners(self) -> list[dict[str, Any]]:
        rows = self._store.reader.execute("SELECT id, body, updated, archived FROM owner ORDER BY id").fetchall()
        return [
            {
                "id": str(row[0]),
                "deleted": row[3] is not None,
                "modified_at": clock.iso(row[2]),
                "fields": owners.shown(*row),
            }
            for row in rows
        ]

    def _change_owner(self, tx: Tx, act: Act) -> str:
        unknown = act.fields.keys() - set(owners.FIELDS)
        if unknown:
            raise invalid(f"Owners have no {', '.join(sorted(unknown))}")
        if act.what == "create":
            made = tx.number()
            owners.put(tx.db, made, dict(act.fields), tx.ms, tx.ms)
            return str(made)
        found = tx.db.execute("SELECT id, body FROM owner WHERE id = ?", (number(act.id),)).fetchone()
        if found is None:
            raise not_found()
        if act.what == "update":
            body = orjson.loads(found[1]) | dict(act.fields)
            owners.put(tx.db, found[0], body, clock.parse(body["createdAt"]), tx.ms)
        elif act.what in ("delete", "undelete"):
            archived = tx.ms if act.what == "delete" else None
            tx.db.execute("UPDATE owner SET archived = ?, updated = ? WHERE id = ?", (archived, tx.ms, found[0]))
        else:
            raise invalid("Owners cannot be merged")
        return str(found[0])

    def _pipelines(self) -> list[dict[str, Any]]:
        return [
            {"id": key, "deleted": False, "modified_at": body["updatedAt"], "fields": {"objectType": name} | body}
            for name in ("deals", "tickets")
            for key, body in self._schema.pipelines(name).items()
        ]

    def _change_pipeline(self, act: Act) -> str:
        """Changes what a pipeline says: ``label``, ``displayOrder``, ``stages``, ``archived``."""
        for name in ("deals", "tickets"):
            body = self._schema.pipelines(name).get(act.id)
            if body is None or act.what not in ("update", "delete"):
                continue
            with self._store.setup():
                if act.what == "delete":
                    self._schema.drop_pipeline(name, act.id)
                else:
                    now = clock.iso(clock.now())
                    self._schema.save_pipeline(name, body | dict(act.fields) | {"id": act.id, "updatedAt": now})
            return act.id
        raise not_found()

    # Associations

    def _edges(self, kind: Kind, to_kind: Kind, after: str) -> Page:
        """The id of one is ``from-to-type``."""
        start = [int(part) for part in after.split("-")] if after else [0, 0, 0]
        rows = self._store.reader.execute(
            "SELECT id, to_id, type FROM edge WHERE kind = ? AND to_kind = ? AND (id, to_id, type) > (?, ?, ?)"
            f" ORDER BY id, to_id, type LIMIT {_PAGE + 1}",
            (kind.name, to_kind.name, *start),
        ).fetchall()
        records = list[dict[str, Any]]()
        for record_id, to_id, type_id in rows[:_PAGE]:
            one = self._records.edges.type(kind.name, to_kind.name, type_id)
            assert one is not None
            fields = {
                "from_id": str(record_id),
                "to_id": str(to_id),
                "type": type_id,
                "category": one.category,
                "label": one.label,
            }
            key = f"{record_id}-{to_id}-{type_id}"
            records.append({"id": key, "deleted": False, "modified_at": None, "fields": fields})
        return records, records[-1]["id"] if len(rows) > _PAGE else None

    def _change_edge(self, tx: Tx, act: Act, kind: Kind, to_kind: Kind) -> str:
        edges = self._records.edges
        if act.what == "create":
            here, there = number(act.fields.get("from_id")), number(act.fields.get("to_id"))
            wanted = act.fields.get("type")
            one = edges.plain(kind, to_kind) if wanted is None else edges.type(kind.name, to_kind.name, int(wanted))
            if one is None:
                raise invalid(f"{wanted} is no association type from {kind.singular} to {to_kind.singular}")
            edges.add(tx, kind, here, to_kind, there, [one])
            return f"{here}-{there}-{one.type}"
        parts = act.id.split("-")
        if act.what != "delete" or len(parts) != 3:
            raise not_found()
        here, there, type_id = map(number, parts)
        if not any(one.type == type_id for one in edges.between(tx.db, kind, here, to_kind, there)):
            raise not_found()
        edges.remove(tx, kind, here, to_kind, there, [type_id])
        return act.id


def _true(row: Row, names: list[str]) -> dict[str, Any]:
    """A record with all its properties; one that was merged away counts as deleted."""
    values = row.values()
    return {
        "id": str(row.id),
        "deleted": not row.live,
        "modified_at": clock.iso(max(row.updated, row.archived or 0)),
        "fields": {name: values.get(name) for name in names},
    }
