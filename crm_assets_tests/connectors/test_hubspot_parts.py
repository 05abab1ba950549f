"""The small parts of the HubSpot room: signatures, events, values, names."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from hubspot.utils.signature import Signature

from crm_assets.connectors.hubspot import failures, kinds, webhook, wire
from crm_assets.connectors.hubspot.edges import Edge, EdgeType
from crm_assets.connectors.hubspot.equality import same
from crm_assets.core.model import Field, FieldType, Value

SECRET = "yyyyyyyy-yyyy-yyyy-yyyy-yyyyyyyyyyyy"
URL = "https://www.example.com/webhook_uri"
NOW = 1_790_000_000_500


@pytest.mark.parametrize(
    ("stamp", "expected"),
    [
        ("1693657560000", "K36dawei4A+QBNolUOqo7s91KQDWQ5MXZ/QufNYuk/Y="),
        ("1700000300000", "RnbPH7+UMKVkbV32P8bz450N4M56aPmcru1+D3kSDtw="),
    ],
)
def test_the_signature_is_the_vendors(stamp: str, expected: str) -> None:
    assert webhook.sign(SECRET, URL, b"{'example_field':'example_value'}", stamp) == expected


def test_the_official_client_signs_the_same() -> None:
    body = '[{"a": "é"}]'
    theirs = Signature.get_signature(SECRET, body, "v3", http_uri=URL, http_method="POST", timestamp=str(NOW))
    assert webhook.sign(SECRET, URL, body.encode(), str(NOW)) == theirs


def test_some_characters_of_the_url_are_decoded_before_signing() -> None:
    plain = "https://x.example/webhooks/hubspot?next=/a:b@c&kept=%20"
    coded = "https://x.example/webhooks/hubspot?next=%2Fa%3Ab%40c&kept=%20"
    assert webhook.sign(SECRET, coded, b"[]", "1") == webhook.sign(SECRET, plain, b"[]", "1")


def _event(**changed: Any) -> dict[str, Any]:
    return {
        "eventId": 100,
        "subscriptionId": 25,
        "portalId": 48210,
        "appId": 1160452,
        "occurredAt": NOW - 1000,
        "subscriptionType": "contact.propertyChange",
        "attemptNumber": 0,
        "objectId": 551,
        **changed,
    }


def _parse(events: Any, *, url: str = URL, urls: tuple[str, ...] = (URL,), age: int = 0) -> list[Any]:
    body = json.dumps(events).encode()
    stamp = str(NOW - age)
    headers = {
        "X-HubSpot-Signature-v3": webhook.sign(SECRET, url, body, stamp),
        "X-HubSpot-Request-Timestamp": stamp,
    }
    return list(webhook.parse(SECRET, headers, body, urls, now_ms=NOW))


def test_an_event_names_its_record() -> None:
    (change,) = _parse([_event()])
    assert (change.object, change.record_id, change.change) == ("contacts", "551", "propertyChange")
    assert change.at == datetime.fromtimestamp((NOW - 1000) / 1000, UTC)


def test_a_repeated_event_has_the_same_id_and_another_one_has_not() -> None:
    first, again, other, elsewhere = _parse(
        [_event(), _event(attemptNumber=3), _event(occurredAt=NOW), _event(objectId=552)]
    )
    assert first.event_id == again.event_id
    assert len({first.event_id, other.event_id, elsewhere.event_id}) == 3


def test_a_merge_names_all_its_records() -> None:
    event = _event(
        subscriptionType="contact.merge", primaryObjectId=1, mergedObjectIds=[2, 3], newObjectId=9, objectId=9
    )
    assert sorted(change.record_id for change in _parse([event])) == ["1", "2", "3", "9"]


def test_an_association_names_both_tables_by_their_first_record() -> None:
    event = _event(
        subscriptionType="contact.associationChange",
        associationType="CONTACT_TO_COMPANY",
        fromObjectId=551,
        toObjectId=902,
        associationRemoved=True,
    )
    assert sorted((change.object, change.record_id) for change in _parse([event])) == [
        ("companies_to_contacts", "902"),
        ("contacts_to_companies", "551"),
    ]


def test_a_generic_event_names_its_kind_by_number() -> None:
    (change,) = _parse([_event(subscriptionType="object.deletion", objectTypeId="0-27")])
    assert (change.object, change.change) == ("tasks", "deletion")
    assert _parse([_event(subscriptionType="conversation.newMessage")]) == []


def test_only_the_url_that_was_called_fits() -> None:
    behind = ("http://10.0.0.1/webhooks/hubspot", URL)
    assert _parse([_event()], urls=behind)
    with pytest.raises(PermissionError):
        _parse([_event()], urls=behind[:1])


@pytest.mark.parametrize("age", [300_001, -300_001])
def test_a_signature_lives_five_minutes(age: int) -> None:
    assert _parse([_event()], age=299_000)
    with pytest.raises(PermissionError):
        _parse([_event()], age=age)


@pytest.mark.parametrize(
    "events", [{"not": "a list"}, [{"subscriptionType": "contact.creation"}], [1], [_event(objectId="1 OR 1")]]
)
def test_what_is_signed_but_malformed_is_a_value_error(events: Any) -> None:
    with pytest.raises(ValueError):
        _parse(events)


def test_what_a_proxy_says_was_called_is_tried_too() -> None:
    headers = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "crm.example.com"}
    arrived = "http://127.0.0.1:8701/webhooks/hubspot?a=1"
    assert webhook.called(arrived, headers, None) == [arrived, "https://crm.example.com/webhooks/hubspot?a=1"]
    assert webhook.called(arrived, headers, URL) == [URL]


def _field(kind: FieldType, vendor_type: str, name: str = "x") -> Field:
    return Field(name, name, kind, vendor_type)


@pytest.mark.parametrize(
    ("fld", "ours", "theirs", "equal"),
    [
        (_field(FieldType.TEXT, "string"), " a ", "a", True),
        (_field(FieldType.TEXT, "string"), "", None, True),
        (_field(FieldType.TEXT, "string"), "A", "a", False),
        (_field(FieldType.TEXT, "string", "email"), "Ana@Acme.test", "ana@acme.test", True),
        (_field(FieldType.TEXT, "checkbox"), "b;a", "a;b", True),
        (_field(FieldType.TEXT, "select"), "b;a", "a;b", False),
        (_field(FieldType.NUMBER, "number"), Decimal("10.50"), Decimal("10.5"), True),
        (_field(FieldType.BOOLEAN, "bool"), False, None, False),
        (
            _field(FieldType.TIMESTAMP, "datetime"),
            datetime(2026, 1, 1, 0, 0, 0, 123_456, UTC),
            datetime(2026, 1, 1, 0, 0, 0, 123_000, UTC),
            True,
        ),
    ],
)
def test_values_are_equal_as_hubspot_stores_them(fld: Field, ours: Value, theirs: Value, equal: bool) -> None:
    assert same(fld, ours, theirs) is equal


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, ""),
        (True, "true"),
        (Decimal("1E+3"), "1000"),
        (date(2026, 2, 3), "2026-02-03"),
        (datetime(2026, 2, 3, 4, 5, 6, 7_999, UTC), "2026-02-03T04:05:06.007Z"),
        (7, "7"),
        ("a;b", "a;b"),
    ],
)
def test_values_travel_as_text(value: Value, text: str) -> None:
    assert wire.text(value) == text


@pytest.mark.parametrize(
    "edge", [Edge("551", "902", EdgeType("HUBSPOT_DEFINED", 279)), Edge("1", "2", EdgeType("USER_DEFINED", 279))]
)
def test_the_id_of_an_association_says_what_it_is(edge: Edge) -> None:
    assert Edge.parse(edge.id) == edge and edge.id.startswith(f"{edge.start}:{edge.end}:")


def test_a_table_between_two_kinds_is_known_by_its_name() -> None:
    assert kinds.edge("line_items_to_deals") == ("line_items", "deals")
    assert kinds.edge("contacts") is None and kinds.edge("_to_contacts") is None


def test_a_refusal_shows_codes_and_names_but_no_values() -> None:
    error = {
        "category": "VALIDATION_ERROR",
        "message": 'Property values were not valid: [{"isValid":false,"propertyValue":"secret"}]',
        "errors": [
            {"message": "secret is no address", "code": "INVALID_EMAIL", "context": {"propertyName": ["email"]}}
        ],
    }
    assert failures.explain(error) == "VALIDATION_ERROR: INVALID_EMAIL (email)"
    assert failures.properties(error) == ("email",)
    assert "secret" not in failures.explain(error | {"errors": []})
