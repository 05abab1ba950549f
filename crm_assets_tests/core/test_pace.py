"""How long a change waits for company, and how old a read may become."""

from __future__ import annotations

import itertools
from datetime import timedelta

import pytest

from crm_assets.core.pace import GATHER, IDLE, LINGER, SWEEP, gather, linger, read_every


def test_the_linger_grows_as_the_quota_shrinks() -> None:
    waits = [linger(used, 24_000) for used in range(0, 24_001, 1_000)]
    assert waits[:13] == [LINGER] * 13
    assert all(later > earlier for earlier, later in itertools.pairwise(waits[12:]))
    assert waits[-1] == pytest.approx(5.0) == linger(30_000, 24_000)
    assert linger(0, 0) == LINGER


def test_changes_are_gathered_from_the_share_on_that_may_be_spent_at_once() -> None:
    waits = [gather(spent, 24_000, 0.04) for spent in range(0, 2_000, 40)]
    assert waits[: 960 // 40 + 1] == [LINGER] * 25
    assert all(later > earlier for earlier, later in itertools.pairwise(waits[24:37]))
    assert waits[-1] == pytest.approx(GATHER)
    assert gather(5, 0, 0.04) == LINGER


@pytest.mark.parametrize("objects", [1, 10, 30])
def test_a_crm_that_changes_all_the_time_comes_to_rest_at_a_share_of_the_quota(objects: int) -> None:
    """One call per object each time; calls leave the window a day later."""
    spent: list[float] = []
    now = 0.0
    while now < 3 * 86_400:
        spent = [at for at in spent if at > now - 86_400]
        now += max(0.2, gather(len(spent), 24_000, 0.04))
        spent += [now] * objects
    assert len(spent) <= max(0.06 * 24_000, 86_400 / GATHER * objects) + objects


def test_how_often_an_object_is_read() -> None:
    hour = timedelta(hours=1)
    assert read_every(hour, pushed=True, sparing=True) == SWEEP
    assert read_every(hour, pushed=False, sparing=False) == hour / 10
    assert read_every(10 * hour, pushed=False, sparing=False) == IDLE
    assert read_every(timedelta(0), pushed=False, sparing=True) > timedelta(minutes=1)
