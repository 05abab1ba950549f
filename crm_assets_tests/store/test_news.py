"""What a page tells that the mirror does not show: everything else must not reach the stage, and nothing more."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from crm_assets.core.model import Source
from crm_assets.store.news import news
from crm_assets_tests.store.kit import CONNECTION, Mirror, at

_RECORD: dict[str, Any] = {
    "id": "1",
    "v": 1,
    "last_name": 'a "quoted", line\nand another',
    "email": "",
    "amount": Decimal("2.5"),
    "met_at": datetime(2026, 2, 3, 4, 5, 6, 789, tzinfo=UTC),
    "score": -(2**63),
}


def _told(mirror: Mirror, *records: dict[str, Any]) -> list[str]:
    """Ids of the records of such a page that tell something."""
    schema = mirror.obj.page_schema()
    rows = [{"_deleted": False, **record, "_version": at(record["v"])} for record in records]
    page = pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)
    return list(news(mirror.db, CONNECTION, mirror.obj, page)["id"].to_pylist())


@pytest.fixture
def known(mirror: Mirror) -> Mirror:
    mirror.seen(_RECORD, {"id": "2", "v": 1, "last_name": "other"})
    return mirror


def test_what_the_mirror_shows_is_no_news_whatever_the_values(known: Mirror) -> None:
    assert _told(known, _RECORD, {"id": "2", "v": 1, "last_name": "other"}) == []
    assert _told(known, {**_RECORD, "amount": Decimal("2.500")}) == []


@pytest.mark.parametrize(
    "change",
    [
        {"v": 2},
        {"v": 0},
        {"email": None},
        {"last_name": None},
        {"amount": Decimal("2.500000000000000001")},
        {"met_at": datetime(2026, 2, 3, 4, 5, 6, 790, tzinfo=UTC)},
        {"score": None},
        {"_deleted": True},
        {"id": "3"},
    ],
    ids=str,
)
def test_any_difference_is_news(known: Mirror, change: dict[str, Any]) -> None:
    assert _told(known, {**_RECORD, **change}) == [change.get("id", "1")]


def test_a_record_that_is_in_a_page_twice_is_told_as_it_is_now(known: Mirror) -> None:
    """It changed while the pages were read: one of them shows it as the mirror does, the other one anew."""
    assert _told(known, _RECORD, {**_RECORD, "v": 2}, _RECORD) == ["1"]


def _floor(mirror: Mirror) -> None:
    with mirror.db.transaction() as conn:
        conn.execute("SELECT crm_assets.raise_floor(%s, 'contact', '1', '{}')", (CONNECTION,))


@pytest.mark.parametrize(
    "waits",
    [
        _floor,
        lambda mirror: mirror.observe({**_RECORD, "email": "x"}, source=Source.ID),
        lambda mirror: mirror.write("DELETE FROM salesforce.contact WHERE id = '1'"),
        lambda mirror: mirror.write("UPDATE salesforce.contact SET email = 'ours' WHERE id = '1'"),
    ],
    ids=["a write of ours waits to be read back", "an observation in the stage", "deleted here", "changed here"],
)
def test_a_record_with_something_under_way_is_left_to_apply(known: Mirror, waits: Callable[[Mirror], object]) -> None:
    waits(known)
    assert _told(known, _RECORD, {"id": "2", "v": 1, "last_name": "other"}) == ["1"]


def test_a_value_that_cannot_be_compared_is_news(known: Mirror) -> None:
    assert _told(known, {**_RECORD, "last_name": "a\0b"}) == ["1"]


def test_records_that_were_never_seen_are_all_news(mirror: Mirror) -> None:
    assert _told(mirror, _RECORD, {"id": "2", "v": 1}) == ["1", "2"]
