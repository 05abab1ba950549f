"""Waves: so many writes are claimed at once that their calls can go out side by side.

One call after another would leave the engine waiting for the CRM most of the time; and a conflict read carries more
records than a write does, so that reads are only full when several writes' worth is compared together. While the calls
of one wave are under way the next one is claimed, and what has been answered is settled.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import timedelta
from math import ceil, lcm
from types import TracebackType
from typing import TypeVar

from crm_assets.connectors.base import Connector
from crm_assets.core.errors import CrmAssetsError

IN_FLIGHT = 8
"""Calls of one drain at the same time. Budgets with fewer slots make the others wait at the gate."""

AT_ONCE = 2
"""Waves of one object under way in one drain: one is claimed and compared while the other's calls are out."""

_SETTLING = 3
"""Threads beyond those that call: a call that has its reply makes room for the next one before it is settled."""

_ROUNDS = 2
"""Rounds of write calls in a wave. Few, because the first call waits for the whole of it to be claimed."""

_LONGEST = 5
"""Rounds of calls that one claim may last at most: its lease grows with them."""

_T = TypeVar("_T")
_R = TypeVar("_R")


def size(connector: Connector) -> int:
    """Writes of a wave: whole write calls, and full conflict reads where that is not too many."""
    least = _ROUNDS * IN_FLIGHT * connector.max_write
    each = lcm(connector.max_write, connector.max_fetch)
    full = ceil(least / each) * each
    return full if full <= _LONGEST * IN_FLIGHT * connector.max_write else least


def lease(connector: Connector, writes: int, margin: timedelta) -> timedelta:
    """How long a claim of so many writes may take: a lone one's call on a condition, which may fail; its conflict
    reads; its calls; and the settling. Other waves use the same slots meanwhile."""
    rounds = sum(ceil(ceil(writes / each) / IN_FLIGHT) for each in (connector.max_fetch, connector.max_write))
    return (1 + AT_ONCE * rounds) * connector.config.call_timeout + margin


def parts(items: Sequence[_T], most: int) -> list[Sequence[_T]]:
    return [items[start : start + most] for start in range(0, len(items), most)]


class Crew:
    """The threads of one drain, shared by its waves. ``calling`` is to be held over each call."""

    def __init__(self) -> None:
        self.calling = threading.BoundedSemaphore(IN_FLIGHT)
        self._pool = ThreadPoolExecutor(IN_FLIGHT + _SETTLING, thread_name_prefix="writeback")

    def __enter__(self) -> Crew:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown()

    def side_by_side(self, work: Callable[[_T], _R], some: Sequence[_T]) -> Iterable[tuple[_T, _R | CrmAssetsError]]:
        """Each part with what came of it; a fault of one call leaves the others alone. Every call has ended by then."""

        def attempt(part: _T) -> _R | CrmAssetsError:
            try:
                return work(part)
            except CrmAssetsError as error:
                return error

        if len(some) <= 1:
            return [(part, attempt(part)) for part in some]
        # All of them have ended before the first error that is none of ours is raised.
        found = [self._pool.submit(attempt, part) for part in some]
        wait(found)
        return [(part, one.result()) for part, one in zip(some, found, strict=True)]
