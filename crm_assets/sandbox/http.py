"""Requests and replies as every room sees them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import simplejson


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request, its path without the connection's prefix.

    ``query`` keeps the last value of each name, ``pairs`` all of them. ``url`` is the address under which the caller
    reached this room. ``paths`` are the spellings of the path that the pattern of an ordered fault may match.
    ``sent`` is the path as it was sent: with its prefix and its escapes, as a signature covers it.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    url: str
    paths: tuple[str, ...]
    pairs: tuple[tuple[str, str], ...] = ()
    sent: str = ""


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


class VendorError(Exception):
    """A refusal in a vendor's words; rooms subclass it."""

    def reply(self) -> Reply:
        raise NotImplementedError
