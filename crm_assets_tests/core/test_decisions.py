"""Windows, conflicts, comparison and values: functions from values to values."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from crm_assets.core.compare import Finding, Kind, by_fields, by_ids
from crm_assets.core.conflict import Ruling, Unknown, changed_since, judge, judge_unknown, rule, rule_delete
from crm_assets.core.model import Field, FieldType, Object, Op, Policy, Rules, Value
from crm_assets.core.preflight import problems
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


_WRITTEN = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("policy", "since", "winner"),
    [
        (Policy.HOLD, "2026-03-01 11:00:00+00", "hold"),
        (Policy.CRM_WINS, None, "crm"),
        (Policy.PRODUCT_WINS, None, "product"),
        (Policy.NEWEST_WINS, "2026-03-01 11:59:59+00", "product"),
        (Policy.NEWEST_WINS, "2026-03-01 12:00:00+00", "crm"),
        (Policy.NEWEST_WINS, "2026-03-01 13:30:00+02", "product"),
        (Policy.NEWEST_WINS, "17", "hold"),
        (Policy.NEWEST_WINS, None, "hold"),
    ],
)
def test_each_policy_has_its_winner(policy: Policy, since: str | None, winner: str) -> None:
    rules = Rules(fields=(("phone", policy),))
    assert rule(rules, ["phone"], _WRITTEN, {"phone": since}) == Ruling(**{winner: frozenset({"phone"})})
    assert rule_delete(Rules(policy), ["phone"], _WRITTEN, since) == Ruling(**{winner: frozenset({"phone"})})


def test_fields_are_ruled_one_by_one() -> None:
    rules = Rules(Policy.CRM_WINS, (("phone", Policy.PRODUCT_WINS), ("email", Policy.HOLD)))
    ruling = rule(rules, ["phone", "email", "name"], _WRITTEN, {})
    assert ruling == Ruling(frozenset({"email"}), frozenset({"name"}), frozenset({"phone"}))
    assert ruling.stopped == {"email", "name"}


_TEXT = Field(
    "LastName", "last_name", FieldType.TEXT, "string", nillable=False, createable=True, updateable=True, length=5
)


def _choice(column: str, vendor_type: str, *choices: str, restricted: bool = True) -> Field:
    return replace(
        _TEXT,
        name=column,
        column=column,
        vendor_type=vendor_type,
        nillable=True,
        length=None,
        picklist=choices,
        restricted=restricted,
    )


_SHAPE = Object(
    "Lead",
    "lead",
    (
        _TEXT,
        _choice("size", "picklist", "S", "M"),
        _choice("tags", "multipicklist", "a", "b"),
        _choice("free", "picklist", "x", restricted=False),
        Field("Once", "once", FieldType.TEXT, "string", createable=True),
        Field("Seen", "seen", FieldType.TEXT, "string"),
        Field("Flag", "flag", FieldType.BOOLEAN, "boolean", nillable=False, createable=True, updateable=True),
    ),
)


@pytest.mark.parametrize(
    ("op", "values", "said"),
    [
        (Op.CREATE, {}, ["last_name is required"]),
        (Op.CREATE, {"last_name": ""}, ["last_name is required"]),
        (Op.CREATE, {"last_name": "Ada"}, []),
        (Op.UPDATE, {"last_name": None}, ["last_name is required and cannot be emptied"]),
        (Op.UPDATE, {"flag": None}, []),
        (Op.UPDATE, {"last_name": "Ada    "}, []),
        (Op.UPDATE, {"last_name": "Augusta"}, ["last_name has 7 characters and may have 5"]),
        (Op.UPDATE, {"size": "m"}, []),
        (Op.UPDATE, {"size": "XL"}, ["size must be one of its picklist: S, M"]),
        (Op.UPDATE, {"tags": "a;B"}, []),
        (Op.UPDATE, {"tags": "a;c"}, ["tags must be one of its picklist: a, b"]),
        (Op.UPDATE, {"free": "anything"}, []),
        (Op.UPDATE, {"once": "x"}, ["once cannot be set by an update"]),
        (Op.CREATE, {"last_name": "Ada", "seen": "x"}, ["seen cannot be set by a create"]),
        (Op.UPDATE, {"gone": None}, ["gone is no field of Lead any more"]),
        (Op.DELETE, {}, []),
    ],
)
def test_what_the_crm_would_refuse_is_said_before_a_call_is_spent(
    op: Op, values: dict[str, Any], said: list[str]
) -> None:
    assert problems(_SHAPE, op, values) == said
