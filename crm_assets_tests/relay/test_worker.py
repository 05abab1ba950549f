"""The relay's loops: woken, polling, and surviving their turns."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from crm_assets.relay.worker import Worker
from crm_assets_tests.plugins.sandbox import wait_until


@pytest.fixture
def stop() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def worker(turn: Callable[[], bool], stop: threading.Event, poll: float = 60.0) -> Worker:
    made = Worker("test", turn, lambda: 0.0, stop, poll)
    made.start()
    return made


def test_it_goes_on_while_there_is_more_and_then_waits_for_a_wake_up(stop: threading.Event) -> None:
    turns: list[float] = []

    def turn() -> bool:
        turns.append(time.monotonic())
        return len(turns) < 5

    one = worker(turn, stop)
    wait_until(lambda: len(turns) == 5)
    one.join(0.1)
    assert len(turns) == 5
    one.wake()
    wait_until(lambda: len(turns) == 6)


def test_it_polls_without_a_wake_up(stop: threading.Event) -> None:
    turns: list[int] = []
    worker(lambda: bool(turns.append(1)), stop, poll=0.01)
    wait_until(lambda: len(turns) > 5)


def test_a_wake_up_during_a_turn_is_not_lost(stop: threading.Event) -> None:
    began, finish, turns = threading.Event(), threading.Event(), []

    def turn() -> bool:
        turns.append(1)
        began.set()
        assert finish.wait(10)
        return False

    one = worker(turn, stop)
    assert began.wait(5)
    one.wake()
    finish.set()
    wait_until(lambda: len(turns) == 2)


def test_failures_are_backed_off_logged_and_survived(stop: threading.Event, caplog: pytest.LogCaptureFixture) -> None:
    """Turns 1 to 3 fail, then 5: the pauses grow, and after a good turn they begin small again."""
    times: list[float] = []

    def turn() -> bool:
        times.append(time.monotonic())
        if len(times) in (1, 2, 3, 5):
            raise ValueError("broken")
        return False

    with caplog.at_level(logging.INFO):
        one = worker(turn, stop)
        wait_until(lambda: caplog.text.count("works again") == 1)
        one.wake()
        wait_until(lambda: caplog.text.count("works again") == 2)
    assert one.is_alive() and len(times) == 6
    gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
    assert gaps[0] >= 0.25 and gaps[2] >= 1.0
    assert gaps[4] < gaps[2], "the first pause of a new series is between 0.25 and 0.5 s"
    assert caplog.text.count("ValueError: broken") == 4


def test_a_stop_ends_it_at_once_even_in_a_pause(stop: threading.Event) -> None:
    def turn() -> bool:
        raise ValueError

    one = worker(turn, stop)
    two = worker(lambda: False, stop)
    time.sleep(0.05)
    stop.set()
    two.wake()
    one.join(2)
    two.join(2)
    assert not one.is_alive() and not two.is_alive()
