"""The account's gate: so many calls at once, whoever makes them; the next one is refused at once."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


class Gate:
    """``most`` calls are in work at a time; ``refused`` is told of each that is not let in."""

    def __init__(self, most: int, refused: Callable[[], None]) -> None:
        self.most = most
        self._refused = refused
        self._inside = 0
        self._lock = threading.Lock()

    @contextmanager
    def enter(self) -> Iterator[bool]:
        """Whether there was room for this call."""
        with self._lock:
            room = self._inside < self.most
            self._inside += room
        if not room:
            self._refused()
        try:
            yield room
        finally:
            with self._lock:
                self._inside -= room
