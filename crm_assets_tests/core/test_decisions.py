"""Windows, conflicts, comparison and values: functions from values to values."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_assets.core.compare import Finding, Kind, by_fields, by_ids
from crm_assets.core.conflict import Unknown, changed_since, judge, judge_unknown
from crm_assets.core.model import Field, FieldType, Object, Value
from crm_assets.core.values import from_json, record_to_json
from crm_assets.core.windows import next_window, slices

_T = datetime(2026, 1, 1, tzinfo=UTC)
_PHONE = Field("Phone", "phone", FieldType.TEXT, "phone", updateable=True)
_EMAIL = Field("Email", "email", FieldType.TEXT, "email", updateable=True)
_STAMP = Field("Stamp", "stamp", FieldType.TIMESTAMP, "datetime")
_OBJ = Object("Contact", "contact", (_PHONE, _EMAIL, _STAMP))


def _same(_: Field, ours: Value, theirs: Value) -> bool:
    return ours == theirs


def test_the_next_window_reaches_back_by_the_overlap() -> None:
    window = next_window(_T.isoformat(), _T + timedelta(minutes=5), timedelta(minutes=1))
    assert (window.low, window.high) == (_T - timedelta(minutes=1), _T + timedelta(minutes=5))


def test_a_window_never_ends_before_it_begins() -> None:
    window = next_window(_T.isoformat(), _T - timedelta(hours=1), timedelta(minutes=1))
    assert window.low is not None and window.low <= window.high


@given(st.integers(1, 10_000), st.integers(1, 500))
def test_slices_cover_the_range_without_gap_or_overlap(minutes: int, width: int) -> None:
    parts = slices(_T, _T + timedelta(minutes=minutes), timedelta(minutes=width))
    assert parts[0].low == _T and parts[-1].high == _T + timedelta(minutes=minutes)
    assert all(a.high == b.low for a, b in pairwise(parts))


def test_slices_of_an_empty_range_are_refused() -> None:
    with pytest.raises(ValueError, match="not after its start"):
        slices(_T, _T, timedelta(days=1))


@pytest.mark.parametrize(
    ("base", "ours", "theirs", "expected"),
    [
        ("a", "b", "a", "send"),
        ("a", "b", "b", "done"),
        ("a", "b", "c", "conflict"),
        ("a", "a", "c", "conflict"),
    ],
)
def test_a_conflict_is_a_change_on_both_sides_to_different_values(
    base: str, ours: str, theirs: str, expected: str
) -> None:
    verdict = judge(_OBJ, {"phone": base}, {"phone": ours}, {"phone": theirs}, _same)
    assert getattr(verdict, expected) == {"phone"}


def test_each_field_of_a_write_is_judged_for_itself() -> None:
    verdict = judge(
        _OBJ, {"phone": "1", "email": "x"}, {"phone": "2", "email": "y"}, {"phone": "3", "email": "x"}, _same
    )
    assert (verdict.conflict, verdict.send) == ({"phone"}, {"email"})
    assert judge_unknown(verdict) is Unknown.CONFLICT


def test_an_unknown_write_is_done_only_when_every_field_is() -> None:
    half = judge(_OBJ, {"phone": "1", "email": "x"}, {"phone": "2", "email": "y"}, {"phone": "2", "email": "x"}, _same)
    assert judge_unknown(half) is Unknown.NOT_DONE


def test_a_delete_looks_only_at_fields_that_people_can_change() -> None:
    base: dict[str, Value] = {"phone": "1", "stamp": _T}
    assert changed_since(_OBJ, base, {"phone": "1", "stamp": _T + timedelta(1)}, _same) == frozenset()
    assert changed_since(_OBJ, base, {"phone": "2", "stamp": _T}, _same) == {"phone"}


def test_findings_leave_out_what_is_under_way() -> None:
    assert by_ids({"a", "b"}, {"b", "c", "d"}, {"d"}) == [Finding("a", Kind.MISSING), Finding("c", Kind.EXTRA)]
    assert by_fields({"a": ["x", "y"], "b": ["x"]}, {"b"}) == [
        Finding("a", Kind.DIFFERS, "x"),
        Finding("a", Kind.DIFFERS, "y"),
    ]


@given(st.decimals(allow_nan=False, allow_infinity=False, places=4), st.datetimes(timezones=st.just(UTC)))
def test_values_survive_the_json_of_the_outbox(number: Decimal, at: datetime) -> None:
    json = record_to_json({"n": number, "t": at})
    assert from_json(Field("N", "n", FieldType.NUMBER, "double"), json["n"]) == number
    assert from_json(Field("T", "t", FieldType.TIMESTAMP, "datetime"), json["t"]) == at


def test_a_number_that_is_none_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="amount is NaN"):
        from_json(Field("Amount", "amount", FieldType.NUMBER, "currency"), "NaN")
