"""Equality, SOQL, formulas and webhook signatures."""

from __future__ import annotations

import hashlib
import hmac
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from crm_assets.connectors import signed_form
from crm_assets.connectors.salesforce import soql
from crm_assets.connectors.salesforce.equality import same
from crm_assets.connectors.salesforce.formulas import parents
from crm_assets.core.model import Field, FieldType, Object, Window

_AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("kind", "ours", "theirs", "equal"),
    [
        (FieldType.TEXT, " a ", "a", True),
        (FieldType.TEXT, "", None, True),
        (FieldType.TEXT, "a", "A", False),
        (FieldType.BOOLEAN, None, False, True),
        (FieldType.BOOLEAN, True, False, False),
        (FieldType.NUMBER, Decimal("1.005"), Decimal("1.01"), True),
        (FieldType.NUMBER, Decimal("1.0"), Decimal(1), True),
        (FieldType.NUMBER, Decimal("1.02"), Decimal("1.01"), False),
        (FieldType.TIMESTAMP, _AT.replace(microsecond=999), _AT, True),
        (FieldType.TIMESTAMP, _AT, _AT.replace(second=6), False),
        (FieldType.REFERENCE, "003000000000001AAA", "003000000000001", True),
        (FieldType.REFERENCE, None, "003000000000001", False),
    ],
)
def test_equality_is_the_vendors(kind: FieldType, ours: Any, theirs: Any, equal: bool) -> None:
    fld = Field("F", "f", kind, "x", scale=2 if kind is FieldType.NUMBER else None)
    assert same(fld, ours, theirs) is equal


def test_a_window_takes_whole_seconds_and_never_less_than_asked() -> None:
    obj = Object("Contact", "contact", ())
    window = Window(_AT.replace(microsecond=900_000), _AT.replace(second=10, microsecond=1))
    assert soql.within(obj, window) == [
        "SystemModstamp >= 2026-01-02T03:04:05Z",
        "SystemModstamp < 2026-01-02T03:04:11Z",
    ]


def test_text_in_a_query_cannot_end_its_quotes() -> None:
    assert soql.text("O'Neil \\ x") == "'O\\'Neil \\\\ x'"


def test_a_users_restriction_stands_in_parentheses() -> None:
    obj = Object("Contact", "contact", (), where="A = 1 OR B = 2")
    assert soql.where(obj, ["C = 3"]) == " WHERE (A = 1 OR B = 2) AND C = 3"


_EVENT = {"id": "e1", "object": "Contact", "record_id": "003", "change": "update", "at": "2026-01-02T03:04:05.123Z"}


def _delivery(body: bytes, secret: str = "s", at: int = 1_000_000) -> dict[str, str]:
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return {"X-Crm-Timestamp": str(at), "X-Crm-Signature": f"sha256={digest}"}


def test_a_signed_delivery_is_read() -> None:
    body = json.dumps({"connection": "salesforce", "events": [_EVENT]}).encode()
    (change,) = signed_form.parse("s", _delivery(body), body, now=1_000_000)
    assert (change.event_id, change.object, change.record_id, change.change) == ("e1", "Contact", "003", "update")


@pytest.mark.parametrize(("secret", "late"), [("other", 0), ("s", 301), ("s", -301)])
def test_forged_old_and_future_deliveries_are_refused(secret: str, late: int) -> None:
    body = json.dumps({"events": [_EVENT]}).encode()
    with pytest.raises(PermissionError):
        signed_form.parse("s", _delivery(body, secret), body, now=1_000_000 + late)


def test_a_changed_body_and_a_missing_signature_are_refused() -> None:
    body = json.dumps({"events": [_EVENT]}).encode()
    with pytest.raises(PermissionError):
        signed_form.parse("s", _delivery(body), body + b" ", now=1_000_000)
    with pytest.raises(PermissionError):
        signed_form.parse("s", {}, body, now=1_000_000)


@pytest.mark.parametrize(
    "body", [b"{", b"[]", b'{"events": [{}]}', b'{"events": [{"id": 1}]}', b'{"events": 3}', b"\xff"]
)
def test_signed_nonsense_is_malformed(body: bytes) -> None:
    with pytest.raises(ValueError):
        signed_form.parse("s", _delivery(body), body, now=1_000_000)


@pytest.mark.parametrize(
    ("formula", "found"),
    [
        ("Account.Rating", [("AccountId", "Rating")]),
        ('IF(ISBLANK(account.Rating), "Account.Name", Parent__r.Tier__c & Account.Rating)',
         [("AccountId", "Rating"), ("Parent__c", "Tier__c")]),
        ("Account.Owner.Name & Account.Parent__r.Name", [("AccountId", "OwnerId"), ("AccountId", "Parent__c")]),
        ("Owner:User.Alias /* Account.Name */", [("OwnerId", "Alias")]),
        ("$User.Id & Amount * 1.5 & Nobody.Name", []),
    ],
)  # fmt: skip
def test_a_formula_tells_what_it_shows_of_parents(formula: str, found: list[tuple[str, str]]) -> None:
    links = {"account": "AccountId", "owner": "OwnerId", "parent__r": "Parent__c"}
    assert sorted(parents(formula, links)) == sorted((own, field) for own, field in found)
