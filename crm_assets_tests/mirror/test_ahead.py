"""Reading ahead changes nothing but the time it takes."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pyarrow as pa
import pytest

from crm_assets.core.model import Page
from crm_assets.mirror.ahead import ahead


def _pages(count: int, closed: list[bool], error: Exception | None = None) -> Iterator[Page]:
    try:
        for number in range(count):
            yield Page(pa.table({"n": [number]}))
        if error is not None:
            raise error
    finally:
        closed.append(True)


def _threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "read-ahead"]


@pytest.mark.parametrize("count", [0, 1, 7])
def test_every_page_comes_in_its_order(count: int) -> None:
    closed: list[bool] = []
    with ahead(_pages(count, closed)) as pages:
        assert [page.table["n"][0].as_py() for page in pages] == list(range(count))
    assert closed == [True] and _threads() == []


def test_what_the_reader_raises_comes_behind_its_pages() -> None:
    seen = 0
    with pytest.raises(ConnectionError, match="lost"), ahead(_pages(3, [], ConnectionError("lost"))) as pages:
        for _ in pages:
            seen += 1
    assert seen == 3 and _threads() == []


def test_a_consumer_that_fails_closes_the_reader() -> None:
    closed: list[bool] = []
    with pytest.raises(ValueError, match="full"), ahead(_pages(100, closed)) as pages:
        next(pages)
        raise ValueError("full")
    assert closed == [True] and _threads() == []
