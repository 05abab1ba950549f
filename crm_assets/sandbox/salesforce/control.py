"""The control API of the org: does what a CRM user would do, and tells what is true."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

import simplejson

from crm_assets.sandbox import calls, faults
from crm_assets.sandbox.faults import WRITE_KINDS
from crm_assets.sandbox.push import Target

from . import reshape
from .errors import ApiError, error, not_found
from .objects import SObject
from .org import LATE_SECONDS, Org
from .queries import wire
from .schema import quote
from .store import Tx
from .wire import Reply, refused

_PAGE = 1000
_RECORD = re.compile(r"(?P<object>\w+)(?:/(?P<id>\w+)(?P<undelete>/undelete)?)?")


class Control:
    """Answers ``/_sandbox/salesforce/…``."""

    def __init__(self, org: Org) -> None:
        self._org = org

    def answer(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> Reply:
        """``path`` is what follows the connection's name."""
        try:
            data = simplejson.loads(body) if body.strip() else {}
            return self._answer(method, path.strip("/"), query, data)
        except ApiError as failed:
            return refused(failed)
        except ValueError as failed:
            return refused(error(400, "BAD_REQUEST", str(failed)))

    def _answer(self, method: str, path: str, query: Mapping[str, str], data: Any) -> Reply:
        name = path.split("/")[0]
        own = (
            getattr(self, f"_{name}", None)
            if name in ("calls", "faults", "limits", "schema", "subscriptions")
            else None
        )
        if own:
            reply: Reply = own(method, data)
            return reply
        match = _RECORD.fullmatch(path)
        kind = self._org.store.schema.find(match["object"]) if match else None
        if match is None or kind is None:
            raise not_found(f"no such resource: {path}")
        if method == "GET" and match["id"] is None:
            return self._truth(kind, query.get("after", ""))
        return self._write(method, path, kind, match["id"], match["undelete"], data)

    def _truth(self, kind: SObject, after: str) -> Reply:
        """A page of all records, those in the recycle bin too."""
        fields = kind.stored
        columns = ", ".join(f"{quote(field.name)}" for field in fields)
        sql = f'SELECT _at, {columns} FROM {quote(kind.name)} WHERE "Id" > ? ORDER BY "Id" LIMIT {_PAGE + 1}'
        rows = self._org.store.reader.execute(sql, (after,)).fetchall()
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
        more = len(rows) > _PAGE
        return Reply(body={"records": records, "next": records[-1]["id"] if more else None})

    def _write(
        self, method: str, path: str, kind: SObject, record_id: str | None, undelete: str | None, data: Any
    ) -> Reply:
        records = self._org.records
        fields = data.get("fields") or {} if isinstance(data, dict) else {}
        if not isinstance(fields, dict):
            raise ValueError("fields: an object of name and value is needed")
        work: Callable[[Tx], str]
        if method == "POST" and record_id is None:
            work = lambda tx: records.create(tx, kind, fields, system=True)  # noqa: E731
        elif method == "POST" and record_id == "merge" and not undelete:
            winner, losers = str(data.get("winner")), [str(one) for one in data.get("losers") or []]
            work = lambda tx: records.merge(tx, kind, winner, losers)  # noqa: E731
        elif method == "POST" and record_id and undelete:
            work = lambda tx: records.undelete(tx, kind, record_id)  # noqa: E731
        elif method == "PATCH" and record_id:
            work = lambda tx: records.update(tx, kind, record_id, fields, system=True)  # noqa: E731
        elif method == "DELETE" and record_id:
            work = lambda tx: records.delete(tx, kind, record_id)  # noqa: E731
        else:
            raise error(405, "METHOD_NOT_ALLOWED", f"{method} is not allowed here")
        where = (f"/_sandbox/salesforce/{path}", path)
        if self._org.faults.strike(WRITE_KINDS, method, *where):
            # The answer comes at once, as a user whose transaction goes on would have the id already.
            result, commit = self._org.store.open_late(work)
            self._org.store.later(commit, LATE_SECONDS)
        else:
            result = self._org.store.transact(work)
        return Reply(201 if method == "POST" and record_id is None else 200, {"id": result})

    def _calls(self, method: str, data: Any) -> Reply:
        if method == "DELETE":
            self._org.calls.reset()
        return Reply(body=self._org.calls.report())

    def _faults(self, method: str, data: Any) -> Reply:
        if method == "DELETE":
            self._org.faults.clear()
        else:
            self._org.faults.add(faults.parse(data))
        return Reply(body={})

    def _limits(self, method: str, data: Any) -> Reply:
        if method == "POST":
            calls.set_limits(self._org.limits, data)
        return Reply(body={name: window.most for name, window in self._org.limits.items()})

    def _schema(self, method: str, data: Any) -> Reply:
        changed = reshape.change(self._org.store, data)
        return Reply(body={"object": changed.name, "fields": [field.name for field in changed.fields]})

    def subscribe(self, method: str, data: Any) -> Reply:
        """Runs in the event loop, where the deliveries live."""
        push = self._org.push
        if method == "POST":
            if not isinstance(data, dict) or not str(data.get("url", "")).startswith(("http://", "https://")):
                return refused(error(400, "BAD_REQUEST", "url: an http address is needed"))
            push.subscribe(Target(str(data["url"]), str(data.get("secret") or "sandbox")))
        elif method == "DELETE":
            url = data.get("url") if isinstance(data, dict) else None
            for target in push.targets:
                if url is None or target.url == url:
                    push.unsubscribe(target.url)
        return Reply(body={"subscriptions": [{"url": target.url} for target in push.targets]})
