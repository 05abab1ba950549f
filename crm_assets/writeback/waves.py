"""Waves: so many writes are claimed at once that their calls can go out side by side.

One call after another would leave the engine waiting for the CRM most of the time; and a conflict read carries more
records than a write does, so that reads are only full when several writes' worth is compared together.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from math import ceil, lcm
from typing import TypeVar

from crm_assets.connectors.base import Connector
from crm_assets.core.errors import CrmAssetsError

IN_FLIGHT = 8
"""Calls of one drain at the same time. Budgets with fewer slots make the others wait at the gate."""

_LONGEST = 5
"""Rounds of calls that one claim may last: its lease grows with them."""

_T = TypeVar("_T")
_R = TypeVar("_R")


def size(connector: Connector) -> int:
    """Writes of a wave: whole rounds of full write calls, and full conflict reads where that is not too many."""
    least = IN_FLIGHT * connector.max_write
    full = lcm(least, connector.max_fetch)
    return full if full <= _LONGEST * least else least


def lease(connector: Connector, writes: int, margin: timedelta) -> timedelta:
    """How long a claim of so many writes may take: a lone one's call on a condition, which may fail; its conflict
    reads; its calls; and the settling."""
    rounds = 1 + sum(ceil(ceil(writes / each) / IN_FLIGHT) for each in (connector.max_fetch, connector.max_write))
    return rounds * connector.config.call_timeout + margin


def parts(items: Sequence[_T], most: int) -> list[Sequence[_T]]:
    return [items[start : start + most] for start in range(0, len(items), most)]


def side_by_side(work: Callable[[_T], _R], some: Sequence[_T]) -> Iterable[tuple[_T, _R | CrmAssetsError]]:
    """Each part with what came of it; a fault of one call leaves the others alone. Every call has ended by then."""

    def attempt(part: _T) -> _R | CrmAssetsError:
        try:
            return work(part)
        except CrmAssetsError as error:
            return error

    if len(some) <= 1:
        return [(part, attempt(part)) for part in some]
    with ThreadPoolExecutor(min(IN_FLIGHT, len(some)), thread_name_prefix="writeback") as pool:
        return list(zip(some, pool.map(attempt, some), strict=True))
