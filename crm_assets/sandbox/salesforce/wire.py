"""Calls and replies, and which function answers which path."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import simplejson

from .errors import ApiError, error, not_found

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One API call after authentication; sub-calls of a composite look the same."""

    method: str
    path: str
    version: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Headers = field(default_factory=dict)
    body: bytes = b""
    late: float = 0.0
    half: bool = False

    @property
    def base(self) -> str:
        return f"/services/data/v{self.version}"

    def json(self) -> Any:
        """The body as JSON, or the vendor's parser error."""
        try:
            return simplejson.loads(self.body)
        except ValueError as failed:
            raise error(400, "JSON_PARSER_ERROR", f"{failed}") from None

    def record(self) -> dict[str, Any]:
        """The body as one JSON object."""
        body = self.json()
        if not isinstance(body, dict):
            raise error(400, "JSON_PARSER_ERROR", "Cannot deserialize: an object is needed at [line:1, column:1]")
        return body


@dataclass(frozen=True, slots=True)
class Slice:
    """A part of a file, with something in front of it: a page of a large result."""

    path: Path
    start: int
    end: int
    head: bytes = b""


@dataclass(frozen=True, slots=True)
class Reply:
    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)

    def payload(self) -> bytes:
        """The body as bytes: JSON, unless it is bytes already."""
        if self.body is None:
            return b""
        if isinstance(self.body, bytes):
            return self.body
        return simplejson.dumps(self.body, ensure_ascii=False, separators=(",", ":")).encode()


def refused(failed: ApiError) -> Reply:
    return Reply(failed.status, [one.top() for one in failed.faults])


Handler = Callable[..., Reply]


class Router:
    """Handlers by method and path; ``{name}`` in a pattern is one segment, handed over as an argument."""

    def __init__(self) -> None:
        self._routes: list[tuple[str, re.Pattern[str], Handler, str]] = []

    def add(self, method: str, pattern: str, api: str, handler: Handler) -> None:
        """``api`` is the name under which calls of this path are counted."""
        compiled = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", pattern.strip("/")))
        self._routes.append((method, compiled, handler, api))

    def api(self, method: str, path: str) -> str:
        """The counter of a call."""
        clean = path.strip("/")
        for wanted, pattern, _, api in self._routes:
            if wanted == method and pattern.fullmatch(clean):
                return api
        return "other"

    def answer(self, call: Call) -> Reply:
        """The reply to a call; refusals become their bodies."""
        try:
            clean = call.path.strip("/")
            known = False
            for method, pattern, handler, _ in self._routes:
                if match := pattern.fullmatch(clean):
                    known = True
                    if method == call.method:
                        return handler(call, **{key: unquote(text) for key, text in match.groupdict().items()})
            if known:
                allowed = "HTTP Method '" + call.method + "' not allowed."
                raise error(405, "METHOD_NOT_ALLOWED", allowed)
            raise not_found()
        except ApiError as failed:
            return refused(failed)
