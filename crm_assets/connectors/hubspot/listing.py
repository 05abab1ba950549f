"""Lists of the primary store, reply by reply, in the order of ids.

Source: CRM objects API, "List". A list shows 100 records a call; ``paging.next.after`` is where the next call begins.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import simplejson

from crm_assets.connectors.hubspot.client import OBJECTS, Client
from crm_assets.core.errors import RetriableError

AT_ONCE = 100
"""Records of one reply."""

_TOGETHER = 50
"""Replies that are parsed in one go: setting up the parser for each costs more than the parsing."""

# Within a JSON string its quotes would be escaped, so that this is only ever the mark of the next reply.
_MARK = re.compile(rb'"paging"\s*:\s*\{\s*"next"\s*:\s*\{\s*"after"\s*:\s*"([^"\\]+)"')


@dataclass(frozen=True, slots=True)
class Reply:
    """One reply as it came. ``mark`` is where the next one begins, None after the last."""

    body: bytes
    mark: str | None

    @property
    def records(self) -> list[dict[str, Any]]:
        return list(_parsed(self.body)["results"])


def replies(
    client: Client, name: str, names: Sequence[str], start: str | None = None, *, archived: bool = False
) -> Iterator[Reply]:
    """The list of a kind from the mark on, with these properties."""
    params: dict[str, str | int] = {"limit": AT_ONCE, "properties": ",".join(names)}
    if archived:
        params["archived"] = "true"
    if start is not None:
        params["after"] = start
    while True:
        body = client.whole("GET", f"{OBJECTS}/{name}", "list", f"list of {name}", params=params)
        mark = _mark(body)
        yield Reply(body, mark)
        if mark is None:
            return
        params["after"] = mark


def together(some: Iterator[Reply]) -> Iterator[list[Reply]]:
    """Replies in groups; those that came before a fault are handed out before it."""
    group: list[Reply] = []
    while True:
        try:
            reply = next(some, None)
        except RetriableError:
            if group:
                yield group
            raise
        if reply is not None:
            group.append(reply)
        if group and (reply is None or len(group) == _TOGETHER):
            yield group
            group = []
        if reply is None:
            return


def _mark(body: bytes) -> str | None:
    if found := _MARK.search(body):
        return found[1].decode()
    after = ((_parsed(body).get("paging") or {}).get("next") or {}).get("after")
    return None if after is None else str(after)


def _parsed(body: bytes) -> Any:
    return simplejson.loads(body, use_decimal=True)
