"""How often a connection is read, from its cron expression, and what counts as late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise

# Dagster's own reading of cron expressions: what its scheduler will do is what is measured here.
from dagster._utils.schedules import cron_string_iterator

from crm_assets.core.pace import SPARING

_SAMPLE = 50


@lru_cache(maxsize=64)
def longest_gap(cron: str) -> timedelta:
    """The longest time between two of the next ticks of a cron expression."""
    ticks = list(islice(cron_string_iterator(datetime.now(UTC).timestamp(), cron, "UTC"), _SAMPLE))
    return max(later - earlier for earlier, later in pairwise(ticks))


def late_after(cron: str, least: timedelta = SPARING) -> tuple[timedelta, timedelta]:
    """When a mirror counts as late: as a warning, and as a failure. Three and twelve reads missed; ``least`` is how
    often it is read at the least, whatever the schedule."""
    gap = max(longest_gap(cron), least)
    return 3 * gap, 12 * gap
