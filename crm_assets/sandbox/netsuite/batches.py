"""Batches: calls on a collection that stand for one call on each of up to a hundred records."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import simplejson

from .errors import ApiError, Problem, content, header
from .wire import Call

MOST = 100


def is_batch(call: Call) -> bool:
    """Whether a call writes several records."""
    if call.path.count("/") != 2 or not call.path.startswith("record/v1/"):
        return False
    if call.method == "DELETE":
        return True
    return call.method in ("POST", "PATCH", "PUT") and "type=collection" in call.headers.get("content-type", "")


def demand_async(call: Call) -> None:
    """Refuses what is only ever done asynchronously: batches, and reads of several records by id."""
    if is_batch(call) or (call.method == "GET" and "ids" in call.query):
        raise header("The Prefer header with the value respond-async is required.", "Prefer")


def parts(call: Call) -> list[Call]:
    """The single calls of a batch; ``half`` stays with every second one, which is to fail."""
    if call.method == "DELETE":
        made = [_single(call, f"/{key}", {}) for key in _ids(call)]
    else:
        items = call.record().get("items")
        if not isinstance(items, list) or not all(isinstance(one, Mapping) for one in items):
            raise content("Invalid content in the request body: items is a list of records.", "items")
        made = [_single(call, _key(call.method, one, i), one) for i, one in enumerate(items)]
    if not 1 <= len(made) <= MOST:
        raise ApiError(400, Problem(f"A batch has 1 to {MOST} records.", "INVALID_REQUEST"))
    return [replace(one, half=call.half and i % 2 == 1) for i, one in enumerate(made)]


def _ids(call: Call) -> list[str]:
    return [one.strip() for one in call.query.get("ids", "").split(",") if one.strip()]


def _single(call: Call, key: str, body: Mapping[str, Any]) -> Call:
    query = {name: value for name, value in call.query.items() if name != "ids"}
    headers = {name: value for name, value in call.headers.items() if name != "content-type"}
    return replace(call, path=call.path + key, query=query, headers=headers, body=simplejson.dumps(body).encode())


def _key(method: str, item: Mapping[str, Any], position: int) -> str:
    """Where a record of a batch is; the internal id comes before the external one."""
    if method == "POST":
        return ""
    if method == "PATCH" and item.get("id"):
        return f"/{item['id']}"
    if item.get("externalId"):
        return f"/eid:{item['externalId']}"
    raise content("Invalid content in the request body: the record has no ID.", f"items[{position}]")
