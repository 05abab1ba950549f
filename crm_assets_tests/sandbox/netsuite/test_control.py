"""The account as its users and its admin see it: changes, merges, fields, faults, seed files, restarts."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until
from crm_assets_tests.sandbox.netsuite.conftest import ask, made, problem, rest, rows
from crm_assets_tests.sandbox.receiver import Receiver, receiving


def test_what_a_user_does(account: Sandbox, api: httpx.Client) -> None:
    item = next(iter(account.alive("inventory_item")))
    buyer = account.create("customer", companyName="By hand", category="1")
    key = account.create("salesOrder", entity=buyer, item=[{"item": item, "quantity": 2, "rate": 3}])
    assert api.get(f"/record/v1/salesOrder/{key}").json()["total"] == 6.0
    truth = account.alive("sales_order")[key]
    assert truth["item"] == [
        {"line": 1, "item": item, "quantity": 2.0, "rate": 3.0, "amount": 6.0, "description": None}
    ]
    account.update("salesOrder", key, memo="seen", item={"items": [{"item": item, "quantity": 1, "rate": 1}]})
    assert [line["line"] for line in account.alive("salesOrder")[key]["item"]] == [1, 2]
    account.update("salesOrder", key, item=[{"line": 2, "quantity": 5}])
    assert [(line["line"], line["amount"]) for line in account.alive("salesOrder")[key]["item"]] == [(2, 5.0)]
    account.delete("salesOrder", key)
    gone = account.records("salesOrder")[key]
    assert gone["deleted"] and gone["fields"]["memo"] == "seen" and len(gone["fields"]["item"]) == 1
    with pytest.raises(httpx.HTTPStatusError, match=r"400.*no undelete"):
        account.undelete("salesOrder", key)
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        account.undelete("salesOrder", "1")
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        account.update("salesOrder", key, memo="too late")
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        account.records("nothing")


def test_merge(account: Sandbox, api: httpx.Client) -> None:
    master, loser = (account.create("customer", companyName=f"Twin {i}") for i in range(2))
    child = account.create("contact", lastName="Child", company=loser)
    deal = account.create("salesOrder", entity=loser)
    account.merge("customer", master, [loser])
    assert account.records("customer")[loser]["deleted"] and master in account.alive("customer")
    assert account.alive("contact")[child]["company"] == master
    assert account.alive("salesOrder")[deal]["entity"] == master
    assert problem(api.get(f"/record/v1/customer/{loser}")) == (404, "NONEXISTENT_ID")
    with pytest.raises(httpx.HTTPStatusError, match="cannot be merged"):
        account.merge("salesOrder", deal, [deal])
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        account.merge("customer", master, [master])


def test_fields_come_and_go(account: Sandbox, api: httpx.Client) -> None:
    account.schema("customer", "add", "custentity_tier", type="picklist", to=["Gold", "Silver"])
    key = made(api.post("/record/v1/customer", json={"companyName": "Tiered", "custentity_tier": {"id": "Gold"}}))
    assert account.alive("customer")[key]["dateCreated"] == account.alive("customer")[key]["lastModifiedDate"]
    catalog = api.get("/record/v1/metadata-catalog/customer", headers={"Accept": "application/schema+json"}).json()
    assert catalog["properties"]["custentity_tier"]["x-ns-custom-field"] is True
    assert rows(api, "SELECT custentity_tier FROM customer WHERE id = ?", key) == [{"custentity_tier": "Gold"}]
    account.schema("customer", "picklist", "custentity_tier", to=["Bronze"])
    refused = api.patch(f"/record/v1/customer/{key}", json={"custentity_tier": {"id": "Gold"}})
    assert problem(refused) == (400, "USER_ERROR")
    account.schema("customer", "rename", "custentity_tier", to="custentity_rank")
    assert rows(api, "SELECT custentity_rank FROM customer WHERE id = ?", key) == [{"custentity_rank": "Gold"}]
    assert problem(ask(api, "SELECT custentity_tier FROM customer")) == (400, "INVALID_PARAMETER")
    account.schema("customer", "add", "custentity_size", type="string")
    account.update("customer", key, custentity_size="12")
    account.schema("customer", "retype", "custentity_size", type="number")
    assert account.alive("customer")[key]["custentity_size"] == 12.0
    account.schema("customer", "drop", "custentity_rank")
    assert "custentity_rank" not in account.alive("customer")[key]
    # A column that another record type shares keeps that one's values.
    invoice = next(iter(account.alive("invoice")))
    account.schema("salesOrder", "add", "custbody_note", type="string")
    account.schema("invoice", "add", "custbody_note", type="integer")
    account.update("invoice", invoice, custbody_note=7)
    account.schema("salesOrder", "drop", "custbody_note")
    assert account.alive("invoice")[invoice]["custbody_note"] == 7
    for order in ({"action": "drop", "field": "lastModifiedDate"}, {"action": "add", "field": "phone"},
                  {"action": "explode", "field": "phone"}, {"action": "drop", "field": "nope"}):  # fmt: skip
        with pytest.raises(httpx.HTTPStatusError, match=r"40[04]"):
            account.control("POST", "/schema", {"object": "customer"} | order)


def test_stamps_never_move_back(account: Sandbox, api: httpx.Client) -> None:
    key = account.create("vendor", companyName="Stamped")
    before = account.records("vendor")[key]["modified_at"]
    api.patch(f"/record/v1/vendor/{key}", json={})
    after = account.records("vendor")[key]
    assert after["modified_at"] >= before
    assert after["fields"]["lastModifiedDate"][:19] == after["modified_at"][:19]


def test_a_late_commit_has_the_moment_of_its_begin(account: Sandbox, api: httpx.Client) -> None:
    account.faults({"kind": "late_commit", "method": "POST", "path": "/_sandbox/netsuite/employee"})
    key = account.create("employee", firstName="Late", lastName="Comer")
    started = time.time()
    assert api.get(f"/record/v1/employee/{key}").status_code == 404
    other = account.create("employee", firstName="In", lastName="Time")
    assert int(other) > int(key)
    wait_until(lambda: key in account.alive("employee"))
    assert time.time() - started > 3
    records = account.records("employee")
    assert records[key]["modified_at"] < records[other]["modified_at"]


@pytest.mark.parametrize(("kind", "status", "code"), [
    ("429", 429, "CONCURRENCY_LIMIT_EXCEEDED"), ("500", 500, "UNEXPECTED_ERROR"), ("503", 503, "SERVICE_UNAVAILABLE"),
])  # fmt: skip
def test_failures_on_order(account: Sandbox, api: httpx.Client, kind: str, status: int, code: str) -> None:
    account.faults({"kind": kind, "path": "suiteql"})
    assert problem(ask(api, "SELECT id FROM currency")) == (status, code)
    assert ask(api, "SELECT id FROM currency").status_code == 200


@pytest.mark.parametrize(("kind", "done"), [("timeout_before", False), ("timeout_after", True)])
def test_no_reply(account: Sandbox, api: httpx.Client, kind: str, done: bool) -> None:
    account.faults({"kind": kind, "method": "POST", "path": "/record/v1/contact"})
    with pytest.raises(httpx.ReadTimeout):
        api.post("/record/v1/contact", json={"lastName": kind}, timeout=1)
    assert any(row["lastName"] == kind for row in account.alive("contact").values()) is done


def test_calls_are_counted_by_kind(account: Sandbox, api: httpx.Client) -> None:
    account.reset_calls()
    ask(api, "SELECT id FROM currency")
    api.get("/record/v1/currency")
    api.get("/record/v1/currency/1")
    api.get("/record/v1/metadata-catalog")
    api.get("/record/v1/customer/1")
    calls = account.calls()
    assert calls["by_api"] == {"suiteql": 1, "record_list": 1, "record_read": 2, "metadata": 1}
    assert calls["by_status"] == {"200": 4, "404": 1} and calls["total"] == 5


@pytest.fixture
def receiver(account: Sandbox) -> Iterator[Receiver]:
    with receiving() as receiver:
        account.subscribe(receiver.url, "word")
        yield receiver
        account.unsubscribe(receiver.url)


def posts(receiver: Receiver) -> list[dict[str, str]]:
    return [json.loads(body) for _, body in list(receiver.deliveries)]


def test_scripts_tell_of_changes(account: Sandbox, api: httpx.Client, receiver: Receiver) -> None:
    key = made(api.post("/record/v1/vendor", json={"companyName": "Told"}))
    account.update("vendor", key, phone="1")
    assert api.post("/record/v1/vendor", json={}).status_code == 400
    account.delete("vendor", key)
    wait_until(lambda: len(receiver.deliveries) == 3)
    assert [(one["event"], one["recordType"], one["id"]) for one in posts(receiver)] == [
        ("create", "vendor", key), ("edit", "vendor", key), ("delete", "vendor", key),
    ]  # fmt: skip
    headers, body = receiver.deliveries[0]
    stamp = headers["X-Crm-Timestamp"]
    digest = hmac.new(b"word", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    assert headers["X-Crm-Signature"] == f"sha256={digest}" and abs(int(stamp) - time.time()) < 30
    first = posts(receiver)[0]
    assert set(first) == {"event", "recordType", "id", "at", "account"} and len(first["at"]) == 20


def test_a_script_posts_once(account: Sandbox, receiver: Receiver) -> None:
    """What nobody took is gone: only an incremental read finds it."""
    receiver.statuses = [503]
    account.create("vendor", companyName="Lost")
    second = account.create("vendor", companyName="Heard")
    wait_until(lambda: receiver.deliveries)
    account.faults({"kind": "lose_event", "path": "vendor"})
    account.create("vendor", companyName="Lost too")
    last = account.create("vendor", companyName="Heard too")
    wait_until(lambda: len(receiver.deliveries) == 2)
    assert [one["id"] for one in posts(receiver)] == [second, last]


def write(folder: Path, name: str, *rows: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


STAMPS = {"dateCreated": "2016-02-03T22:22:37Z", "lastModifiedDate": "2016-11-01T22:22:37Z"}


def test_seed_files(make_sandbox: MakeSandbox, tmp_path: Path) -> None:
    """Values stand as they are in the files; what they point to is made up."""
    folder = tmp_path / "netsuite"
    write(folder, "customer", {"id": "1000", "externalId": "", "entityId": "CUST1000", "companyName": " Acme ",
                               "isPerson": "F", "category": "technolgy", "custentity_n": "2.5"} | STAMPS)  # fmt: skip
    dates = {"createdDate": "2017-03-01T01:14:48Z", "lastModifiedDate": "2017-03-06T01:14:48Z"}
    order = {"id": "70000", "tranId": "SO70000", "entity": "1000", "tranDate": "2017-03-01", "memo": "GTX Basic",
             "total": "1054.00", "status": "Billed", "currency": "USD"} | dates  # fmt: skip
    write(folder, "salesOrder", order, order | {"id": "70001", "tranId": "SO70001", "entity": "1001", "total": "7"})
    account = make_sandbox(connection="netsuite", seed_dir=tmp_path)
    acme = account.alive("customer")["1000"]
    assert (acme["companyName"], acme["externalId"], acme["custentity_n"]) == (" Acme ", None, 2.5)
    assert acme["dateCreated"] == STAMPS["dateCreated"] and acme["lastModifiedDate"] == STAMPS["lastModifiedDate"]
    assert account.alive("customer")["1001"]["companyName"] == "Customer 1001"
    deal = account.alive("salesOrder")["70000"]
    assert (deal["total"], deal["orderStatus"], deal["status"], deal["tranDate"]) == (1054.0, "G", "G", "2017-03-01")
    (line,) = deal["item"]
    assert (line["quantity"], line["amount"]) == (1.0, 1054.0)
    items = account.alive("nonInventorySaleItem")
    assert [one["itemId"] for one in items.values()] == ["GTX Basic"] and line["item"] in items
    assert account.alive("currency")[deal["currency"]]["symbol"] == "USD"
    with rest(account) as api:
        shown = api.get("/record/v1/customer/1000").json()
        assert shown["category"]["refName"] == "technolgy"
        assert made(api.post("/record/v1/customer", json={"companyName": "Next"})) == str(70001 + 1 + len(items))


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_records_survive_a_restart(make_sandbox: MakeSandbox, end: str) -> None:
    account = make_sandbox(connection="netsuite", rows=5)
    account.schema("customer", "add", "custentity_x", type="integer")
    key = account.create("customer", companyName="Kept", custentity_x=3)
    gone = account.create("customer", companyName="Gone")
    account.delete("customer", gone)
    before = account.records("customer")
    getattr(account, end)()
    account.start()
    assert account.records("customer") == before and before[key]["fields"]["custentity_x"] == 3
    # The id of a deleted record is never given again.
    assert int(account.create("customer", companyName="New")) > int(gone)


def test_generated_companies_scale(make_sandbox: MakeSandbox) -> None:
    account = make_sandbox(connection="netsuite", rows=1000)
    counts = {name: len(account.alive(name)) for name in ("customer", "contact", "salesOrder", "invoice", "vendor")}
    assert counts == {"customer": 200, "contact": 270, "salesOrder": 300, "invoice": 150, "vendor": 30}
    assert all(row["item"] for row in account.alive("salesOrder").values())
