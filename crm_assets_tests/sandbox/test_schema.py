"""An admin changes an object while the server runs."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox
from crm_assets_tests.sandbox.conftest import query


def field(api: httpx.Client, name: str) -> dict[str, Any] | None:
    fields = api.get("/sobjects/Contact/describe").json()["fields"]
    return next((one for one in fields if one["name"] == name), None)


def test_add_use_rename_retype_drop(sandbox: Sandbox, api: httpx.Client) -> None:
    record_id = next(iter(sandbox.alive("Contact")))
    before = sandbox.records("Contact")[record_id]["modified_at"]
    sandbox.schema("contact", "add", "Shoe_Size__c", type="string")
    assert sandbox.records("Contact")[record_id]["modified_at"] == before
    sandbox.update("Contact", record_id, Shoe_Size__c="42")
    sandbox.schema("Contact", "rename", "Shoe_Size__c", to="Feet__c")
    assert field(api, "Shoe_Size__c") is None
    assert query(api, f"SELECT Feet__c FROM Contact WHERE Id = '{record_id}'")[0]["Feet__c"] == "42"
    sandbox.schema("Contact", "retype", "Feet__c", type="double")
    described = field(api, "Feet__c")
    assert described is not None and described["type"] == "double"
    assert [row["Id"] for row in query(api, "SELECT Id FROM Contact WHERE Feet__c > 41.5")] == [record_id]
    sandbox.stop()
    sandbox.start()
    assert sandbox.alive("Contact")[record_id]["Feet__c"] == 42
    sandbox.schema("Contact", "drop", "Feet__c")
    reply = api.get("/query", params={"q": "SELECT Feet__c FROM Contact"})
    assert reply.json()[0]["errorCode"] == "INVALID_FIELD"
    reply = api.patch(f"/sobjects/Contact/{record_id}", json={"Feet__c": 1})
    assert reply.json()[0]["errorCode"] == "INVALID_FIELD"


def test_values_that_do_not_fit_a_new_type_are_lost(sandbox: Sandbox) -> None:
    good, bad = (sandbox.create("Contact", LastName="L", Department=text) for text in ("7", "seven"))
    sandbox.schema("Contact", "retype", "Department", type="int")
    assert sandbox.alive("Contact")[good]["Department"] == 7
    assert sandbox.alive("Contact")[bad]["Department"] is None


def test_picklist(sandbox: Sandbox, api: httpx.Client) -> None:
    made = sandbox.create("Contact", LastName="L", Salutation="Dr.")
    sandbox.schema("Contact", "picklist", "Salutation", to="Sir")
    sandbox.update("Contact", made, Salutation="Sir")
    sandbox.schema("Contact", "picklist", "Salutation", to=["Lady"])
    with pytest.raises(httpx.HTTPStatusError, match="RESTRICTED_PICKLIST"):
        sandbox.update("Contact", made, Salutation="Dr.")
    described = field(api, "Salutation")
    assert described is not None and [one["value"] for one in described["picklistValues"]] == ["Lady"]


def test_describe_says_when_it_changed(sandbox: Sandbox, api: httpx.Client) -> None:
    first = api.get("/sobjects/Contact/describe")
    later = {"If-Modified-Since": formatdate(4_000_000_000, usegmt=True)}
    assert api.get("/sobjects/Contact/describe", headers=later).status_code == 304
    assert api.get("/sobjects/Contact/describe", headers={
        "If-Modified-Since": formatdate(1_000_000_000, usegmt=True)}).status_code == 200  # fmt: skip
    assert "Last-Modified" in first.headers


@pytest.mark.parametrize(
    "body",
    [
        {"object": "Contact", "action": "add", "field": "LastName"},
        {"object": "Contact", "action": "add", "field": "x y"},
        {"object": "Contact", "action": "add", "field": "X__c", "type": "colour"},
        {"object": "Contact", "action": "drop", "field": "Nope__c"},
        {"object": "Contact", "action": "drop", "field": "SystemModstamp"},
        {"object": "Gadget", "action": "add", "field": "X__c"},
        {"object": "Contact", "action": "paint", "field": "LastName"},
    ],
)
def test_refused(module_sandbox: Sandbox, body: dict[str, str]) -> None:
    with pytest.raises(httpx.HTTPStatusError, match=r"^40[04]"):
        module_sandbox.control("POST", "/schema", body)


def test_a_custom_object(sandbox: Sandbox, api: httpx.Client) -> None:
    """Made with its first field; related, written and read like any other, also after a restart."""
    sandbox.schema("Project__c", "add", "Account__c", type="reference", to="Account")
    sandbox.schema("Project__c", "add", "Budget__c", type="currency")
    account = sandbox.create("Account", Name="Harbour")
    made = api.post("/sobjects/Project__c", json={"Name": "Pier", "Account__c": account, "Budget__c": 5}).json()["id"]
    assert api.get("/sobjects/Project__c/describe").json()["custom"] is True
    sandbox.stop()
    sandbox.start()
    (row,) = query(api, "SELECT Name, Budget__c, Account__r.Name FROM Project__c")
    assert (row["Name"], row["Budget__c"], row["Account__r"]["Name"]) == ("Pier", 5.0, "Harbour")
    assert sandbox.alive("Project__c")[made]["Account__c"] == account
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        sandbox.schema("Project", "add", "Budget__c", type="currency")


def test_formulas_and_roll_ups_are_computed_when_read_and_move_no_stamp(sandbox: Sandbox, api: httpx.Client) -> None:
    text, total = 'Account.Rating & " of " & Account.Owner.LastName', {"function": "SUM", "object": "Opportunity"}
    sandbox.schema("Contact", "add", "Tier__c", type="string", formula=text)
    sandbox.schema(
        "Account", "add", "Worth__c", type="currency", rollup={**total, "field": "AccountId", "of": "Amount"}
    )
    sandbox.schema("Account", "add", "Doubled__c", type="double", formula="(Worth__c + 1) * 2 - 2")
    parent = sandbox.create("Account", Name="P", Rating="Hot")
    child = sandbox.create("Contact", LastName="C", AccountId=parent)
    for amount in (10, 5):
        deal = {"Name": "O", "StageName": "Prospecting", "CloseDate": "2026-01-01"}
        sandbox.create("Opportunity", **deal, AccountId=parent, Amount=amount)

    def seen(fields: str, name: str, record_id: str) -> list[Any]:
        row = query(api, f"SELECT {fields} FROM {name} WHERE Id = '{record_id}'")[0]
        return [row[one] for one in fields.split(", ")]

    before = [seen("SystemModstamp", "Contact", child), seen("SystemModstamp", "Account", parent)]
    (owner,) = query(api, f"SELECT Owner.LastName FROM Account WHERE Id = '{parent}'")
    last = owner["Owner"]["LastName"]
    assert seen("Tier__c", "Contact", child) == [f"Hot of {last}"]
    assert seen("Worth__c, Doubled__c", "Account", parent) == [15, 30]
    (least,) = query(api, f"SELECT Id FROM Opportunity WHERE AccountId = '{parent}' AND Amount = 5")
    sandbox.delete("Opportunity", least["Id"])
    assert seen("Worth__c", "Account", parent) == [10]
    assert [row["Id"] for row in query(api, "SELECT Id FROM Account WHERE Worth__c = 10")] == [parent]
    assert before == [seen("SystemModstamp", "Contact", child), seen("SystemModstamp", "Account", parent)]
    sandbox.update("Account", parent, Rating="Cold")
    assert seen("Tier__c", "Contact", child) == [f"Cold of {last}"] == [sandbox.alive("Contact")[child]["Tier__c"]]
    assert seen("SystemModstamp", "Contact", child) == before[0]

    tier = field(api, "Tier__c")
    assert tier is not None and tier["calculated"] and tier["calculatedFormula"].startswith("Account.Rating")
    assert not tier["createable"] and not tier["updateable"]
    reply = api.patch(f"/sobjects/Contact/{child}", json={"Tier__c": "mine"})
    assert reply.json()[0]["errorCode"] == "INVALID_FIELD_FOR_INSERT_UPDATE"
    with pytest.raises(httpx.HTTPStatusError, match="no field Rating"):
        sandbox.schema("Account", "drop", "Rating")
    with pytest.raises(httpx.HTTPStatusError, match="cannot be read"):
        sandbox.schema("Account", "add", "Odd__c", type="string", formula="(Rating")
    sandbox.stop()
    sandbox.start()
    assert sandbox.alive("Account")[parent]["Doubled__c"] == 20
    sandbox.schema("Contact", "drop", "Tier__c")
    assert field(api, "Tier__c") is None


def test_what_the_caller_may_not_see_is_not_there_for_it(sandbox: Sandbox, api: httpx.Client) -> None:
    some = next(iter(sandbox.alive("Contact")))
    sandbox.schema("Contact", "hide", "Phone")
    assert field(api, "Phone") is None
    assert api.get("/query", params={"q": "SELECT Phone FROM Contact"}).json()[0]["errorCode"] == "INVALID_FIELD"
    assert api.patch(f"/sobjects/Contact/{some}", json={"Phone": "1"}).json()[0]["errorCode"] == "INVALID_FIELD"
    sandbox.update("Contact", some, Phone="2")
    sandbox.schema("Contact", "show", "Phone")
    assert query(api, f"SELECT Phone FROM Contact WHERE Id = '{some}'")[0]["Phone"] == "2"
    sandbox.schema("Contact", "hide", "")
    assert api.get("/sobjects/Contact/describe").json()[0]["errorCode"] == "NOT_FOUND"
    assert api.get("/query", params={"q": "SELECT Id FROM Contact"}).json()[0]["errorCode"] == "INVALID_TYPE"
    assert "Contact" not in {one["name"] for one in api.get("/sobjects").json()["sobjects"]}
    sandbox.stop()
    sandbox.start()
    assert api.get("/sobjects/Contact/describe").status_code == 404
    sandbox.schema("Contact", "show", "")
    assert api.get("/sobjects/Contact/describe").status_code == 200
