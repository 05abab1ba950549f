"""Associations: plain, primary and labelled, from both sides."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox

from .conftest import unique

PRIMARY = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}


@pytest.fixture
def contact(account: Sandbox) -> str:
    return account.create("contacts", lastname=unique("C"))


@pytest.fixture
def companies(account: Sandbox) -> list[str]:
    return [account.create("companies", name=unique("A")) for _ in range(2)]


def senses(api: httpx.Client, kind: str, key: str, to: str) -> dict[str, set[tuple[int, str | None]]]:
    """The senses of a record's associations, by the other record."""
    results = api.get(f"/crm/v4/objects/{kind}/{key}/associations/{to}").json()["results"]
    return {
        one["toObjectId"]: {(sense["typeId"], sense["label"]) for sense in one["associationTypes"]} for one in results
    }


def test_one_primary_company(api: httpx.Client, contact: str, companies: list[str]) -> None:
    first, second = companies
    base = f"/crm/v4/objects/contacts/{contact}/associations"
    plain = api.put(f"{base}/default/companies/{first}")
    assert plain.status_code == 200
    assert {one["associationSpec"]["associationTypeId"] for one in plain.json()["results"]} == {279, 280}
    assert senses(api, "contacts", contact, "companies") == {first: {(279, None)}}
    assert api.put(f"{base}/companies/{first}", json=[PRIMARY]).status_code == 201
    assert senses(api, "companies", first, "contacts") == {contact: {(280, None), (2, "Primary")}}
    assert api.put(f"{base}/companies/{second}", json=[PRIMARY]).json()["labels"] == ["Primary"]
    assert senses(api, "contacts", contact, "companies") == {
        first: {(279, None)}, second: {(279, None), (1, "Primary")}
    }  # fmt: skip
    assert api.delete(f"{base}/companies/{second}").status_code == 204
    assert senses(api, "contacts", contact, "companies") == {first: {(279, None)}}


def test_labels_of_the_account(api: httpx.Client, contact: str, companies: list[str]) -> None:
    many = "/crm/v4/associations/contacts/companies"
    name = unique("billing")
    made = api.post(f"{many}/labels", json={"label": name.title(), "name": name}).json()["results"]
    own = next(one for one in api.get(f"{many}/labels").json()["results"] if one["label"] == name.title())
    assert own["category"] == "USER_DEFINED"
    assert own in made
    spec = {"associationCategory": "USER_DEFINED", "associationTypeId": own["typeId"]}
    pair = {"from": {"id": contact}, "to": {"id": companies[0]}}
    reply = api.post(f"{many}/batch/create", json={"inputs": [pair | {"types": [spec]}]})
    assert reply.json()["results"][0]["labels"] == [name.title()]
    assert senses(api, "contacts", contact, "companies")[companies[0]] == {(279, None), (own["typeId"], name.title())}
    listed = api.get(f"/crm/v3/objects/contacts/{contact}?associations=company").json()
    assert {one["type"] for one in listed["associations"]["companies"]["results"]} == {
        name, "contact_to_company_unlabeled"
    }  # fmt: skip

    api.post(f"{many}/batch/labels/archive", json={"inputs": [pair | {"types": [spec]}]}).raise_for_status()
    assert senses(api, "contacts", contact, "companies")[companies[0]] == {(279, None)}
    plain = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 279}
    api.post(f"{many}/batch/labels/archive", json={"inputs": [pair | {"types": [plain]}]}).raise_for_status()
    assert senses(api, "contacts", contact, "companies") == {}


def test_batch_read(api: httpx.Client, contact: str, companies: list[str]) -> None:
    inputs = [{"from": {"id": contact}, "to": {"id": one}} for one in companies]
    made = api.post("/crm/v4/associations/contacts/companies/batch/associate/default", json={"inputs": inputs})
    assert made.status_code == 200
    reply = api.post(
        "/crm/v4/associations/companies/contacts/batch/read", json={"inputs": [{"id": companies[0]}, {"id": "17"}]}
    )
    assert reply.status_code == 207
    [one] = reply.json()["results"]
    assert (one["from"], [to["toObjectId"] for to in one["to"]]) == ({"id": companies[0]}, [contact])
    assert reply.json()["errors"][0]["context"]["fromObjectId"] == ["17"]


def test_archived_records_have_none(account: Sandbox, api: httpx.Client, contact: str, companies: list[str]) -> None:
    for one in companies:
        api.put(f"/crm/v4/objects/contacts/{contact}/associations/default/companies/{one}")
    account.delete("companies", companies[0])
    assert set(senses(api, "contacts", contact, "companies")) == {companies[1]}
    account.undelete("companies", companies[0])
    assert set(senses(api, "contacts", contact, "companies")) == set(companies)


def test_with_a_new_record(account: Sandbox, api: httpx.Client, contact: str) -> None:
    body: dict[str, Any] = {
        "properties": {"hs_timestamp": "2026-01-01T00:00:00Z", "hs_note_body": "Hello"},
        "associations": [
            {
                "to": {"id": contact},
                "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 202}],
            }
        ],
    }
    note = api.post("/crm/v3/objects/notes", json=body).json()["id"]
    assert senses(api, "notes", note, "contacts") == {contact: {(202, None)}}
    body["associations"][0]["types"][0]["associationTypeId"] = 99_999
    count = len(account.records("notes"))
    assert api.post("/crm/v3/objects/notes", json=body).status_code == 400
    assert len(account.records("notes")) == count


def test_what_cannot_be(api: httpx.Client, contact: str, companies: list[str]) -> None:
    base = f"/crm/v4/objects/contacts/{contact}/associations"
    assert api.put(f"{base}/default/companies/17").status_code == 404
    assert api.put(f"{base}/default/products/{companies[0]}").status_code == 400
    wrong = {"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 3}
    assert api.put(f"{base}/companies/{companies[0]}", json=[wrong]).status_code == 400
    assert api.get("/crm/v4/objects/contacts/17/associations/companies").status_code == 404


def test_the_truth_of_edges(account: Sandbox, contact: str, companies: list[str]) -> None:
    fields = {"from_id": contact, "to_id": companies[0]}
    made = account.create("contacts_to_companies", **fields)
    assert made == f"{contact}-{companies[0]}-279"
    assert account.alive("contacts_to_companies")[made].items() >= (fields | {"type": 279, "label": None}).items()
    assert f"{companies[0]}-{contact}-280" in account.alive("companies_to_contacts")
    account.delete("contacts_to_companies", made)
    assert made not in account.alive("contacts_to_companies")
