"""Calls after authentication, and the two families of paths."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import orjson

from crm_assets.sandbox.http import Reply, Request

from . import clock
from .errors import invalid

BATCH = 100
_DATE = r"(?:19|20)\d\d-\d\d"
_FAMILIES = (
    (re.compile(rf"/crm/objects/{_DATE}/([^/]+/[^/]+/associations/.*)"), r"/crm/v4/objects/\1"),
    (re.compile(rf"/crm/objects/{_DATE}/(.*)"), r"/crm/v3/objects/\1"),
    (re.compile(rf"/crm/associations/{_DATE}/(.*)"), r"/crm/v4/associations/\1"),
    (re.compile(rf"/crm/(properties|pipelines|owners|schemas)/{_DATE}(/.*)?"), r"/crm/v3/\1\2"),
    (re.compile(rf"/crm-object-schemas/(?:v3|{_DATE})/schemas(/.*)?"), r"/crm/v3/schemas\1"),
    (re.compile(rf"/account-info/(?:v3|{_DATE})/(.*)"), r"/account-info/v3/\1"),
    (re.compile(rf"/oauth/(?:v1|v3|{_DATE})/(.*)"), r"/oauth/\1"),
    (re.compile(rf"/webhooks/(?:v3|{_DATE})/(.*)"), r"/webhooks/v3/\1"),
)


def numbered(path: str) -> str:
    """The numbered spelling of a path; the family with dates answers the same."""
    for pattern, spelled in _FAMILIES:
        if match := pattern.fullmatch(path):
            return match.expand(spelled)
    return path


@dataclass(frozen=True, slots=True)
class Call:
    """One API call. ``half`` makes every second input of a batch fail, ``late`` holds its commit back, in seconds."""

    request: Request
    path: str
    half: bool = False
    late: float = 0.0

    def json(self) -> Any:
        try:
            return orjson.loads(self.request.body)
        except ValueError:
            raise invalid("Invalid input JSON: the body cannot be read") from None

    def body(self) -> dict[str, Any]:
        """The body as one JSON object."""
        body = self.json()
        if not isinstance(body, dict):
            raise invalid("Invalid input JSON: an object is needed")
        return body

    def inputs(self) -> list[dict[str, Any]]:
        """The inputs of a batch."""
        return inputs(self.body())

    def one(self, name: str) -> str | None:
        return self.request.query.get(name) or None

    def flag(self, name: str) -> bool:
        return self.request.query.get(name, "false").lower() == "true"

    def names(self, name: str) -> list[str]:
        """A list in the query: with commas, or repeated."""
        values = [value for key, value in self.request.pairs if key == name]
        return [one.strip() for value in values for one in value.split(",") if one.strip()]


def inputs(body: Mapping[str, Any], most: int = BATCH) -> list[dict[str, Any]]:
    given = body.get("inputs")
    if not isinstance(given, list) or not given or not all(isinstance(one, dict) for one in given):
        raise invalid("Invalid input JSON: inputs has to be a list of objects, and not empty")
    if len(given) > most:
        raise invalid(f"The maximum number of inputs supported in a batch request is {most}")
    return given


def strings(given: Any) -> list[str]:
    """A list of texts in a body; anything else counts as none."""
    return [str(one) for one in given] if isinstance(given, list) else []


def limit(text: str | int | None, default: int, most: int) -> int:
    """The size of a page."""
    try:
        size = default if text is None else int(text)
    except ValueError:
        raise invalid(f"limit: {text} is no number") from None
    if not 1 <= size <= most:
        raise invalid(f"limit has to be between 1 and {most}")
    return size


def json_reply(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Reply:
    return Reply(status, orjson.dumps(body), headers or {})


def page(results: Sequence[Any], after: Any, request: Request, **more: Any) -> Reply:
    """A page of results; ``after`` is where the next one starts, None on the last."""
    body: dict[str, Any] = {**more, "results": results}
    if after is not None:
        link = f"{request.url}{request.path}?after={after}"
        body["paging"] = {"next": {"after": str(after), "link": link}}
    return json_reply(body)


def batch(results: Sequence[Any], errors: Iterable[Mapping[str, Any]], started: int, status: int = 200) -> Reply:
    """The reply to a batch: 207 if some of it failed."""
    body: dict[str, Any] = {
        "status": "COMPLETE",
        "results": results,
        "startedAt": clock.iso(started),
        "completedAt": clock.iso(clock.now()),
    }
    failed = list(errors)
    if failed:
        body |= {"numErrors": len(failed), "errors": failed}
    return json_reply(body, 207 if failed else status)
