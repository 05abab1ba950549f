"""Records over REST: life, references, sublists, lists and their filters."""

from __future__ import annotations

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox
from crm_assets_tests.sandbox.netsuite.conftest import made, problem


def customer(api: httpx.Client, name: str, **fields: object) -> str:
    return made(api.post("/record/v1/customer", json={"companyName": name, **fields}))


def order(api: httpx.Client, *lines: dict[str, object], **fields: object) -> str:
    body = {"entity": {"id": customer(api, "Buyer")}, "item": {"items": list(lines)}, **fields}
    return made(api.post("/record/v1/salesOrder", json=body))


@pytest.fixture(scope="session")
def products(account: Sandbox) -> list[str]:
    return list(account.alive("inventoryItem"))


def test_life_of_a_record(api: httpx.Client, account: Sandbox) -> None:
    reply = api.post("/record/v1/customer", json={"companyName": "Harbour & Pine", "email": "a@pine.example"})
    assert reply.status_code == 204 and reply.content == b""
    key = made(reply)
    assert reply.headers["location"] == f"{account.url}/services/rest/record/v1/customer/{key}"
    row = api.get(f"/record/v1/customer/{key}").json()
    assert (row["id"], row["companyName"], row["isInactive"], row["entityId"]) == (
        key, "Harbour & Pine", False, f"CUST{key}",
    )  # fmt: skip
    assert row["subsidiary"]["id"] == "1" and row["subsidiary"]["refName"] == "Parent Company"
    assert row["subsidiary"]["links"][0]["href"].endswith("/record/v1/subsidiary/1")
    assert "phone" not in row and row["lastModifiedDate"].endswith("Z") and len(row["lastModifiedDate"]) == 20
    assert api.patch(f"/record/v1/customer/{key}", json={"email": None, "creditLimit": 1500.5}).status_code == 204
    row = api.get(f"/record/v1/customer/{key}").json()
    assert "email" not in row and row["creditLimit"] == 1500.5 and row["companyName"] == "Harbour & Pine"
    assert api.delete(f"/record/v1/customer/{key}").status_code == 204
    assert problem(api.get(f"/record/v1/customer/{key}")) == (404, "NONEXISTENT_ID")
    assert problem(api.delete(f"/record/v1/customer/{key}")) == (404, "NONEXISTENT_ID")
    assert account.records("customer")[key]["deleted"]


def test_upsert_by_external_id(api: httpx.Client, account: Sandbox) -> None:
    first = made(api.put("/record/v1/customer/eid:CRM-1", json={"companyName": "One"}))
    second = made(api.put("/record/v1/customer/eid:CRM-1", json={"companyName": "Two"}))
    assert first == second
    assert account.alive("customer")[first]["externalId"] == "CRM-1"
    assert api.get("/record/v1/customer/eid:CRM-1").json()["companyName"] == "Two"
    assert api.patch("/record/v1/customer/eid:CRM-1", json={"phone": "1"}).status_code == 204
    taken = api.post("/record/v1/customer", json={"companyName": "Three", "externalId": "CRM-1"})
    assert problem(taken) == (400, "USER_ERROR")
    # The same id may name a record of another type.
    assert api.put("/record/v1/vendor/eid:CRM-1", json={"companyName": "One"}).status_code == 204
    assert problem(api.put("/record/v1/customer/eid:a|b", json={"companyName": "x"})) == (400, "INVALID_PARAMETER")
    assert problem(api.put(f"/record/v1/customer/{first}", json={"companyName": "x"})) == (400, "INVALID_REQUEST")
    assert api.delete("/record/v1/customer/eid:CRM-1").status_code == 204
    assert made(api.put("/record/v1/customer/eid:CRM-1", json={"companyName": "Four"})) != first


