"""Windows: half open, with all the records that share one time."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from crm_assets.core.model import Window
from crm_assets_tests.contract.crms import SHARED_TIME, TIED, Crm

AT = datetime.fromisoformat(SHARED_TIME)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("low", "high", "inside"),
    [
        (AT, AT + SECOND, True),
        (AT - SECOND, AT, False),
        (AT - SECOND, AT + SECOND, True),
        (AT + SECOND, AT + 2 * SECOND, False),
    ],
    ids=["from it", "up to it", "around it", "after it"],
)
def test_records_of_one_time_are_in_a_window_or_not(crm: Crm, low: datetime, high: datetime, inside: bool) -> None:
    found = crm.read(Window(low, high))["id"].to_pylist()
    assert len(found) == len(set(found))
    assert len(found) >= TIED - 20 if inside else not found


def test_a_window_goes_on_behind_a_page(crm: Crm) -> None:
    window = Window(AT, AT + SECOND)
    pages = list(crm.connector.read(crm.obj, window))
    whole = {record_id for page in pages for record_id in page.table["id"].to_pylist()}
    for page in pages[:-1]:
        if page.next is not None:
            before = {i for p in pages[: pages.index(page) + 1] for i in p.table["id"].to_pylist()}
            assert before | set(crm.read(window, page.next)["id"].to_pylist()) == whole
            return


def test_the_bound_is_not_ahead_of_the_server(crm: Crm) -> None:
    bound = crm.connector.bound(crm.obj, None)
    assert bound.high.tzinfo is not None
    assert bound.high <= datetime.now(bound.high.tzinfo) + SECOND
