"""Faults on order: which of the coming calls or events goes wrong, and how."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

CALL_KINDS = frozenset({"429", "500", "503", "timeout_before", "timeout_after", "truncate", "slow", "expired_token"})
BATCH_KINDS = frozenset({"partial_batch"})
WRITE_KINDS = frozenset({"late_commit"})
EVENT_KINDS = frozenset({"lose_event", "duplicate_event", "reorder_events"})
KINDS = CALL_KINDS | BATCH_KINDS | WRITE_KINDS | EVENT_KINDS


@dataclass(slots=True)
class Fault:
    """One order: skips ``nth`` - 1 matching things, then strikes ``times`` times."""

    kind: str
    method: str | None
    path: re.Pattern[str] | None
    nth: int
    times: int
    seen: int = 0

    @property
    def spent(self) -> bool:
        return self.seen >= self.nth + self.times - 1

    def matches(self, method: str, path: str) -> bool:
        if self.method and self.method.upper() != method.upper():
            return False
        return self.path is None or self.path.search(path) is not None


def parse(body: Any) -> list[Fault]:
    """The orders in a request's body; ValueError says what is wrong with one."""
    if not isinstance(body, Mapping) or not isinstance(body.get("faults"), list):
        raise ValueError("faults: a list is needed")
    return [_parse(one) for one in body["faults"]]


def _parse(one: Mapping[str, Any]) -> Fault:
    kind = str(one.get("kind"))
    if kind not in KINDS:
        raise ValueError(f"kind: {kind!r} is none of {', '.join(sorted(KINDS))}")
    try:
        nth, times = int(one.get("nth") or 1), int(one.get("times") or 1)
        path = re.compile(str(one["path"])) if one.get("path") else None
    except (TypeError, re.error) as failed:
        raise ValueError(f"{kind}: {failed}") from None
    if nth < 1 or times < 1:
        raise ValueError(f"{kind}: nth and times count from 1")
    return Fault(kind, one.get("method"), path, nth, times)


class Faults:
    """The open orders of one connection."""

    def __init__(self) -> None:
        self._open: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, faults: Iterable[Fault]) -> None:
        with self._lock:
            self._open += faults

    def clear(self) -> None:
        with self._lock:
            self._open = []

    def strike(self, kinds: frozenset[str], method: str, *paths: str) -> str | None:
        """The kind of fault that hits this call or event, if one does.

        Every order of a fitting kind counts what it matches, also if another one strikes first.
        """
        hit: str | None = None
        with self._lock:
            for one in self._open:
                if one.kind not in kinds or not any(one.matches(method, path) for path in paths):
                    continue
                if one.seen + 1 >= one.nth and hit is not None:
                    continue
                one.seen += 1
                if one.seen >= one.nth:
                    hit = one.kind
            self._open = [one for one in self._open if not one.spent]
        return hit
