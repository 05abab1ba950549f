"""Change Data Capture over the Pub/Sub API: what the events say, and how a subscriber gets them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import grpc
import httpx
import pytest

from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until
from crm_assets_tests.sandbox.subscriber import ALL, Subscriber

Connect = Callable[..., Subscriber]


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    running = Sandbox(tmp_path_factory.mktemp("bus") / "data", streams=True, keep_alive_seconds=1.0)
    yield running
    running.kill()


@pytest.fixture
def connect(sandbox: Sandbox) -> Iterator[Connect]:
    made: list[Subscriber] = []

    def open_one(where: Sandbox = sandbox, **options: str) -> Subscriber:
        made.append(Subscriber(where, **options))
        return made[-1]

    yield open_one
    for one in made:
        one.close()


def named(schema: Any, bitmaps: list[str]) -> set[str]:
    """Bitmaps read as the vendor's guide tells it: hexadecimal, to binary, reversed; bit i is field i."""
    found = set()
    for bitmap in bitmaps:
        position, _, digits = bitmap.rpartition("-")
        fields = schema["fields"]
        prefix = ""
        if position:
            compound = fields[int(position)]
            prefix, record = f"{compound['name']}.", compound["type"][1]
            fields = ADDRESS if isinstance(record, str) else record["fields"]
        bits = bin(int(digits, 16))[2:][::-1]
        found |= {prefix + fields[i]["name"] for i, bit in enumerate(bits) if bit == "1"}
    return found


ADDRESS = [{"name": name} for name in ("Street", "City", "State", "PostalCode", "Country")]


def told(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if value is not None and name != "ChangeEventHeader"}


def test_the_life_of_a_record(sandbox: Sandbox, connect: Connect) -> None:
    client = connect()
    feed = client.subscribe("/data/ContactChangeEvent")
    feed.response()  # the keep-alive says that it has begun
    made = sandbox.create("Contact", LastName="Pine", FirstName="Ada", Birthdate="1990-05-01", MailingCity="Leith")
    sandbox.update("Contact", made, LastName="Oak", MailingCity=None, Phone="1")
    sandbox.delete("Contact", made)
    sandbox.undelete("Contact", made)
    created, updated, deleted, back = feed.events(4)
    head = created["ChangeEventHeader"]
    assert (head["entityName"], head["recordIds"], head["changeType"]) == ("Contact", [made], "CREATE")
    assert head["commitUser"].startswith("005") and head["sequenceNumber"] == 1
    assert head["changeOrigin"].startswith("com/salesforce/api/") and head["changedFields"] == []
    assert created["Name"] == {"Salutation": None, "FirstName": "Ada", "LastName": "Pine"}
    assert created["MailingAddress"]["City"] == "Leith"
    assert created["Birthdate"] == 641_520_000_000  # 1990-05-01 in milliseconds
    head = updated["ChangeEventHeader"]
    schema = client.schema(client.topic("/data/ContactChangeEvent").schema_id)
    assert named(schema, head["changedFields"]) == {"Name.LastName", "MailingAddress.City", "Phone", "LastModifiedDate"}
    assert named(schema, head["nulledFields"]) == {"MailingAddress.City"}
    assert set(told(updated)) == {"Name", "MailingAddress", "Phone", "LastModifiedDate"}
    assert deleted["ChangeEventHeader"]["changeType"] == "DELETE" and told(deleted) == {}
    assert back["ChangeEventHeader"]["changeType"] == "UNDELETE" and back["Phone"] == "1"
    numbers = [one["ChangeEventHeader"]["commitNumber"] for one in (created, updated, deleted, back)]
    assert numbers == sorted(set(numbers))
    feed.cancel()


def test_bitmaps_by_hand(sandbox: Sandbox, connect: Connect) -> None:
    """Account: 2 Name, 3 Type, 5 BillingAddress, 6 ShippingAddress, 7 Phone, 11 Industry, 21 LastModifiedDate."""
    client = connect()
    names = [one["name"] for one in client.schema(client.topic("/data/AccountChangeEvent").schema_id)["fields"]]
    assert [names.index(one) for one in ("Name", "BillingAddress", "ShippingAddress", "Phone", "Industry")] == [
        2, 5, 6, 7, 11,
    ]  # fmt: skip
    assert names.index("LastModifiedDate") == 20
    made = sandbox.create("Account", Name="A", Industry="Retail", ShippingCountry="X")
    feed = client.subscribe("/data/AccountChangeEvent")
    feed.response()
    sandbox.update("Account", made, Name="B", Industry=None, Phone="1", ShippingCountry=None, BillingStreet="s")
    (event,) = feed.events(1)
    # 20, 11, 7, 2 → 1 0000 1000 1000 0100; Country is the fifth part, Street the first.
    assert event["ChangeEventHeader"]["changedFields"] == ["0x100884", "5-0x01", "6-0x10"]
    assert event["ChangeEventHeader"]["nulledFields"] == ["0x0800", "6-0x10"]
    feed.cancel()