def test_refusals(api: httpx.Client, account: Sandbox) -> None:
    reply = api.post("/record/v1/customer", json={"email": "a@b.example"})
    assert problem(reply) == (400, "USER_ERROR")
    detail = reply.json()["o:errorDetails"][0]
    assert (
        detail["detail"].endswith("Please enter value(s) for: Company Name.") and detail["o:errorPath"] == "companyName"
    )
    base = {"companyName": "X"}
    for wrong in ({"email": "nobody"}, {"salesRep": {"id": "99999"}}, {"emailPreference": {"id": "FAX"}},
                  {"companyName": "x" * 84}, {"creditLimit": "much"}, {"balance": 5}, {"startDate": "1/31/2026"},
                  {"isInactive": "maybe"}):  # fmt: skip
        reply = api.post("/record/v1/customer", json=base | wrong)
        assert problem(reply) == (400, "USER_ERROR"), wrong
        assert reply.json()["o:errorDetails"][0]["o:errorPath"] == next(iter(wrong))
    assert problem(api.post("/record/v1/customer", content=b"{")) == (400, "INVALID_CONTENT")
    assert problem(api.post("/record/v1/customer", json=[])) == (400, "INVALID_CONTENT")
    assert problem(api.get("/record/v1/nothing/1")) == (404, "NONEXISTENT_RECORD_TYPE")
    assert problem(api.post("/record/v1/currency", json={"name": "X"})) == (403, "INSUFFICIENT_PERMISSION")
    assert not any(row["companyName"] == "X" for row in account.alive("customer").values())


def test_names_that_do_not_exist(api: httpx.Client) -> None:
    body = {"companyName": "Name", "colour": "red"}
    loud = {"X-NetSuite-PropertyNameValidation": "error"}
    assert problem(api.post("/record/v1/customer", json=body, headers=loud)) == (400, "INVALID_CONTENT")
    reply = api.post("/record/v1/customer", json=body)
    assert "colour" in reply.headers["x-netsuite-propertynamevalidation-warning"]
    quiet = api.post("/record/v1/customer", json=body, headers={"X-NetSuite-PropertyNameValidation": "Ignore"})
    assert quiet.status_code == 204 and "x-netsuite-propertynamevalidation-warning" not in quiet.headers


def test_fields_and_enums(api: httpx.Client) -> None:
    key = customer(api, "Shape", emailPreference={"id": "PDF"})
    row = api.get(f"/record/v1/customer/{key}", params={"fields": "companyName,emailPreference"}).json()
    assert set(row) == {"links", "id", "companyName", "emailPreference"}
    assert row["emailPreference"] == {"id": "PDF", "refName": "PDF"}
    simple = api.get(f"/record/v1/customer/{key}", params={"fields": "emailPreference", "simpleEnumFormat": "true"})
    assert simple.json()["emailPreference"] == "PDF"
    assert problem(api.get(f"/record/v1/customer/{key}", params={"fields": "nope"})) == (400, "INVALID_PARAMETER")


def test_lines_are_merged_by_their_key(api: httpx.Client, account: Sandbox, products: list[str]) -> None:
    one, two = products[:2]
    key = order(api, {"item": {"id": one}, "quantity": 2, "rate": 10.5}, {"item": {"id": two}, "amount": 4})
    truth = account.alive("salesOrder")[key]
    assert [(line["line"], line["item"], line["amount"]) for line in truth["item"]] == [(1, one, 21.0), (2, two, 4.0)]
    assert truth["total"] == truth["subtotal"] == 25.0
    change = {"item": {"items": [{"line": 1, "quantity": 3}, {"item": {"id": two}, "quantity": 1, "rate": 5}]}}
    assert api.patch(f"/record/v1/salesOrder/{key}", json=change).status_code == 204
    truth = account.alive("salesOrder")[key]
    assert [(line["line"], line["amount"]) for line in truth["item"]] == [(1, 31.5), (2, 4.0), (3, 5.0)]
    assert truth["total"] == 40.5
    rest = {"item": {"items": [{"line": 3}]}}
    assert api.patch(f"/record/v1/salesOrder/{key}", params={"replace": "item"}, json=rest).status_code == 204
    truth = account.alive("salesOrder")[key]
    assert [(line["line"], line["amount"]) for line in truth["item"]] == [(3, 5.0)] and truth["total"] == 5.0
    assert api.patch(f"/record/v1/salesOrder/{key}", json={"memo": "kept"}).status_code == 204
    assert account.alive("salesOrder")[key]["item"] == truth["item"]
    links = api.get(f"/record/v1/salesOrder/{key}").json()["item"]
    assert list(links) == ["links"]
    listed = api.get(f"/record/v1/salesOrder/{key}/item").json()
    assert listed["count"] == 1 and listed["items"][0]["links"][0]["href"].endswith(f"/salesOrder/{key}/item/3")
    assert api.get(f"/record/v1/salesOrder/{key}/item/3").json()["amount"] == 5.0
    bad = api.post("/record/v1/salesOrder", json={"entity": {"id": "1"}, "item": {"items": [{}]}})
    assert problem(bad) == (400, "USER_ERROR")
    reply = api.patch(f"/record/v1/salesOrder/{key}", json={"item": {"items": [{"quantity": 1}]}})
    assert reply.json()["o:errorDetails"][0]["o:errorPath"] == "item.items[0].item"


