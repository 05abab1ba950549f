"""Pace: how long a single change waits for company, so that calls last for the day. Values in, values out."""

from __future__ import annotations

from datetime import timedelta

LINGER = 0.015
"""Seconds that a single change waits for company while there are calls enough."""

GATHER = 600.0
"""The longest, in seconds, that changes of the CRM are gathered."""

_LONGEST_LINGER = 5.0
_LINGER_GROWS_FROM = 0.5

SWEEP = timedelta(hours=1)
"""While a CRM pushes an object's changes, it is still read this often, for what no event told."""

IDLE = timedelta(minutes=10)
"""The longest that an object which nobody pushes goes unread because it never changes."""

SPARING = timedelta(minutes=5)
"""How often objects are read while the day's calls would not last, or while a stream may be telling of them."""

_QUIET = 10
"""An object that has not changed for so long is read again after a tenth of that."""


def linger(used: int, limit: int) -> float:
    """Seconds to wait for company after the first single change; grows as the quota shrinks.

    Half of the quota is spent at full speed; from there on each further part of it makes the wait longer by the same
    factor, up to five seconds.
    """
    share = min(used / limit, 1.0) if limit > 0 else 0.0
    if share <= _LINGER_GROWS_FROM:
        return LINGER
    beyond = (share - _LINGER_GROWS_FROM) / (1 - _LINGER_GROWS_FROM)
    return float(LINGER * (_LONGEST_LINGER / LINGER) ** beyond)


def gather(spent: int, limit: int, share: float) -> float:
    """Seconds for which changes of the CRM are gathered when reading them has taken ``spent`` calls of the window.

    ``share`` of the limit is spent at full speed; from there on the wait grows, and at half as much again it is so
    long that a CRM which changes all the time costs no more than that.
    """
    if limit <= 0 or share <= 0:
        return LINGER
    beyond = (spent / limit - share) / (share / 2)
    return float(LINGER * (GATHER / LINGER) ** min(max(beyond, 0.0), 1.0))


def read_every(quiet: timedelta, *, pushed: bool, sparing: bool) -> timedelta:
    """How old the last read of an object may become: its changes are ``pushed`` or not, it has been ``quiet`` for so
    long, and calls are to be spared or not (``sparing``)."""
    if pushed:
        return SWEEP
    return max(min(quiet / _QUIET, IDLE), SPARING if sparing else timedelta(0))