def test_a_transaction(sandbox: Sandbox, connect: Connect) -> None:
    """One key, numbered from 1; the same change to several records is one event."""
    feed = connect().subscribe()
    feed.response()
    with sandbox.api() as api:
        leads = [sandbox.create("Lead", LastName=f"L{n}", Company="C") for n in range(3)]
        records = [{"attributes": {"type": "Lead"}, "id": one, "Status": "Working - Contacted"} for one in leads]
        records.append({"attributes": {"type": "Lead"}, "id": leads[0], "Company": "D"})
        api.patch("/composite/sobjects", json={"records": records}).raise_for_status()
    together, alone = feed.events(5)[3:]
    assert together["ChangeEventHeader"]["recordIds"] == leads
    assert alone["ChangeEventHeader"]["recordIds"] == leads[:1]
    assert [one["ChangeEventHeader"]["sequenceNumber"] for one in (together, alone)] == [1, 2]
    assert len({one["ChangeEventHeader"]["transactionKey"] for one in (together, alone)}) == 1
    feed.cancel()


def test_a_long_text_is_told_as_a_difference(sandbox: Sandbox, connect: Connect) -> None:
    text = "\n".join(f"line {n}" for n in range(300))
    made = sandbox.create("Account", Name="A", Description=text)
    client = connect()
    feed = client.subscribe("/data/AccountChangeEvent")
    feed.response()
    sandbox.update("Account", made, Description=text.replace("line 7\n", "line seven\n"))
    (event,) = feed.events(1)
    schema = client.schema(client.topic("/data/AccountChangeEvent").schema_id)
    assert named(schema, event["ChangeEventHeader"]["diffFields"]) == {"Description"}
    assert "+line seven" in event["Description"] and len(event["Description"]) < 200
    feed.cancel()


def test_events_come_as_they_are_asked_for(sandbox: Sandbox, connect: Connect) -> None:
    feed = connect().subscribe("/data/LeadChangeEvent", ask=2)
    feed.response()
    for n in range(5):
        sandbox.create("Lead", LastName=f"F{n}", Company="C")
    raw = feed.raw()
    got = [response.pending_num_requested for _, response in [next(raw), next(raw)]]
    assert got[-1] == 0
    feed.ask(3)
    assert [one["Name"]["LastName"] for one in feed.events(3)] == ["F2", "F3", "F4"]
    feed.ask(1, "/data/Other")
    with pytest.raises(grpc.RpcError) as caught:
        feed.response()
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_replay(make_sandbox: MakeSandbox, connect: Connect) -> None:
    """Over a restart, from any place, and not from one that is no longer kept."""
    sandbox = make_sandbox(streams=True, keep_alive_seconds=0.3)
    ids = [sandbox.create("Contact", LastName=f"R{n}") for n in range(4)]
    client = connect(sandbox)
    feed = client.subscribe(earliest=True)
    raw = feed.raw()
    places = [next(raw)[0].replay_id for _ in range(4)]
    feed.cancel()
    sandbox.kill()
    sandbox.start()
    client = connect(sandbox)
    feed = client.subscribe(after=places[1])
    assert [one["ChangeEventHeader"]["recordIds"] for one in feed.events(2)] == [[ids[2]], [ids[3]]]
    sandbox.create("Account", Name="of another topic")
    other = client.subscribe("/data/ContactChangeEvent", after=places[3])
    quiet = wait_until(lambda: (r := other.response()).latest_replay_id > places[3] and r)
    assert not quiet.events, "the keep-alive moves past events of other topics"
    for after, code in ((b"guess", "corrupted"), (places[0][:-1] + b"\x7f", "validation.failed")):
        with pytest.raises(grpc.RpcError) as caught:
            client.subscribe(after=after).response()
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        trailer = dict(caught.value.trailing_metadata())["error-code"]
        assert trailer == f"sfdc.platform.eventbus.grpc.subscription.fetch.replayid.{code}"
    sandbox.control("DELETE", "/events")
    with pytest.raises(grpc.RpcError, match="validation"):
        client.subscribe(after=places[2]).response()
    sandbox.create("Contact", LastName="afterwards")
    assert client.subscribe(earliest=True).events(1)[0]["Name"]["LastName"] == "afterwards"


