"""Observations in any order, any number of times: the newest one counts."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from crm_assets.core.model import Source
from crm_assets_tests.store.kit import Mirror, at

_numbers = itertools.count()
_ADA = {"id": "003a", "v": 1, "last_name": "Ada", "email": "a", "amount": 1, "score": 1}


@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    order=st.permutations(range(4)),
    repeated=st.lists(st.integers(0, 3), max_size=3),
    together=st.lists(st.booleans(), min_size=7, max_size=7),
)
def test_order_repetition_and_overlap_are_harmless(
    mirror: Mirror, order: list[int], repeated: list[int], together: list[bool]
) -> None:
    record_id = f"003{next(_numbers)}"
    moments = [mirror.db.now() for _ in range(4)]
    for n, with_next in zip([*order, *repeated], together, strict=False):
        mirror.observe({"id": record_id, "v": n, "last_name": f"N{n}", "score": n}, observed_at=moments[n])
        if not with_next:
            mirror.apply()
    mirror.apply()
    row = mirror.row(record_id)
    assert (row["last_name"], row["score"], row["_version"], row["_observed_at"]) == ("N3", 3, at(3), moments[3])
    assert mirror.staged() == 0


def test_rows_that_say_nothing_new_are_not_written(mirror: Mirror) -> None:
    mirror.seen(_ADA)
    before = mirror.one("SELECT xmin::text, ctid::text FROM salesforce.contact")
    for source in (Source.LIST, Source.ID, Source.LAGGING):
        assert mirror.seen(_ADA, source=source).changed == 0
    assert mirror.one("SELECT xmin::text, ctid::text FROM salesforce.contact") == before
    assert mirror.outbox() == []


@pytest.mark.parametrize(
    ("source", "change", "newer", "then", "asked"),
    [
        (Source.LIST, {"email": "b"}, True, "a", ["003a"]),
        (Source.ID, {"email": "b"}, True, "b", []),
        (Source.ID, {"email": "b"}, False, "a", []),
        (Source.LIST, {"email": "b"}, False, "a", []),
        (Source.LAGGING, {"email": "b"}, True, "a", []),
    ],
)
def test_a_tie_of_versions_on_a_writable_field(
    mirror: Mirror, source: Source, change: dict[str, Any], newer: bool, then: str, asked: list[str]
) -> None:
    """Only a primary read settles it; a list page asks for one."""
    first = mirror.observe(_ADA)
    mirror.apply()
    when = first + timedelta(microseconds=1 if newer else -1)
    mirror.observe({**_ADA, **change}, source=source, observed_at=when)
    mirror.apply()
    assert mirror.row("003a")["email"] == then
    assert mirror.rereads() == asked
    assert mirror.staged() == 0


@pytest.mark.parametrize(
    ("source", "newer", "score"),
    [(Source.LIST, True, 2), (Source.LIST, False, 1), (Source.LAGGING, True, 1)],
)
def test_a_tie_of_versions_on_a_field_of_the_crms_own(mirror: Mirror, source: Source, newer: bool, score: int) -> None:
    first = mirror.observe(_ADA)
    mirror.apply()
    when = first + timedelta(microseconds=1 if newer else -1)
    mirror.observe({**_ADA, "score": 2}, source=source, observed_at=when)
    mirror.apply()
    assert mirror.row("003a")["score"] == score
    assert mirror.rereads() == []


def test_a_tie_inside_one_batch_asks_for_a_read_as_well(mirror: Mirror) -> None:
    mirror.observe(_ADA)
    mirror.observe({**_ADA, "email": "b"})
    mirror.apply()
    assert mirror.rereads() == ["003a"]
    mirror.observe({**_ADA, "id": "003b"})
    mirror.observe({**_ADA, "id": "003b", "score": 2})
    mirror.observe({**_ADA, "id": "003b", "email": "lagging"}, source=Source.LAGGING)
    mirror.apply()
    assert mirror.rereads() == ["003a"] and mirror.row("003b")["score"] == 2


def test_a_primary_read_settles_a_tie_inside_one_batch(mirror: Mirror) -> None:
    mirror.observe(_ADA)
    mirror.observe({**_ADA, "email": "b"}, source=Source.ID)
    mirror.apply()
    assert mirror.row("003a")["email"] == "b" and mirror.rereads() == []


def test_a_lagging_index_counts_by_version(mirror: Mirror) -> None:
    mirror.seen(_ADA)
    mirror.seen({**_ADA, "v": 2, "email": "newer"}, source=Source.LAGGING)
    mirror.seen({**_ADA, "v": 1, "email": "older"}, source=Source.LAGGING)
    assert mirror.row("003a")["email"] == "newer"


def test_small_batches_come_to_the_same_end(mirror: Mirror) -> None:
    for version in (1, 2):
        mirror.observe(*({"id": f"003{n}", "v": version, "score": n * version} for n in range(7)))
    assert mirror.apply(batch=3).inserted == 7
    assert {row["score"] for row in mirror.rows().values()} == {n * 2 for n in range(7)}
    assert mirror.staged() == 0


def test_a_record_found_alive_after_it_was_not_found_is_alive(mirror: Mirror) -> None:
    """Both reads wait in the stage together: the first one must not take the second along."""
    mirror.seen(_ADA)
    row_id = mirror.row("003a")["row_id"]
    mirror.gone("003a")
    mirror.observe({**_ADA, "v": 2, "email": "back"}, source=Source.ID)
    mirror.apply()
    mirror.apply()
    assert (mirror.row("003a")["row_id"], mirror.row("003a")["email"]) == (row_id, "back")
    assert mirror.staged() == 0


def test_numbers_keep_their_digits_and_lose_arrows_zeros(mirror: Mirror) -> None:
    mirror.seen({**_ADA, "amount": 12})
    assert mirror.value("SELECT amount::text FROM salesforce.contact") == "12"


def test_a_stage_that_was_counted_empty_is_counted_again_before_a_large_batch(mirror: Mirror) -> None:
    """Autovacuum comes by when nothing waits. Planned for no rows, a batch takes quadratic time."""
    stage = """INSERT INTO salesforce_stage.contact (_source, _observed_at, id, _version, _deleted, last_name)
               SELECT 'list', clock_timestamp(), 'x' || n, %s, false, %s FROM generate_series(1, 3000) n"""
    mirror.all(stage, at(1), "old")
    assert mirror.apply().inserted == 3000
    mirror.all("ANALYZE salesforce_stage.contact, salesforce.contact")
    counted = "SELECT reltuples FROM pg_class WHERE oid = 'salesforce_stage.contact'::regclass"
    assert mirror.value(counted) == 0
    mirror.all(stage, at(2), "new")
    # Within the statement timeout of 20 s, which it passes by far otherwise.
    assert mirror.apply().updated == 3000
    assert mirror.value(counted) == 3000
