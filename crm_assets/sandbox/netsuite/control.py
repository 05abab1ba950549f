"""The control API of the account: does what its users would do, and tells what is true."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from crm_assets.sandbox.room import Act, Desk

from . import reshape
from .certificates import Certificates
from .errors import no_record, no_type, user_error
from .fields import RecordType
from .preferences import Preferences
from .records import Records, mark
from .schema import quote
from .store import Tx
from .truth import truth

_PAGE = 1000


class AccountDesk(Desk):
    """The account's part of ``/_sandbox/netsuite/…``."""

    def __init__(self, records: Records, certificates: Certificates, preferences: Preferences) -> None:
        self._records = records
        self._store = records.store
        self._certificates = certificates
        self._preferences = preferences

    def _kind(self, name: str) -> RecordType:
        kind = self._store.schema.find(name)
        if kind is None:
            raise no_type(name)
        return kind

    def truth(self, name: str, after: str) -> tuple[list[dict[str, Any]], str | None]:
        """Deleted records keep their last values."""
        kind = self._kind(name)
        last = int(after) if after.isdecimal() else 0
        columns = list(dict.fromkeys(["id", "_at", *(field.column for field in kind.fields)]))
        alive = f"SELECT {', '.join(map(quote, columns))} FROM {quote(kind.table)} WHERE id > ?{mark(kind)}"
        with self._store.snapshot() as db:
            sql = f"{alive} ORDER BY id LIMIT {_PAGE + 1}"
            rows = [dict(zip(columns, row, strict=True)) for row in db.execute(sql, (last,))]
            fields = truth(db, kind, rows)
            gone = db.execute(
                f"SELECT id, at, fields FROM _deleted WHERE record = ? AND id > ? ORDER BY id LIMIT {_PAGE + 1}",
                (kind.name, last),
            ).fetchall()
        found = [_entry(row["id"], row["_at"], False, own) for row, own in zip(rows, fields, strict=True)]
        found += [_entry(one, at, True, json.loads(own)) for one, at, own in gone]
        found.sort(key=lambda one: int(one["id"]))
        return found[:_PAGE], found[_PAGE - 1]["id"] if len(found) > _PAGE else None

    def perform(self, act: Act, late_seconds: float) -> str:
        kind, records = self._kind(act.object), self._records
        work: Callable[[Tx], int]
        if act.what == "create":
            work = lambda tx: records.create(tx, kind, act.fields, system=True)  # noqa: E731
        elif act.what == "update":
            work = lambda tx: records.update(  # noqa: E731
                tx, kind, records.find(tx.db, kind, act.id), act.fields, _sublists(kind, act.fields), system=True
            )
        elif act.what == "delete":
            work = lambda tx: records.delete(tx, kind, records.find(tx.db, kind, act.id), system=True)  # noqa: E731
        elif act.what == "merge":
            work = lambda tx: records.merge(tx, kind, act.id, act.losers)  # noqa: E731
        else:
            self._known(kind, act.id)
            raise user_error("A deleted record cannot be brought back: there is no undelete.")
        if not late_seconds:
            return str(self._store.transact(work))
        # The answer comes at once, as a user whose transaction goes on would have the id already.
        done, commit = self._store.open_late(work)
        self._store.later(commit, late_seconds)
        return str(done)

    def _known(self, kind: RecordType, key: str) -> None:
        sql = "SELECT 1 FROM _deleted WHERE record = ? AND id = ?"
        if not key.isdecimal() or not self._store.reader.execute(sql, (kind.name, int(key))).fetchone():
            raise no_record()

    def reshape(self, order: Mapping[str, Any]) -> dict[str, Any]:
        changed = reshape.change(self._store, order)
        return {"object": changed.name, "fields": [field.name for field in changed.fields]}

    def own(self, method: str, path: str, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """``preferences`` of the user, and the ``certificates`` that assertions may be signed with."""
        if path == "preferences":
            return self._preferences.change(data if method == "POST" else {})
        if path != "certificates":
            return None
        if method == "POST":
            self._certificates.register(str(data.get("kid") or ""), str(data.get("public_key") or ""))
        return {"certificates": self._certificates.ids, "development_key": str(self._certificates.key_file)}


def _entry(record_id: int, at: str, deleted: bool, fields: dict[str, Any]) -> dict[str, Any]:
    return {"id": str(record_id), "deleted": deleted, "modified_at": at, "fields": fields}


def _sublists(kind: RecordType, fields: Mapping[str, Any]) -> frozenset[str]:
    """A plain list is all lines of a sublist, as the truth shows them; a collection with ``items`` is merged."""
    return frozenset(one.name for one in kind.sublists if isinstance(fields.get(one.name), list))
