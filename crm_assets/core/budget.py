"""Budgets: how many calls a lane may have of what is left. Values in, values out.

The lanes share a budget in a fixed order. In a short window each lane has a part of it that the others may borrow while
it is quiet: of a lane that has asked lately, a little is kept free, so that its next call need not wait. A long window
cannot be had back before its end, so the last of it is kept for the lanes that must not stop.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum

LONG = timedelta(hours=1)
"""Windows from this length on are planned; shorter ones are waited for."""


class Lane(StrEnum):
    """Whose calls they are, in the order in which they are served."""

    WRITEBACK = "writeback"
    EVENTS = "events"
    INCREMENTAL = "incremental"
    BACKFILL = "backfill"
    RECONCILE = "reconcile"


_PART: Mapping[Lane, float] = {
    Lane.WRITEBACK: 0.40,
    Lane.EVENTS: 0.25,
    Lane.INCREMENTAL: 0.20,
    Lane.BACKFILL: 0.10,
    Lane.RECONCILE: 0.05,
}
_HEADROOM = 0.05
"""Of a short window, kept free for each lane that asks and has not used its part; of a long one, by how much the
vendor's count and ours may differ."""

_LAST: Mapping[Lane, float] = {
    Lane.WRITEBACK: 0.0,
    Lane.EVENTS: 0.01,
    Lane.INCREMENTAL: 0.02,
    Lane.BACKFILL: 0.05,
    Lane.RECONCILE: 0.10,
}
"""Of a long window, what the lane leaves to those above it."""


@dataclass(frozen=True)
class Account:
    """One budget as it stands. Numbers are calls (or points, where the vendor counts those).

    ``spent`` are our own calls by lane that count at this moment, those under way and those leased included;
    ``foreign`` are those of other apps as far as the vendor's numbers show them (negative: so many of ours the vendor
    counts no longer); ``reserve`` is left to the account.
    """

    limit: int
    period: timedelta | None
    spent: Mapping[Lane, int] = field(default_factory=dict)
    foreign: int = 0
    reserve: int = 0

    @property
    def left(self) -> int:
        return self.limit - self.reserve - max(0, self.foreign + sum(self.spent.values()))

    @property
    def long(self) -> bool:
        return self.period is not None and self.period >= LONG


def grant(account: Account, lane: Lane, wanted: int, asking: Collection[Lane]) -> int:
    """How many of ``wanted`` the lane gets now; ``asking`` are the lanes that have asked lately."""
    if account.long:
        return max(0, min(wanted, account.left - int(_LAST[lane] * account.limit)))
    usable = max(0, account.limit - account.reserve - max(0, account.foreign))
    kept = sum(
        min(max(1, int(_HEADROOM * usable)), max(0, _own(other, usable) - account.spent.get(other, 0)))
        for other in set(asking) - {lane}
    )
    borrowed = account.left - kept
    owed = min(account.left, _own(lane, usable) - account.spent.get(lane, 0))
    return max(0, min(wanted, max(borrowed, owed)))


def _own(lane: Lane, usable: int) -> int:
    """The part of a short window that nobody can keep from the lane; at least one call."""
    return max(1, int(_PART[lane] * usable))


def block(account: Account) -> int:
    """How many calls are leased at once: few enough that what a dead process holds is no loss, and one where the
    ledger must know each call (slots, small windows)."""
    if account.period is None:
        return 1
    return max(1, min(account.limit // 25, 25))


def foreign(account: Account, seen: int, settled: int, under_way: int) -> int:
    """Calls of other apps, from the vendor's count ``seen`` and our own: ``settled`` ones are surely in it,
    those leased or ``under_way`` may be. Unless the vendor counts more than all of ours, nobody else is there.

    A vendor whose day ends at midnight then counts far fewer than we do. Less is answered, as a negative number, so
    that the new day is used; a little of it is held back, for replies that are older than what we have counted since.
    """
    if seen > settled + under_way:
        return seen - settled
    held = int(_HEADROOM * account.limit)
    return min(0, seen + held - settled) if account.long else 0


def ends(
    account: Account, used: int, rate: float, returning: Mapping[int, int], step: timedelta, most: int = 24
) -> timedelta | None:
    """When the budget will be used up if calls go on at ``rate`` per step; None if not within ``most`` steps.

    ``returning`` are the calls that leave the window, by step from now (1 is the first).
    """
    level = float(used)
    for number in range(1, most + 1):
        level += rate - returning.get(number, 0)
        if level >= account.limit - account.reserve:
            return step * number
    return None
