"""The control API of a room: does what a CRM user would do, and tells what is true."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import simplejson

from . import calls, faults
from .faults import WRITE_KINDS
from .http import Reply, VendorError
from .push import Target
from .room import LATE_SECONDS, Act, Room

_RECORD = re.compile(r"(?P<object>[\w-]+)(?:/(?P<id>[^/]+)(?P<undelete>/undelete)?)?")
_OWN = ("calls", "faults", "limits", "schema", "subscriptions")


class Control:
    """Answers ``/_sandbox/<name>/…``."""

    def __init__(self, room: Room) -> None:
        self._room = room

    def answer(self, method: str, path: str, query: Mapping[str, str], body: bytes) -> Reply:
        """``path`` is what follows the connection's name. Subscriptions belong to the event loop's thread."""
        try:
            data = simplejson.loads(body) if body.strip() else {}
            if not isinstance(data, dict):
                raise ValueError("the body has to be an object")
            return self._answer(method, path.strip("/"), query, data)
        except VendorError as failed:
            return failed.reply()
        except ValueError as failed:
            return Reply(400, {"error": str(failed)})

    def _answer(self, method: str, path: str, query: Mapping[str, str], data: dict[str, Any]) -> Reply:
        if path in _OWN:
            reply: Reply = getattr(self, f"_{path}")(method, data)
            return reply
        own = self._room.desk.own(method, path, data)
        if own is not None:
            return Reply(body=own)
        match = _RECORD.fullmatch(path)
        if match is None:
            return Reply(404, {"error": f"no such resource: {path}"})
        name, record_id = match["object"], match["id"]
        if method == "GET" and record_id is None:
            records, following = self._room.desk.truth(name, query.get("after", ""))
            return Reply(body={"records": records, "next": following})
        act = _act(method, name, record_id, match["undelete"] is not None, data)
        if act is None:
            return Reply(405, {"error": f"{method} is not allowed here"})
        where = (f"/_sandbox/{self._room.name}/{path}", path)
        late = self._room.faults.strike(WRITE_KINDS, method, *where)
        done = self._room.desk.perform(act, LATE_SECONDS if late else 0.0)
        return Reply(201 if act.what == "create" else 200, {"id": done})

    def _calls(self, method: str, data: dict[str, Any]) -> Reply:
        if method == "DELETE":
            self._room.calls.reset()
        return Reply(body=self._room.calls.report())

    def _faults(self, method: str, data: dict[str, Any]) -> Reply:
        if method == "DELETE":
            self._room.faults.clear()
        else:
            self._room.faults.add(faults.parse(data))
        return Reply(body={})

    def _limits(self, method: str, data: dict[str, Any]) -> Reply:
        if method == "POST":
            calls.set_limits(self._room.limits, data)
        return Reply(body={name: limit.most for name, limit in self._room.limits.items()})

    def _schema(self, method: str, data: dict[str, Any]) -> Reply:
        return Reply(body=self._room.desk.reshape(data))

    def _subscriptions(self, method: str, data: dict[str, Any]) -> Reply:
        push = self._room.push
        if method == "POST":
            if not str(data.get("url", "")).startswith(("http://", "https://")):
                raise ValueError("url: an http address is needed")
            push.subscribe(Target(str(data["url"]), str(data.get("secret") or "sandbox")))
        elif method == "DELETE":
            url = data.get("url")
            for target in push.targets:
                if url is None or target.url == url:
                    push.unsubscribe(target.url)
        return Reply(body={"subscriptions": [{"url": target.url} for target in push.targets]})


def _act(method: str, name: str, record_id: str | None, undelete: bool, data: dict[str, Any]) -> Act | None:
    """What a call asks for; None if its method does not fit its path."""
    fields = data.get("fields") or {}
    if not isinstance(fields, dict):
        raise ValueError("fields: an object of name and value is needed")
    if record_id is None:
        return Act("create", name, fields=fields) if method == "POST" else None
    if undelete:
        return Act("undelete", name, record_id) if method == "POST" else None
    if method == "POST" and record_id == "merge":
        return Act("merge", name, str(data.get("winner")), losers=tuple(map(str, data.get("losers") or [])))
    if method == "PATCH":
        return Act("update", name, record_id, fields)
    return Act("delete", name, record_id) if method == "DELETE" else None
