"""Counts the calls of one connection, and holds them to its limits."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol


class Calls:
    """What was called, with which outcome, how many at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        with self._lock:
            self._by_api: Counter[str] = Counter()
            self._by_status: Counter[str] = Counter()
            self._running = getattr(self, "_running", 0)
            self._peak = self._running
            self._violations = 0

    @contextmanager
    def running(self) -> Iterator[None]:
        """For as long as a call is in work."""
        with self._lock:
            self._running += 1
            self._peak = max(self._peak, self._running)
        try:
            yield
        finally:
            with self._lock:
                self._running -= 1

    def arrived(self, api: str) -> None:
        with self._lock:
            self._by_api[api] += 1

    def answered(self, status: int | None) -> None:
        """None: the client got no answer."""
        with self._lock:
            self._by_status["none" if status is None else str(status)] += 1

    def violated(self) -> None:
        with self._lock:
            self._violations += 1

    def report(self) -> dict[str, Any]:
        with self._lock:
            return {
                "total": self._by_api.total(),
                "by_api": dict(self._by_api),
                "by_status": dict(self._by_status),
                "peak_concurrency": self._peak,
                "limit_violations": self._violations,
            }


class Window:
    """A number of calls per rolling span of time."""

    def __init__(self, most: int, seconds: float) -> None:
        self.most = most
        self._seconds = seconds
        self._times: deque[float] = deque()
        self._lock = threading.Lock()

    def take(self) -> bool:
        """Takes a place, or says that there is none."""
        with self._lock:
            self._forget()
            if len(self._times) >= self.most:
                return False
            self._times.append(time.monotonic())
            return True

    @property
    def used(self) -> int:
        with self._lock:
            self._forget()
            return len(self._times)

    def _forget(self) -> None:
        oldest = time.monotonic() - self._seconds
        while self._times and self._times[0] < oldest:
            self._times.popleft()


class Limit(Protocol):
    """Something that a number bounds; what it bounds is in its name."""

    most: int


@dataclass(slots=True)
class Amount:
    """A bound that nothing is counted against."""

    most: int


def set_limits(limits: Mapping[str, Limit], body: Any) -> None:
    """New limits by name; ValueError for a name that there is not."""
    if not isinstance(body, Mapping):
        raise ValueError("limits: an object of name and number is needed")
    for name, value in body.items():
        if name not in limits:
            raise ValueError(f"unknown limit {name!r}; known: {', '.join(limits)}")
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise ValueError(f"{name}: a whole number is needed")
        limits[name].most = value
