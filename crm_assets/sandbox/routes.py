"""Which function answers which path."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import unquote

from .http import Reply

Handler = Callable[..., Reply]


@dataclass(frozen=True, slots=True)
class Found:
    handler: Handler
    arguments: Mapping[str, str]


class Routes:
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

    def find(self, method: str, path: str) -> Found | None:
        """Who answers a call; the first that fits."""
        clean = path.strip("/")
        for wanted, pattern, handler, _ in self._routes:
            if wanted == method and (match := pattern.fullmatch(clean)):
                return Found(handler, {key: unquote(text) for key, text in match.groupdict().items()})
        return None

    def knows(self, path: str) -> bool:
        """Whether the path exists for some method."""
        return any(pattern.fullmatch(path.strip("/")) for _, pattern, _, _ in self._routes)