def test_addresses(api: httpx.Client, account: Sandbox) -> None:
    book = {
        "items": [{"label": "Home", "defaultBilling": True, "addressBookAddress": {"addr1": "1 Quay", "city": "Leith"}}]
    }
    key = customer(api, "Addressed", addressBook=book)
    change = {"addressBook": {"items": [{"internalId": 1, "addressBookAddress": {"city": "Edinburgh"}}]}}
    assert api.patch(f"/record/v1/customer/{key}", json=change).status_code == 204
    (line,) = account.alive("customer")[key]["addressBook"]
    assert (line["internalId"], line["label"], line["defaultBilling"]) == (1, "Home", True)
    assert line["addressBookAddress"]["addr1"] == "1 Quay" and line["addressBookAddress"]["city"] == "Edinburgh"
    body = api.get(f"/record/v1/customer/{key}", params={"expandSubResources": "true"}).json()
    assert body["addressBook"]["items"][0]["addressBookAddress"]["addr1"] == "1 Quay"


def test_an_order_becomes_an_invoice(api: httpx.Client, account: Sandbox, products: list[str]) -> None:
    key = order(api, {"item": {"id": products[0]}, "quantity": 2, "rate": 8}, memo="deal")
    reply = api.post(f"/record/v1/salesOrder/{key}/!transform/invoice", json={"memo": "billed"})
    invoice = made(reply)
    assert "/record/v1/invoice/" in reply.headers["location"]
    truth = account.alive("invoice")[invoice]
    assert (truth["createdFrom"], truth["total"], truth["amountRemaining"], truth["memo"]) == (
        key,
        16.0,
        16.0,
        "billed",
    )
    assert len(truth["item"]) == 1 and truth["entity"] == account.alive("salesOrder")[key]["entity"]
    assert account.alive("salesOrder")[key]["orderStatus"] == "G"
    again = api.post(f"/record/v1/salesOrder/{key}/!transform/invoice")
    assert problem(again) == (400, "USER_ERROR")


def ids(api: httpx.Client, kind: str, q: str) -> set[str]:
    reply = api.get(f"/record/v1/{kind}", params={"q": q})
    assert reply.status_code == 200, reply.text
    return {one["id"] for one in reply.json()["items"]}


def test_filters(api: httpx.Client, account: Sandbox) -> None:
    """Each filter finds what the same condition finds in the truth."""
    for name, limit in (("Filter Alpha", 10), ("Filter Beta", 20), ("filter gamma", None)):
        customer(api, name, creditLimit=limit, comments="filtered", isInactive=limit == 20)
    mine = {key: row for key, row in account.alive("customer").items() if row["comments"] == "filtered"}
    by_name = {row["companyName"].split()[1]: key for key, row in mine.items()}
    alpha, beta, gamma = (by_name[one] for one in ("Alpha", "Beta", "gamma"))
    own = 'comments IS "filtered" AND '
    for q, found in (
        ('companyName IS "filter alpha"', {alpha}),
        ('companyName START_WITH "Filter"', {alpha, beta, gamma}),
        ("companyName START_WITH_NOT filter", set()),
        ("companyName END_WITH a", {alpha, beta, gamma}),
        ("companyName CONTAIN_NOT gam", {alpha, beta}),
        ("creditLimit EMPTY", {gamma}),
        ("creditLimit EMPTY_NOT", {alpha, beta}),
        ("creditLimit EQUAL 10", {alpha}),
        ("creditLimit GREATER_OR_EQUAL 10", {alpha, beta}),
        ("creditLimit GREATER_NOT 10", {alpha, gamma}),
        ("creditLimit BETWEEN [15, 30]", {beta}),
        ("creditLimit ANY_OF [10, 20]", {alpha, beta}),
        ("isInactive IS true", {beta}),
        (f"id ANY_OF [{alpha}, {gamma}]", {alpha, gamma}),
        ('(companyName CONTAIN "alp" OR companyName CONTAIN "bet") AND creditLimit LESS 15', {alpha}),
        ('dateCreated ON_OR_AFTER "1/1/2026"', {alpha, beta, gamma}),
        ('lastModifiedDate BEFORE "01/01/2020"', set()),
    ):  # fmt: skip
        assert ids(api, "customer", own + f"({q})") == found, q
    for q in ("nope IS 1", "companyName GREATER 3", 'dateCreated AFTER "2026-01-31"', "companyName IS", "AND"):
        assert problem(api.get("/record/v1/customer", params={"q": q})) == (400, "INVALID_PARAMETER"), q


