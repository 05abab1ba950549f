"""From counts, ids and fields to findings: no I/O."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from crm_assets.core.compare import Cause, Counted, Evidence, Finding, Kind, by_ids, explain, next_step
from crm_assets.core.model import Field, FieldType, Window

WINDOW = Window(None, datetime(2026, 1, 1, tzinfo=UTC))
FIELDS = {
    "name": Field("Name", "name", FieldType.TEXT, "string"),
    "account_id": Field("AccountId", "account_id", FieldType.REFERENCE, "reference", reference_to=("Account",)),
    "total": Field("Total", "total", FieldType.NUMBER, "double", calculated=True),
}


@pytest.mark.parametrize(
    ("remote", "local", "then"),
    [
        (1000, 1000, ""),
        (1_000_000, 999_999, "split"),
        (2000, 1999, "compare"),
        (5000, 0, "compare"),
        (400_000, 10, "compare"),
        (0, 3, "compare"),
    ],
    ids=["equal", "one in a million", "small", "all lost", "nearly all lost", "all gone"],
)
def test_what_a_difference_of_counts_leads_to(remote: int, local: int, then: str) -> None:
    step = next_step([Counted(WINDOW, remote, local)], leaf=2000)
    assert (bool(step.split), bool(step.compare)) == (then == "split", then == "compare")


def test_records_under_way_say_nothing() -> None:
    assert by_ids({"a", "b"}, {"b", "c", "d"}, {"d"}) == [Finding("a", Kind.MISSING), Finding("c", Kind.EXTRA)]


@pytest.mark.parametrize(
    ("known", "columns", "findings"),
    [
        (Evidence("2", None, cursor="3"), [], [("missing", "", "late commit")]),
        (Evidence("4", None, cursor="3", pushed=True), [], [("missing", "", "lost event")]),
        (Evidence("4", "1", cursor="3"), ["name"], [("stale", "", "unexplained")]),
        (Evidence(None, "1"), [], [("extra", "", "lost event")]),
        (Evidence("1", "1"), ["name"], [("differs", "name", "changed without its version")]),
        (Evidence("1", "1"), ["total"], [("differs", "total", "calculated field")]),
        (Evidence("1", "1"), ["account_id"], [("wrong_reference", "account_id", "changed without its version")]),
        (Evidence("1", "1", unsent=frozenset({"name"})), ["name"], [("differs", "name", "unsent write")]),
        (Evidence("1", "1", rejected=frozenset({"name"})), ["name"], [("differs", "name", "rejected write")]),
        (Evidence("1", "1", filled_later=frozenset({"name"})), ["name"], [("differs", "name", "schema drift")]),
    ],
)
def test_each_finding_has_its_likely_cause(
    known: Evidence, columns: list[str], findings: list[tuple[str, str, str]]
) -> None:
    found = explain("003a", columns, FIELDS, known)
    assert [(one.kind, one.field, one.cause) for one in found] == findings
    assert all(isinstance(one.cause, Cause) for one in found)
