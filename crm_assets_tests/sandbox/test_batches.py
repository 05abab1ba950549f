"""Many records in one call."""

from __future__ import annotations

from typing import Any

import httpx

from crm_assets_tests.plugins.sandbox import Sandbox

KEY = "Crm_Assets_Row_Id__c"


def contact(**fields: Any) -> dict[str, Any]:
    return {"attributes": {"type": "Contact"}, **fields}


def codes(reply: httpx.Response) -> list[str]:
    assert reply.status_code == 200, reply.text
    return ["ok" if one["success"] else one["errors"][0]["statusCode"] for one in reply.json()]


def test_each_record_has_its_own_result(sandbox: Sandbox, api: httpx.Client) -> None:
    live, gone = (sandbox.create("Contact", LastName=name) for name in ("Live", "Gone"))
    sandbox.delete("Contact", gone)
    records = [
        contact(Id=live, LastName="Changed"),
        contact(Id=gone, LastName="x"),
        contact(id="003000000000001AAA", LastName="x"),
        contact(Id="003000000000001", LastName="x"),
        contact(Id="nonsense", LastName="x"),
        contact(LastName="x"),
        contact(Id=live, Nope=1),
    ]
    expected = ["ok", "ENTITY_IS_DELETED", "INVALID_CROSS_REFERENCE_KEY", "INVALID_CROSS_REFERENCE_KEY",
                "MALFORMED_ID", "MISSING_ARGUMENT", "INVALID_FIELD"]  # fmt: skip
    reply = api.patch("/composite/sobjects", json={"records": records})
    assert codes(reply) == expected
    assert sandbox.alive("Contact")[live]["LastName"] == "Changed"


def test_all_or_none_undoes_all(sandbox: Sandbox, api: httpx.Client) -> None:
    before = len(sandbox.alive("Contact"))
    body = {"allOrNone": True, "records": [contact(LastName="A"), contact(), contact(LastName="B")]}
    expected = ["ALL_OR_NONE_OPERATION_ROLLED_BACK", "REQUIRED_FIELD_MISSING", "ALL_OR_NONE_OPERATION_ROLLED_BACK"]
    assert codes(api.post("/composite/sobjects", json=body)) == expected
    assert len(sandbox.alive("Contact")) == before


def test_limits_of_a_collection(api: httpx.Client) -> None:
    reply = api.post("/composite/sobjects", json={"records": [contact(LastName="A")] * 201})
    assert reply.status_code == 400 and reply.json()[0]["errorCode"] == "EXCEEDED_ID_LIMIT"
    runs = [contact(LastName="A"), {"attributes": {"type": "Account"}, "Name": "B"}] * 6
    reply = api.post("/composite/sobjects", json={"records": runs})
    assert reply.status_code == 400 and "chunks" in reply.json()[0]["message"]


def test_delete_and_retrieve(sandbox: Sandbox, api: httpx.Client) -> None:
    one, two = (sandbox.create("Contact", LastName=name) for name in ("One", "Two"))
    params = {"ids": f"{one},{two}", "fields": "LastName"}
    got = api.get("/composite/sobjects/Contact", params=params).json()
    assert [row["LastName"] for row in got] == ["One", "Two"]
    assert codes(api.delete("/composite/sobjects", params={"ids": f"{one},{one}"})) == ["ok", "ENTITY_IS_DELETED"]
    body = {"ids": [two, one], "fields": ["LastName"]}
    got = api.post("/composite/sobjects/Contact", json=body).json()
    assert got[0]["LastName"] == "Two" and got[1] is None


def test_two_rows_with_one_key(sandbox: Sandbox, api: httpx.Client) -> None:
    body = {"records": [contact(LastName="A", **{KEY: "k"}), contact(LastName="B", **{KEY: "k"})]}
    assert codes(api.post("/composite/sobjects", json=body)) == ["ok", "DUPLICATE_VALUE"]
    reply = api.patch(f"/composite/sobjects/Contact/{KEY}", json=body)
    assert [one["created"] for one in reply.json()] == [False, False]
    assert [row["LastName"] for row in sandbox.alive("Contact").values() if row[KEY] == "k"] == ["B"]


def test_composite_with_references(sandbox: Sandbox, api: httpx.Client) -> None:
    base = "/services/data/v67.0/sobjects"
    parts = [
        {"method": "POST", "url": f"{base}/Account", "referenceId": "parent", "body": {"Name": "P"}},
        {"method": "POST", "url": f"{base}/Contact", "referenceId": "child",
         "body": {"LastName": "C", "AccountId": "@{parent.id}"}},
        {"method": "GET", "url": f"{base}/Contact/@{{child.id}}", "referenceId": "row"},
    ]  # fmt: skip
    for all_or_none in (False, True):
        body = {"allOrNone": all_or_none, "compositeRequest": parts}
        replies = api.post("/composite", json=body).json()["compositeResponse"]
        assert [one["httpStatusCode"] for one in replies] == [201, 201, 200]
        assert replies[2]["body"]["AccountId"] == replies[0]["body"]["id"]
        assert replies[0]["body"]["id"] in sandbox.alive("Account")


def test_composite_undone_as_one(sandbox: Sandbox, api: httpx.Client) -> None:
    before = sandbox.alive("Account").keys()
    parts = [
        {"method": "POST", "url": "/services/data/v67.0/sobjects/Account", "referenceId": "a",
         "body": {"Name": "P"}},
        {"method": "POST", "url": "/services/data/v67.0/sobjects/Account", "referenceId": "b", "body": {}},
    ]  # fmt: skip
    body = {"allOrNone": True, "compositeRequest": parts}
    replies = api.post("/composite", json=body).json()["compositeResponse"]
    assert [one["httpStatusCode"] for one in replies] == [400, 400]
    assert replies[0]["body"][0]["errorCode"] == "PROCESSING_HALTED"
    assert replies[1]["body"][0]["errorCode"] == "REQUIRED_FIELD_MISSING"
    assert sandbox.alive("Account").keys() == before


def test_batch(sandbox: Sandbox, api: httpx.Client) -> None:
    record_id = next(iter(sandbox.alive("Account")))
    url = f"v67.0/sobjects/Account/{record_id}"
    parts = [
        {"method": "PATCH", "url": url, "richInput": {"Name": "Batched"}},
        {"method": "GET", "url": "v67.0/sobjects/Account/001000000000009"},
        {"method": "GET", "url": f"{url}?fields=Name"},
    ]
    body = api.post("/composite/batch", json={"batchRequests": parts}).json()
    assert body["hasErrors"] and [one["statusCode"] for one in body["results"]] == [204, 404, 200]
    assert body["results"][2]["result"]["Name"] == "Batched"
    body = api.post("/composite/batch", json={"batchRequests": parts, "haltOnError": True}).json()
    assert [one["statusCode"] for one in body["results"]] == [204, 404, 412]
