"""Calls as the resources see them, pages, and which function answers which path."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode

import simplejson

from crm_assets.sandbox.http import Reply, VendorError
from crm_assets.sandbox.routes import Routes

from .errors import MEDIA, ApiError, Problem, content, parameter

MOST_ROWS = 1000
MOST_RESULTS = 100_000
MOST_PAGES = 1000


@dataclass(frozen=True, slots=True)
class Call:
    """One call after authentication. ``path`` follows ``/services/rest/``, ``base`` is the address up to there.

    ``late`` and ``half`` are what ordered faults do to a write: how long it stays open, and whether it fails, in a
    batch every second record of it.
    """

    method: str
    path: str
    base: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    late: float = 0.0
    half: bool = False

    @property
    def prefers(self) -> frozenset[str]:
        """The words of ``Prefer``."""
        return frozenset(one.strip().lower() for one in self.headers.get("prefer", "").split(","))

    @property
    def url(self) -> str:
        return f"{self.base}/{self.path}"

    def record(self) -> dict[str, Any]:
        """The body as one JSON object; :class:`ApiError` INVALID_CONTENT if it is none."""
        try:
            body = simplejson.loads(self.body)
        except ValueError:
            body = None
        if not isinstance(body, dict):
            raise content("Invalid content in the request body: a JSON object is needed.")
        return body

    def flag(self, name: str) -> bool:
        return self.query.get(name, "false").lower() == "true"

    def names(self, name: str) -> frozenset[str]:
        """A list of names in the query, such as ``fields``."""
        return frozenset(one.strip() for one in self.query.get(name, "").split(",") if one.strip())


@dataclass(frozen=True, slots=True)
class Page:
    """The part of a result that a call asks for."""

    limit: int
    offset: int

    @staticmethod
    def of(query: Mapping[str, str], most: int = MOST_RESULTS) -> Page:
        """As the query says it; :class:`ApiError` INVALID_PARAMETER beyond the vendor's bounds. ``most`` is how far a
        result goes."""
        limit, offset = (_whole(query, name, default) for name, default in (("limit", MOST_ROWS), ("offset", 0)))
        if not 1 <= limit <= MOST_ROWS:
            raise parameter(f"The limit must be between 1 and {MOST_ROWS}.", "limit")
        if offset % limit:
            raise parameter("The offset must be divisible by the limit.", "offset")
        if offset + limit > most or offset // limit >= MOST_PAGES:
            raise parameter(
                f"A result is given up to {most} records and {MOST_PAGES} pages. Narrow the query.", "offset"
            )
        return Page(limit, offset)

    def envelope(self, call: Call, items: Sequence[Any], total: int) -> dict[str, Any]:
        """The collection that a list of items is sent in; ``total`` counts up to the bound of a result."""
        more = self.offset + len(items) < total
        starts = {"self": self.offset}
        if self.offset:
            starts |= {"first": 0, "previous": self.offset - self.limit}
        if more:
            starts |= {"next": self.offset + self.limit, "last": (total - 1) // self.limit * self.limit}
        links = [{"rel": rel, "href": self._href(call, start)} for rel, start in starts.items()]
        return {
            "links": links,
            "count": len(items),
            "hasMore": more,
            "items": items,
            "offset": self.offset,
            "totalResults": total,
        }

    def _href(self, call: Call, start: int) -> str:
        query = {name: value for name, value in call.query.items() if name not in ("limit", "offset")}
        return f"{call.url}?{urlencode(query | {'limit': self.limit, 'offset': start})}"


def _whole(query: Mapping[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal():
        raise parameter(f"The {name} must be a whole number.", name)
    return int(text)


def reply(kind: str, body: Any, status: int = 200) -> Reply:
    """``kind`` is singular or collection."""
    return Reply(status, body, {"Content-Type": f"{MEDIA}{kind}"})


class Router(Routes):
    """Answers calls; refusals become their bodies."""

    def answer(self, call: Call) -> Reply:
        try:
            found = self.find(call.method, call.path)
            if found is not None:
                return found.handler(call, **found.arguments)
            if self.knows(call.path):
                raise ApiError(405, Problem(f"The method {call.method} is not allowed here.", "INVALID_METHOD"))
            raise ApiError(404, Problem("The requested resource does not exist.", "INVALID_URL"))
        except VendorError as failed:
            return failed.reply()