@pytest.mark.parametrize("fault", ["lose_event", "duplicate_event", "reorder_events"])
def test_faults(sandbox: Sandbox, connect: Connect, fault: str) -> None:
    feed = connect().subscribe("/data/LeadChangeEvent")
    feed.response()
    sandbox.faults({"kind": fault, "path": "Lead"})
    for name in ("one", "two"):
        sandbox.create("Lead", LastName=name, Company="C")
    expected = {"lose_event": ["two"], "duplicate_event": ["one", "one", "two"], "reorder_events": ["two", "one"]}[
        fault
    ]
    assert [one["Name"]["LastName"] for one in feed.events(len(expected))] == expected
    feed.cancel()


def test_events_without_values(sandbox: Sandbox, connect: Connect) -> None:
    client = connect()
    feed = client.subscribe("/data/LeadChangeEvent")
    feed.response()
    sandbox.control("POST", "/events", {"object": "Lead", "change": "GAP_UPDATE", "ids": ["00Q000000000001AAA"]})
    sandbox.control("POST", "/events", {"object": "Lead", "change": "GAP_OVERFLOW"})
    gap, overflow = feed.events(2)
    assert gap["ChangeEventHeader"]["changeType"] == "GAP_UPDATE" and told(gap) == {}
    assert gap["ChangeEventHeader"]["recordIds"] == ["00Q000000000001AAA"]
    assert overflow["ChangeEventHeader"]["changeType"] == "GAP_OVERFLOW"
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        sandbox.control("POST", "/events", {"object": "Lead", "change": "GUESS"})
    sandbox.control("POST", "/events", {"object": "Lead", "unreadable": True})
    event, _ = next(feed.raw())
    with pytest.raises(Exception):  # noqa: B017 (whatever Avro says to it)
        client.decode(event)
    feed.cancel()


def test_who_may_subscribe(make_sandbox: MakeSandbox, connect: Connect) -> None:
    sandbox = make_sandbox(streams=True, session_seconds=2.0)
    for options in ({"token": "guess"}, {"tenant": "00D000000000000AAA"}):
        with pytest.raises(grpc.RpcError) as caught:
            connect(sandbox, **options).subscribe().response()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert dict(caught.value.trailing_metadata())["error-code"] == "sfdc.platform.eventbus.grpc.service.auth.error"
    form = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}
    given = httpx.post(f"{sandbox.url}/services/oauth2/token", data=form, trust_env=False).json()
    tenant = given["id"].split("/")[-2]
    with pytest.raises(grpc.RpcError, match="the session has expired"):
        connect(sandbox, token=given["access_token"], tenant=tenant).subscribe().response()
    sandbox.faults({"kind": "503", "path": "PubSub/Subscribe"})
    with pytest.raises(grpc.RpcError) as caught:
        connect(sandbox).subscribe().response()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_topics(sandbox: Sandbox, connect: Connect) -> None:
    client = connect()
    info = client.topic("/data/OpportunityChangeEvent")
    assert info.can_subscribe and client.schema(info.schema_id)["name"] == "OpportunityChangeEvent"
    assert client.topic(ALL).can_subscribe
    sandbox.schema("Opportunity", "add", "Size__c", type="double")
    changed = client.topic("/data/OpportunityChangeEvent")
    assert changed.schema_id != info.schema_id
    assert client.schema(changed.schema_id)["fields"][-1] == {
        "name": "Size__c", "type": ["null", "double"], "default": None,
    }  # fmt: skip
    for name in ("/data/GuessChangeEvent", "ChangeEvents"):
        with pytest.raises(grpc.RpcError) as caught:
            client.topic(name)
        assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_it_stops_with_subscribers(make_sandbox: MakeSandbox, connect: Connect) -> None:
    sandbox = make_sandbox(streams=True)
    feed = connect(sandbox).subscribe()
    sandbox.create("Lead", LastName="L", Company="C")
    feed.events(1)
    assert sandbox.stop() == 0
    with pytest.raises(grpc.RpcError) as caught:
        feed.response()
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
