"""The control API, the properties of an account, its seed, and its life beside other vendors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox

from .conftest import MakeAccount, found, rest, unique, where


@pytest.mark.parametrize("name", ["line_items", "line_item", "0-8", "contacts", "contact", "notes"])
def test_names(account: Sandbox, name: str) -> None:
    assert account.records(name)


def test_a_person_may_write_what_the_api_may_not(account: Sandbox) -> None:
    made = account.create("contacts", email="no address", createdate="2020-01-01T00:00:00Z")
    assert account.alive("contacts")[made]["createdate"] == "2020-01-01T00:00:00Z"
    with pytest.raises(httpx.HTTPStatusError, match="PROPERTY_DOESNT_EXIST"):
        account.create("contacts", nothing="x")
    for call in (account.delete, account.undelete):
        with pytest.raises(httpx.HTTPStatusError, match="404"):
            call("contacts", "17")
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        account.create("rockets", name="x")


def test_merge_of_several(account: Sandbox) -> None:
    ids = [account.create("companies", name=unique("M")) for _ in range(3)]
    made = account.control("POST", "/companies/merge", {"winner": ids[0], "losers": ids[1:]})["id"]
    assert set(ids) < set(account.alive("companies")[made]["hs_merged_object_ids"].split(";"))


def test_owners_and_pipelines(account: Sandbox, api: httpx.Client) -> None:
    made = account.create("owners", email="new@acme.test", firstName="New")
    assert api.get("/crm/v3/owners", params={"email": "NEW@acme.test"}).json()["results"][0]["id"] == made
    account.update("owners", made, lastName="Owner")
    account.delete("owners", made)
    assert api.get(f"/crm/v3/owners/{made}").status_code == 404
    gone = api.get(f"/crm/v3/owners/{made}?archived=true").json()
    assert (gone["lastName"], gone["archived"], "userId" in gone) == ("Owner", True, False)

    account.control("PATCH", "/pipelines/0", {"fields": {"label": "Help"}})
    assert api.get("/crm/v3/pipelines/tickets/0").json()["label"] == "Help"
    stage = api.post("/crm/v3/pipelines/tickets/0/stages", json={"label": "Parked", "displayOrder": 9}).json()
    assert stage["id"] in {one["id"] for one in account.alive("pipelines")["0"]["stages"]}
    ticket = {"subject": "S", "hs_pipeline_stage": stage["id"]}
    assert api.post("/crm/v3/objects/tickets", json={"properties": ticket}).status_code == 201
    assert api.delete(f"/crm/v3/pipelines/tickets/0/stages/{stage['id']}").status_code == 204
    assert api.post("/crm/v3/objects/tickets", json={"properties": ticket}).status_code == 400


def test_schema(account: Sandbox, api: httpx.Client) -> None:
    def described(name: str, **params: str) -> dict[str, Any]:
        reply = api.get(f"/crm/v3/properties/companies/{name}", params=params)
        return dict(reply.json())

    account.schema("companies", "add", "grade", type="string")
    assert described("grade")["type"] == "string"
    made = account.create("companies", name="Graded", grade="7")
    other = account.create("companies", name="Not graded", grade="good")
    before = account.records("companies")[made]["modified_at"]
    account.schema("companies", "retype", "grade", type="number")
    assert described("grade")["type"] == "number"
    assert [account.alive("companies")[one]["grade"] for one in (made, other)] == ["7", None]
    account.schema("companies", "rename", "grade", to="mark")
    assert account.alive("companies")[made]["mark"] == "7"
    assert found(api, "companies", where("mark", "GTE", "7")) == [made]
    assert described("grade")["category"] == "OBJECT_NOT_FOUND"
    account.schema("companies", "picklist", "mark", to=["7", "8"])
    assert [one["value"] for one in described("mark")["options"]] == ["7", "8"]
    account.schema("companies", "picklist", "mark", to="9")
    assert len(described("mark")["options"]) == 3
    assert account.records("companies")[made]["modified_at"] == before
    account.schema("companies", "drop", "mark")
    assert described("mark", archived="true")["archived"] is True
    assert "mark" not in account.alive("companies")[made]
    gone = api.get(f"/crm/v3/objects/companies/{made}?properties=mark").json()
    assert "mark" not in gone["properties"]
    for order in ({"action": "drop", "field": "hs_object_id"}, {"action": "burn", "field": "name"}):
        with pytest.raises(httpx.HTTPStatusError, match="400"):
            account.control("POST", "/schema", {"object": "companies", **order})


def test_describe(api: httpx.Client) -> None:
    for kind in ("contacts", "companies", "deals", "tickets", "products", "line_items", "calls", "emails", "meetings",
                 "notes", "tasks"):  # fmt: skip
        results = {one["name"]: one for one in api.get(f"/crm/v3/properties/{kind}").json()["results"]}
        assert results["crm_assets_row_id"]["hasUniqueValue"]
        assert results["hs_object_id"]["modificationMetadata"]["readOnlyValue"]
        cursor = "lastmodifieddate" if kind == "contacts" else "hs_lastmodifieddate"
        assert results[cursor]["type"] == "datetime"
    stages = api.get("/crm/v3/properties/contacts/lifecyclestage").json()
    assert (stages["type"], stages["options"][0]["value"]) == ("enumeration", "subscriber")


def test_properties_are_admins_work(api: httpx.Client) -> None:
    base, name = "/crm/v3/properties/contacts", unique("own_")
    body = {"name": name, "label": "Own", "type": "string", "fieldType": "text", "groupName": "contactinformation"}
    assert api.post(base, json=body | {"hasUniqueValue": True}).status_code == 201
    assert api.post(base, json=body).status_code == 409
    assert api.post(base, json=body | {"name": "No Name"}).status_code == 400
    assert api.post(base, json={"name": "half"}).status_code == 400
    assert api.patch(f"{base}/{name}", json={"label": "Ours"}).json()["label"] == "Ours"
    assert api.patch(f"{base}/firstname", json={"type": "number"}).status_code == 400
    first = api.post("/crm/v3/objects/contacts", json={"properties": {name: "Only"}}).json()["id"]
    assert api.get(f"/crm/v3/objects/contacts/only?idProperty={name}").json()["id"] == first
    read = api.post(f"{base}/batch/read", json={"inputs": [{"name": name}, {"name": "none"}], "archived": False})
    assert (read.status_code, len(read.json()["results"])) == (207, 1)
    assert api.delete(f"{base}/{name}").status_code == 204
    assert api.delete(f"{base}/firstname").status_code == 400


SEED = {
    "owners.csv": "id,email,firstName\n31,o@a.example,Olga\n",
    "companies.csv": "id,name,domain,industry,founded_year,createdate,hs_lastmodifieddate\n"
    "900,ACME,acme.example.com,TECHNOLGY,1996,2016-02-01T17:21:04Z,2016-10-01T17:21:04Z\n",
    "contacts.csv": "id,firstname,email,date_of_birth,lifecyclestage,company_id,createdate,lastmodifieddate\n"
    "20102,harley,H@a.example,19080419,customer,900,2016-03-02T20:52:13Z,2016-03-05T22:39:43Z\n"
    "20105,madeline,,19081128,opportunity,,2016-03-03T02:00:31Z,2016-03-06T22:50:01Z\n",
}


def test_seed(make_account: MakeAccount, tmp_path: Path) -> None:
    folder = tmp_path / "hubspot"
    folder.mkdir()
    for name, text in SEED.items():
        (folder / name).write_text(text, encoding="utf-8")
    account = make_account(seed_dir=tmp_path)
    contacts = account.alive("contacts")
    assert set(contacts) == {"20102", "20105"}
    assert contacts["20102"].items() >= {"email": "H@a.example", "lifecyclestage": "customer"}.items()
    assert "company_id" not in contacts["20102"]
    assert contacts["20105"]["lastmodifieddate"] == "2016-03-06T22:50:01Z"
    assert account.alive("companies")["900"].items() >= {"industry": "TECHNOLGY", "founded_year": "1996"}.items()
    edges = {(one["from_id"], one["to_id"], one["label"]) for one in account.alive("contacts_to_companies").values()}
    assert edges == {("20102", "900", None), ("20102", "900", "Primary")}
    with rest(account) as api:
        assert api.get("/crm/v3/properties/companies/founded_year").json()["type"] == "number"
        assert api.get("/crm/v3/objects/contacts/h@a.example?idProperty=email").json()["id"] == "20102"
        assert api.get("/crm/v3/owners/31").json()["email"] == "o@a.example"


def test_a_seed_that_cannot_be_read(make_account: MakeAccount, tmp_path: Path) -> None:
    (tmp_path / "hubspot").mkdir()
    (tmp_path / "hubspot" / "rockets.csv").write_text("id\n1\n", encoding="utf-8")
    with pytest.raises(RuntimeError, match="there is no object rockets"):
        make_account(seed_dir=tmp_path)


def test_vendors_live_side_by_side(make_sandbox: MakeSandbox) -> None:
    """One server, each vendor at its own paths, with its own faults and counts."""
    salesforce = make_sandbox(rows=20, vendors=("salesforce", "hubspot"))
    salesforce.faults({"kind": "503", "times": 9})
    with rest(salesforce) as api:
        assert api.get("/crm/v3/objects/contacts").status_code == 200
        assert api.get("/hubspot/crm/v3/objects/contacts").status_code == 200
        assert api.get("/services/data/v67.0/sobjects").status_code == 503
        assert api.get("/salesforce/services/data/v67.0/sobjects").status_code == 503
        assert api.get("/nobody/knows").status_code == 404
        calls = api.get("/_sandbox/hubspot/calls").json()
        assert calls["by_status"] == {"200": 2}
        assert api.get("/_sandbox/rockets/calls").status_code == 404
    assert salesforce.calls()["by_status"] == {"503": 2}