def test_the_users_date_format(account: Sandbox, api: httpx.Client) -> None:
    account.control("POST", "/preferences", {"date_format": "DD/MM/YYYY"})
    try:
        assert len(ids(api, "customer", 'dateCreated AFTER "31/01/2000"')) > 1
        assert problem(api.get("/record/v1/customer", params={"q": 'dateCreated AFTER "1/31/2000"'})) == (
            400, "INVALID_PARAMETER",
        )  # fmt: skip
    finally:
        account.control("POST", "/preferences", {"date_format": "MM/DD/YYYY"})


def test_pages(api: httpx.Client, account: Sandbox) -> None:
    first = api.get("/record/v1/contact", params={"limit": 10}).json()
    assert first["count"] == 10 and first["hasMore"] and first["offset"] == 0
    links = {one["rel"]: one["href"] for one in first["links"]}
    assert set(links) == {"self", "next", "last"}
    found, page = [one["id"] for one in first["items"]], first
    while page["hasMore"]:
        page = api.get({one["rel"]: one["href"] for one in page["links"]}["next"]).json()
        found += [one["id"] for one in page["items"]]
    assert found == sorted(account.alive("contact"), key=int) and first["totalResults"] == len(found)
    for wrong in ({"limit": 1001}, {"limit": 0}, {"limit": 10, "offset": 5}, {"limit": 1000, "offset": 100_000}):
        assert problem(api.get("/record/v1/contact", params=wrong)) == (400, "INVALID_PARAMETER")


def test_catalog(api: httpx.Client) -> None:
    listed = api.get("/record/v1/metadata-catalog").json()["items"]
    names = {one["name"] for one in listed}
    assert names >= {"customer", "contact", "vendor", "inventoryItem", "salesOrder", "invoice", "customerPayment",
                     "employee", "subsidiary"}  # fmt: skip
    chosen = api.get("/record/v1/metadata-catalog", params={"select": "customer,contact"}).json()["items"]
    assert [one["name"] for one in chosen] == ["customer", "contact"]
    schema = api.get("/record/v1/metadata-catalog/salesOrder", headers={"Accept": "application/schema+json"})
    assert schema.headers["content-type"] == "application/schema+json"
    properties = schema.json()["properties"]
    assert properties["tranDate"] == {"title": "Tran Date", "type": "string", "format": "date", "nullable": True}
    assert properties["total"]["readOnly"] and properties["total"]["format"] == "double"
    assert "A" in properties["orderStatus"]["properties"]["id"]["enum"]
    line = properties["item"]["properties"]["items"]["items"]
    assert line["x-ns-sublistkey"]["value"]["existing"] == ["line"] and "quantity" in line["properties"]
    assert "entity" in schema.json()["x-ns-filterable"]
    swagger = api.get("/record/v1/metadata-catalog/salesOrder", headers={"Accept": "application/swagger+json"}).json()
    order_type = swagger["components"]["schemas"]["salesOrder"]
    assert swagger["openapi"].startswith("3.0") and order_type["properties"]["entity"]["$ref"].endswith("/customer")
    assert problem(api.get("/record/v1/metadata-catalog/nothing")) == (404, "NONEXISTENT_RECORD_TYPE")
