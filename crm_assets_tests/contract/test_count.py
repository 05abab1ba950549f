"""Counts: of all records and of a window, they are those of a read, and cost next to nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from crm_assets.core.model import Window
from crm_assets_tests.contract.crms import SHARED_TIME, TIED, Crm

AT = datetime.fromisoformat(SHARED_TIME)
SECOND = timedelta(seconds=1)
TIED_ONES = Window(AT, AT + SECOND)


def _ids(crm: Crm, window: Window | None) -> list[str]:
    return sorted(record_id for page in crm.connector.ids(crm.obj, window) for record_id in page)


def test_all_records(crm: Crm) -> None:
    assert _ids(crm, None) == crm.ids and crm.connector.count(crm.obj) == len(crm.ids)


@pytest.mark.parametrize("window", [TIED_ONES, Window(AT - SECOND, AT), Window(None, AT + SECOND)])
def test_a_window(crm: Crm, window: Window) -> None:
    found = sorted(crm.read(window)["id"].to_pylist())
    assert _ids(crm, window) == found and crm.connector.count(crm.obj, window) == len(found)
    assert (len(found) >= TIED - 20) is (window.high > AT)


def test_a_count_is_one_call(crm: Crm) -> None:
    """However many records there are: reconciliation lives on it."""
    crm.sandbox.reset_calls()
    crm.connector.count(crm.obj, TIED_ONES)
    assert crm.sandbox.calls()["total"] == 1
