"""Push events: which, how signed, how often."""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Iterator

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until
from crm_assets_tests.sandbox.receiver import Receiver, receiving


@pytest.fixture
def receiver(sandbox: Sandbox) -> Iterator[Receiver]:
    with receiving() as receiver:
        sandbox.subscribe(receiver.url, "word")
        yield receiver
        sandbox.unsubscribe(receiver.url)


def changes(receiver: Receiver) -> list[tuple[str, str, str]]:
    return [(one["object"], one["record_id"], one["change"]) for one in receiver.events]


def test_every_change_is_told(sandbox: Sandbox, api: httpx.Client, receiver: Receiver) -> None:
    one = sandbox.create("Account", Name="One")
    two = api.post("/sobjects/Account", json={"Name": "Two"}).json()["id"]
    child = sandbox.create("Contact", LastName="C", AccountId=two)
    api.patch(f"/sobjects/Account/{one}", json={"Name": "Uno"})
    sandbox.delete("Account", one)
    sandbox.undelete("Account", one)
    sandbox.merge("Account", one, [two])
    assert api.post("/sobjects/Account", json={}).status_code == 400
    expected = [
        ("Account", one, "create"), ("Account", two, "create"), ("Contact", child, "create"),
        ("Account", one, "update"), ("Account", one, "delete"), ("Account", one, "undelete"),
        ("Account", two, "delete"), ("Account", one, "update"), ("Contact", child, "update"),
    ]  # fmt: skip
    wait_until(lambda: len(receiver.events) >= len(expected))
    assert changes(receiver) == expected
    assert len({event["id"] for event in receiver.events}) == len(expected)
    last = [event for event in receiver.events if event["record_id"] == one][-1]
    assert last["at"] == sandbox.records("Account")[one]["modified_at"]


def test_signature(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.create("Account", Name="One")
    wait_until(lambda: receiver.deliveries)
    headers, body = receiver.deliveries[0]
    stamp = headers["X-Crm-Timestamp"]
    digest = hmac.new(b"word", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Crm-Signature"] == f"sha256={digest}"
    assert abs(int(stamp) - time.time()) < 5
    assert b'"connection": "salesforce"' in body


def test_batches_of_a_hundred(sandbox: Sandbox, api: httpx.Client, receiver: Receiver) -> None:
    record = {"attributes": {"type": "Lead"}, "LastName": "L", "Company": "C"}
    assert api.post("/composite/sobjects", json={"records": [record] * 150}).status_code == 200
    wait_until(lambda: len(receiver.events) == 150)
    assert len(receiver.deliveries) == 2


def test_a_receiver_that_is_down_gets_it_later(sandbox: Sandbox, receiver: Receiver) -> None:
    receiver.statuses = [503, 500, 429]
    made = sandbox.create("Account", Name="One")
    assert receiver.statuses, "a writer does not wait for deliveries"
    wait_until(lambda: receiver.events)
    assert changes(receiver) == [("Account", made, "create")]


def test_a_refused_delivery_is_dropped(sandbox: Sandbox, receiver: Receiver) -> None:
    receiver.statuses = [401]
    sandbox.create("Account", Name="One")
    wait_until(lambda: not receiver.statuses)
    time.sleep(0.1)
    two = sandbox.create("Account", Name="Two")
    wait_until(lambda: receiver.events)
    assert changes(receiver) == [("Account", two, "create")]


def test_faulty_events(sandbox: Sandbox, receiver: Receiver) -> None:
    sandbox.faults(
        {"kind": "lose_event", "path": "Account"},
        {"kind": "duplicate_event", "path": "Contact"},
        {"kind": "reorder_events", "path": "Lead"},
    )
    sandbox.create("Account", Name="lost")
    contact = sandbox.create("Contact", LastName="twice")
    lead = sandbox.create("Lead", LastName="overtaken", Company="C")
    account = sandbox.create("Account", Name="told")
    wait_until(lambda: len(receiver.events) >= 4)
    told = [record_id for _, record_id, _ in changes(receiver)]
    assert told == [contact, contact, account, lead]
    assert receiver.events[0] == receiver.events[1]


def test_subscriptions(sandbox: Sandbox, receiver: Receiver) -> None:
    listed = sandbox.control("GET", "/subscriptions")
    assert listed == {"subscriptions": [{"url": receiver.url}]}
    sandbox.unsubscribe(receiver.url)
    sandbox.create("Account", Name="One")
    time.sleep(0.3)
    assert receiver.events == []


def test_push_option(make_sandbox: MakeSandbox) -> None:
    with receiving() as receiver:
        sandbox = make_sandbox(push=(receiver.url,))
        sandbox.create("Account", Name="One")
        wait_until(lambda: receiver.deliveries)
        headers, body = receiver.deliveries[0]
        digest = hmac.new(b"sandbox", headers["X-Crm-Timestamp"].encode() + b"." + body, hashlib.sha256)
        assert headers["X-Crm-Signature"] == f"sha256={digest.hexdigest()}"
        sandbox.kill()
