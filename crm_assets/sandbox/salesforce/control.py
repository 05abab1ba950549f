"""The org's part of the control API."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from crm_assets.sandbox.push import Push, Target
from crm_assets.sandbox.room import Act, Desk

from . import formulas, reshape
from .errors import not_found
from .keys import Keys
from .objects import SObject
from .pubsub.bus import Bus
from .pubsub.schemas import CHANGE_TYPES
from .queries import wire
from .records import Records
from .schema import quote
from .store import Store, Tx

_PAGE = 1000


class OrgDesk(Desk):
    """Reads and writes the org's records as somebody who may do everything."""

    def __init__(self, store: Store, records: Records, bus: Bus, outbound: Push, keys: Keys) -> None:
        self._store = store
        self._records = records
        self._bus = bus
        self._outbound = outbound
        self._keys = keys

    def truth(self, name: str, after: str) -> tuple[list[dict[str, Any]], str | None]:
        """Those in the recycle bin too."""
        kind = self._kind(name)
        fields = [field for field in kind.fields if field.stored or field.derived]
        columns = ", ".join(formulas.sql(self._store.schema, kind, field, "t") for field in fields)
        sql = f'SELECT _at, {columns} FROM {quote(kind.name)} t WHERE "Id" > ? ORDER BY "Id" LIMIT {_PAGE + 1}'
        rows = self._store.reader.execute(sql, (after,)).fetchall()
        records = []
        for row in rows[:_PAGE]:
            values = {field.name: wire(field, value) for field, value in zip(fields, row[1:], strict=True)}
            records.append(
                {
                    "id": values["Id"],
                    "deleted": bool(values.get("IsDeleted")),
                    "modified_at": row[0],
                    "fields": values,
                }
            )
        return records, records[-1]["id"] if len(rows) > _PAGE else None

    def perform(self, act: Act, late_seconds: float) -> str:
        kind, records = self._kind(act.object), self._records
        work: Callable[[Tx], str]
        match act.what:
            case "create":
                work = lambda tx: records.create(tx, kind, act.fields, system=True)  # noqa: E731
            case "update":
                work = lambda tx: records.update(tx, kind, act.id, act.fields, system=True)  # noqa: E731
            case "delete":
                work = lambda tx: records.delete(tx, kind, act.id)  # noqa: E731
            case "undelete":
                work = lambda tx: records.undelete(tx, kind, act.id)  # noqa: E731
            case "merge":
                work = lambda tx: records.merge(tx, kind, act.id, list(act.losers))  # noqa: E731
        if not late_seconds:
            return self._store.transact(work)
        # The answer comes at once, as a user whose transaction goes on would have the id already.
        result, commit = self._store.open_late(work)
        self._store.later(commit, late_seconds)
        return result

    def reshape(self, order: Mapping[str, Any]) -> dict[str, Any]:
        changed = reshape.change(self._store, order)
        return {"object": changed.name, "fields": [field.name for field in changed.fields]}

    def own(self, method: str, path: str, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """``events``: POST sends a change event that holds no values, DELETE forgets all that are kept.
        ``change_data_capture``: ``{"object", "selected"}`` chooses an object, or no longer.
        ``outbound_messages``: who gets them, ``{"url"}``. ``keys``: ``{"client_id", "public_key"}`` for JWT log-ins."""
        if path == "events":
            if method == "DELETE":
                self._bus.forget()
            elif method == "POST":
                self._tell(self._kind(str(data.get("object"))), data)
            return {"kept": self._bus.last() - self._bus.first()}
        if path == "change_data_capture":
            if method == "POST":
                self._bus.select(self._kind(str(data.get("object"))), bool(data.get("selected", True)))
            return {"unselected": sorted(self._bus.unselected)}
        if path == "outbound_messages":
            if method == "POST":
                target = Target(str(data["url"]), "")
                self._outbound.soon(lambda: self._outbound.subscribe(target))
            return {}
        if path == "keys":
            if method == "POST":
                self._keys.register(str(data.get("client_id") or "sandbox"), str(data.get("public_key")))
            return {}
        return None

    def _tell(self, kind: SObject, data: Mapping[str, Any]) -> None:
        if data.get("unreadable"):
            self._bus.garble(kind)
        elif data.get("change") in CHANGE_TYPES:
            self._bus.gap(kind, data["change"], [str(one) for one in data.get("ids") or []], self._records.user)
        else:
            raise ValueError(f"change: {data.get('change')!r} is none of {', '.join(CHANGE_TYPES)}")

    def _kind(self, name: str) -> SObject:
        kind = self._store.schema.find(name)
        if kind is None:
            raise not_found(f"no such resource: {name}")
        return kind
