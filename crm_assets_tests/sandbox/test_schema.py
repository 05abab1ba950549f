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
