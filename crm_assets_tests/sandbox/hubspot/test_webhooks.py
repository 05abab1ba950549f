"""Webhooks: which events there are, how they are delivered, signed and repeated."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until
from crm_assets_tests.sandbox.receiver import Receiver, receiving

from .conftest import mail, make_primary


@pytest.fixture
def receiver(account: Sandbox) -> Iterator[Receiver]:
    with receiving("/webhooks/hubspot") as receiver:
        account.subscribe(receiver.url)
        yield receiver
        account.unsubscribe(receiver.url)


def events(receiver: Receiver) -> list[dict[str, Any]]:
    return [event for _, body in list(receiver.deliveries) for event in json.loads(body)]


def told(receiver: Receiver, count: int) -> list[dict[str, Any]]:
    """The events of first attempts: a slow machine may make a receiver too late, and an event come again."""

    def first() -> list[dict[str, Any]]:
        return [one for one in events(receiver) if one["attemptNumber"] == 0]

    return list(wait_until(lambda: len(found := first()) >= count and found))


def test_the_life_of_a_contact(account: Sandbox, api: httpx.Client, receiver: Receiver) -> None:
    made = int(account.create("contacts", email=mail()))
    account.update("contacts", str(made), city="Graz")
    api.patch(f"/crm/v3/objects/contacts/{made}", json={"properties": {"city": ""}})
    account.delete("contacts", str(made))
    account.undelete("contacts", str(made))
    found = told(receiver, 5)
    assert [one["subscriptionType"] for one in found] == [
        "contact.creation", "contact.propertyChange", "contact.propertyChange", "contact.deletion", "contact.restore"
    ]  # fmt: skip
    assert {one["objectId"] for one in found} == {made}
    assert found[0].items() >= {"portalId": 48210, "attemptNumber": 0, "changeFlag": "NEW"}.items()
    assert [(one["propertyName"], one["propertyValue"]) for one in found[1:3]] == [("city", "Graz"), ("city", "")]
    assert [one["changeSource"] for one in found[1:3]] == ["CRM_UI", "INTEGRATION"]
    assert abs(found[0]["occurredAt"] - time.time() * 1000) < 60_000
    assert len({one["eventId"] for one in found}) == 5


def test_merges_and_privacy(account: Sandbox, api: httpx.Client, receiver: Receiver) -> None:
    first, second = (int(account.create("contacts", email=mail())) for _ in range(2))
    body = {"primaryObjectId": str(first), "objectIdToMerge": str(second)}
    merged = int(api.post("/crm/v3/objects/contacts/merge", json=body).json()["id"])
    api.post("/crm/v3/objects/contacts/gdpr-delete", json={"objectId": str(merged)})
    found = told(receiver, 5)[2:]
    assert [one["subscriptionType"] for one in found] == [
        "contact.merge",
        "contact.deletion",
        "contact.privacyDeletion",
    ]
    assert found[0].items() >= {"primaryObjectId": first, "mergedObjectIds": [second], "newObjectId": merged}.items()


def test_associations(account: Sandbox, api: httpx.Client, receiver: Receiver) -> None:
    contact = account.create("contacts", lastname="A")
    company = account.create("companies", name="A")
    make_primary(api, contact, company)

    def changes() -> set[tuple[str, str, int, bool]]:
        """Of these two: what an earlier test did last may be told to this one's receiver as well, and twice."""
        told = [one for one in events(receiver) if one["subscriptionType"].endswith("associationChange")]
        return {
            (one["subscriptionType"], one["associationType"], one["fromObjectId"], one["isPrimaryAssociation"])
            for one in told
            if {one["fromObjectId"], one["toObjectId"]} == {int(contact), int(company)}
            and not one["associationRemoved"]
        }

    expected = {
        (f"{noun}.associationChange", sense, int(key), primary)
        for noun, sense, key in (
            ("contact", "CONTACT_TO_COMPANY", contact),
            ("company", "COMPANY_TO_CONTACT", company),
        )
        for primary in (True, False)
    }
    wait_until(lambda: len(changes()) >= 4)
    assert changes() == expected


def test_other_objects_are_told_by_type(account: Sandbox, receiver: Receiver) -> None:
    account.create("notes", hs_timestamp="2026-01-01T00:00:00Z")
    [one] = told(receiver, 1)
    assert (one["subscriptionType"], one["objectTypeId"]) == ("object.creation", "0-46")


def test_arrays_of_a_hundred_signed(api: httpx.Client, receiver: Receiver) -> None:
    for _ in range(2):
        inputs = [{"properties": {"lastname": "Batch"}} for _ in range(75)]
        api.post("/crm/v3/objects/contacts/batch/create", json={"inputs": inputs}).raise_for_status()
    told(receiver, 150)
    for headers, body in receiver.deliveries:
        assert len(json.loads(body)) <= 100
        stamp = headers["X-HubSpot-Request-Timestamp"]
        text = f"POST{receiver.url}".encode() + body + stamp.encode()
        expected = base64.b64encode(hmac.new(b"sandbox", text, hashlib.sha256).digest()).decode()
        assert headers["X-HubSpot-Signature-v3"] == expected
        assert headers["X-HubSpot-Signature"] == hashlib.sha256(b"sandbox" + body).hexdigest()
        assert headers["X-HubSpot-Signature-Version"] == "v1"


def test_what_is_refused_comes_again(account: Sandbox, receiver: Receiver) -> None:
    receiver.statuses = [401, 500]
    account.create("companies", name="Again")
    assert wait_until(lambda: events(receiver))[0]["attemptNumber"] == 2


def test_a_failure_holds_nothing_back(account: Sandbox, receiver: Receiver) -> None:
    receiver.statuses = [500] * 3
    late = int(account.create("companies", name="Late"))
    wait_until(lambda: len(receiver.statuses) < 3)
    receiver.statuses = [500]
    later = int(account.create("companies", name="Later"))
    wait_until(lambda: {one["objectId"] for one in events(receiver)} == {late, later})


def test_faulty_events(account: Sandbox, receiver: Receiver) -> None:
    account.faults(
        {"kind": "lose_event", "path": "company.creation"},
        {"kind": "duplicate_event", "path": "^deals/"},
        {"kind": "reorder_events", "path": "ticket"},
    )
    account.create("companies", name="Lost")
    deal = int(account.create("deals", dealname="Twice"))
    ticket = int(account.create("tickets", subject="Overtaken"))
    company = int(account.create("companies", name="Told"))
    assert [one["objectId"] for one in told(receiver, 4)] == [deal, deal, company, ticket]


def test_push_option(make_sandbox: MakeSandbox) -> None:
    with receiving("/webhooks/crm") as receiver:
        account = make_sandbox(connection="hubspot", rows=5, push=(f"hubspot={receiver.url}",))
        account.create("contacts", lastname="Pushed")
        assert told(receiver, 1)[0]["subscriptionType"] == "contact.creation"
        account.kill()
