"""Records one by one and in batches, archived, restored, merged and erased."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox, wait_until

from .conftest import MakeAccount, mail, make_primary, rest, unique

CONTACTS = "/crm/v3/objects/contacts"
ROW_ID = "crm_assets_row_id"


def test_a_list_in_pages(account: Sandbox, api: httpx.Client) -> None:
    contact, company = account.create("contacts", lastname="Listed"), account.create("companies", name="Listed")
    make_primary(api, contact, company)
    found: list[dict[str, Any]] = []
    after = None
    while True:
        params = {"limit": "100", "associations": "companies"} | ({"after": after} if after else {})
        page = api.get(CONTACTS, params=params).json()
        found += page["results"]
        if "paging" not in page:
            break
        after = page["paging"]["next"]["after"]
        assert page["paging"]["next"]["link"].startswith(f"{account.url}{CONTACTS}?after=")
    ids = [int(one["id"]) for one in found]
    assert ids == sorted(ids)
    assert {one["id"] for one in found} == set(account.alive("contacts"))
    [some] = [one for one in found if one["id"] == contact]
    assert {one["type"] for one in some["associations"]["companies"]["results"]} == {
        "contact_to_company", "contact_to_company_unlabeled"
    }  # fmt: skip


def test_properties_of_a_reply(account: Sandbox, api: httpx.Client) -> None:
    made = account.create("companies", name="Named", domain="named.example")
    unasked = api.get(f"/crm/v3/objects/companies/{made}").json()
    assert set(unasked["properties"]) == {"createdate", "domain", "hs_lastmodifieddate", "hs_object_id", "name"}
    asked = api.get(f"/crm/v3/objects/companies/{made}?properties=phone,nothing&properties=city").json()
    assert asked["properties"].items() >= {"phone": None, "city": None}.items()
    assert "nothing" not in asked["properties"]
    assert asked["createdAt"] == asked["properties"]["createdate"]
    assert "archivedAt" not in asked


@pytest.mark.parametrize(
    ("kind", "name", "given", "kept"),
    [
        ("contacts", "email", " Ana@ACME.test ", "ana@acme.test"),
        ("deals", "amount", 12, "12"),
        ("deals", "amount", "1200.50", "1200.50"),
        ("deals", "closedate", "1767323045120", "2026-01-02T03:04:05.120Z"),
        ("deals", "closedate", "2026-01-02T04:04:05.000+01:00", "2026-01-02T03:04:05Z"),
        ("companies", "name", "  spaces stay ", "  spaces stay "),
        ("contacts", "lifecyclestage", "customer", "customer"),
    ],
)
def test_values_kept(api: httpx.Client, kind: str, name: str, given: Any, kept: str) -> None:
    made = api.post(f"/crm/v3/objects/{kind}", json={"properties": {name: given}})
    assert made.status_code == 201, made.text
    assert made.json()["properties"][name] == kept
    assert made.headers["Location"].endswith(f"/{kind}/{made.json()['id']}")
    cleared = api.patch(f"/crm/v3/objects/{kind}/{made.json()['id']}", json={"properties": {name: ""}})
    assert cleared.json()["properties"][name] is None


@pytest.mark.parametrize(
    ("kind", "properties", "codes"),
    [
        ("contacts", {"nothing": "x"}, ["PROPERTY_DOESNT_EXIST"]),
        ("contacts", {"hs_object_id": "1"}, ["READ_ONLY_VALUE"]),
        ("contacts", {"email": "no address", "lifecyclestage": "none"}, ["INVALID_EMAIL", "INVALID_OPTION"]),
        ("deals", {"amount": "many"}, ["INVALID_LONG"]),
        ("deals", {"closedate": "soon"}, ["INVALID_DATE"]),
        ("deals", {"dealstage": "1"}, ["INVALID_OPTION"]),
        ("deals", {"hubspot_owner_id": "12"}, ["INVALID_OPTION"]),
    ],
)
def test_values_refused(api: httpx.Client, kind: str, properties: dict[str, str], codes: list[str]) -> None:
    reply = api.post(f"/crm/v3/objects/{kind}", json={"properties": properties})
    body = reply.json()
    assert (reply.status_code, body["category"]) == (400, "VALIDATION_ERROR")
    assert [one["code"] for one in body["errors"]] == codes
    head, _, listed = body["message"].partition(": ")
    assert head == "Property values were not valid"
    assert [(one["name"], one["error"]) for one in json.loads(listed)] == list(zip(properties, codes, strict=True))


def test_what_has_to_be_there(api: httpx.Client) -> None:
    reply = api.post("/crm/v3/objects/notes", json={"properties": {"hs_note_body": "When?"}})
    assert (reply.status_code, reply.json()["context"]) == (400, {"properties": ["hs_timestamp"]})
    made = api.post(
        "/crm/v3/objects/notes", json={"properties": {"hs_note_body": "Now", "hs_timestamp": "2026-01-02T03:04:05Z"}}
    )
    assert made.json()["properties"]["hs_createdate"]


def test_unknown_ids(api: httpx.Client) -> None:
    number = api.get(f"{CONTACTS}/17")
    assert (number.status_code, number.json()["message"]) == (404, "resource not found")
    assert "category" not in number.json()
    word = api.get(f"{CONTACTS}/word").json()
    assert (word["category"], word["context"]) == ("OBJECT_NOT_FOUND", {"id": ["word"]})
    assert api.delete(f"{CONTACTS}/17").status_code == 404


def test_a_write_without_a_change_moves_no_stamp(account: Sandbox, api: httpx.Client) -> None:
    made = account.create("contacts", firstname="Same")
    before = api.get(f"{CONTACTS}/{made}").json()["updatedAt"]
    same = api.patch(f"{CONTACTS}/{made}", json={"properties": {"firstname": "Same"}}).json()
    assert same["updatedAt"] == before
    other = api.patch(f"{CONTACTS}/{made}", json={"properties": {"firstname": "Other"}}).json()
    assert other["updatedAt"] > before


def test_what_the_vendor_works_out(account: Sandbox, api: httpx.Client) -> None:
    line = account.create("line_items", name="Pens", price="2.50", quantity="4")
    assert account.alive("line_items")[line]["amount"] == "10"
    deal = api.post("/crm/v3/objects/deals", json={"properties": {"dealstage": "closedwon"}}).json()["id"]
    facts = account.alive("deals")[deal]
    assert (facts["pipeline"], facts["hs_is_closed_won"], facts["hs_deal_stage_probability"]) == (
        "default", "true", "1.0"
    )  # fmt: skip


def test_archive_and_restore(account: Sandbox, api: httpx.Client) -> None:
    """The stamp of the last change does not move when a record is archived."""
    address = mail()
    made = account.create("contacts", email=address)
    before = api.get(f"{CONTACTS}/{made}").json()["updatedAt"]
    assert api.delete(f"{CONTACTS}/{made}").status_code == 204
    assert api.delete(f"{CONTACTS}/{made}").status_code == 204
    assert api.get(f"{CONTACTS}/{made}").status_code == 404
    assert api.patch(f"{CONTACTS}/{made}", json={"properties": {"city": "x"}}).status_code == 404
    archived = api.get(f"{CONTACTS}/{made}?archived=true").json()
    assert (archived["archived"], archived["updatedAt"]) == (True, before)
    assert archived["archivedAt"] > before
    listed = api.get(f"{CONTACTS}?archived=true&limit=100").json()["results"]
    assert made in {one["id"] for one in listed}
    assert made not in account.alive("contacts")

    other = account.create("contacts", email=address)
    with pytest.raises(httpx.HTTPStatusError, match="409"):
        account.undelete("contacts", made)
    account.delete("contacts", other)
    account.undelete("contacts", made)
    assert api.get(f"{CONTACTS}/{made}").json()["updatedAt"] == before


def test_batches_need_trace_ids_to_fail_in_part(account: Sandbox, api: httpx.Client) -> None:
    good, bad = mail("good"), "no address"
    plain = {"inputs": [{"properties": {"email": good}}, {"properties": {"email": bad}}]}
    refused = api.post(f"{CONTACTS}/batch/create", json=plain)
    assert (refused.status_code, refused.json()["category"]) == (400, "VALIDATION_ERROR")
    assert good not in {one["email"] for one in account.alive("contacts").values()}
    for number, one in enumerate(plain["inputs"]):
        one["objectWriteTraceId"] = f"t{number}"  # type: ignore[assignment]
    partial = api.post(f"{CONTACTS}/batch/create", json=plain)
    body = partial.json()
    assert (partial.status_code, body["status"], body["numErrors"]) == (207, "COMPLETE", 1)
    assert [one["objectWriteTraceId"] for one in body["results"]] == ["t0"]
    assert body["errors"][0]["context"]["objectWriteTraceId"] == ["t1"]
    assert body["errors"][0]["category"] == "VALIDATION_ERROR"


def test_results_come_in_another_order(api: httpx.Client) -> None:
    inputs = [{"properties": {"lastname": unique("L")}, "objectWriteTraceId": str(i)} for i in range(3)]
    made = api.post(f"{CONTACTS}/batch/create", json={"inputs": inputs})
    assert made.status_code == 201
    assert [one["objectWriteTraceId"] for one in made.json()["results"]] == ["2", "1", "0"]


def test_updates_of_what_is_not_there(account: Sandbox, api: httpx.Client) -> None:
    made = account.create("contacts", lastname="There")
    inputs = [{"id": one, "properties": {"lastname": "New"}} for one in (made, "17")]
    reply = api.post(f"{CONTACTS}/batch/update", json={"inputs": inputs})
    assert reply.status_code == 207
    assert [one["id"] for one in reply.json()["results"]] == [made]
    [error] = reply.json()["errors"]
    assert (error["category"], error["context"]["ids"]) == ("OBJECT_NOT_FOUND", ["17"])
    twice = api.post(f"{CONTACTS}/batch/update", json={"inputs": inputs[:1] * 2})
    assert (twice.status_code, twice.json()["category"]) == (400, "VALIDATION_ERROR")
    many = api.post(f"{CONTACTS}/batch/archive", json={"inputs": [{"id": str(i)} for i in range(1, 102)]})
    assert many.status_code == 400
    assert api.post(f"{CONTACTS}/batch/archive", json={"inputs": [{"id": "17"}, {"id": made}]}).status_code == 204
    assert made not in account.alive("contacts")


def test_upsert(account: Sandbox, api: httpx.Client) -> None:
    first, second = unique("row"), unique("row")
    known = account.create("deals", dealname="Known", **{ROW_ID: first})
    inputs = [
        {"id": one, "idProperty": ROW_ID, "properties": {"dealname": f"Now {one}"}, "objectWriteTraceId": one}
        for one in (first, second)
    ]
    reply = api.post("/crm/v3/objects/deals/batch/upsert", json={"inputs": inputs})
    made = {one["objectWriteTraceId"]: one for one in reply.json()["results"]}
    assert (made[first]["id"], made[first]["new"], made[second]["new"]) == (known, False, True)
    assert account.alive("deals")[made[second]["id"]][ROW_ID] == second
    by_key = api.get(f"/crm/v3/objects/deals/{second}?idProperty={ROW_ID}").json()
    assert by_key["id"] == made[second]["id"]
    read = api.post(
        "/crm/v3/objects/deals/batch/read",
        json={"idProperty": ROW_ID, "inputs": [{"id": first}, {"id": "none"}], "properties": ["dealname"]},
    )
    assert read.status_code == 207
    assert [one["properties"]["dealname"] for one in read.json()["results"]] == [f"Now {first}"]

    taken = api.patch(f"/crm/v3/objects/deals/{known}", json={"properties": {ROW_ID: second}})
    assert taken.json()["errors"][0]["code"] == "CONFLICTING_UNIQUE_VALUE"
    account.delete("deals", known)
    assert api.get(f"/crm/v3/objects/deals/{first}?idProperty={ROW_ID}").status_code == 404
    assert api.get(f"/crm/v3/objects/deals/{first}?idProperty={ROW_ID}&archived=true").json()["id"] == known
    wrong = api.get("/crm/v3/objects/deals/x?idProperty=dealname")
    assert wrong.status_code == 400


def test_chained_merges(account: Sandbox, api: httpx.Client) -> None:
    """Each merge makes a new record, which names all that it was made of; every old id leads to it."""
    ids = [account.create("contacts", email=mail("merge"), firstname=f"F{n}") for n in range(3)]
    account.update("contacts", ids[1], jobtitle="Buyer")
    company = account.create("companies", name="Merged into")
    account.control("POST", "/contacts_to_companies", {"fields": {"from_id": ids[1], "to_id": company, "type": 1}})

    def merge(first: str, second: str) -> str:
        body = {"primaryObjectId": first, "objectIdToMerge": second}
        return str(api.post(f"{CONTACTS}/merge", json=body).json()["id"])

    once = merge(ids[0], ids[1])
    twice = merge(ids[2], once)
    truth = account.alive("contacts")
    assert not set(truth) & {*ids, once}
    assert (truth[twice]["firstname"], truth[twice]["jobtitle"]) == ("F2", "Buyer")
    assert set(truth[twice]["hs_merged_object_ids"].split(";")) == {*ids, once}
    for old in (*ids, once):
        assert api.get(f"{CONTACTS}/{old}").json()["id"] == twice
        assert account.records("contacts")[old]["deleted"]
    held = api.get(f"/crm/v4/objects/contacts/{twice}/associations/companies").json()["results"]
    assert [one["toObjectId"] for one in held] == [company]
    archived = api.get(f"{CONTACTS}?archived=true&limit=100").json()["results"]
    assert not {one["id"] for one in archived} & {*ids, once}
    read = api.post(f"{CONTACTS}/batch/read", json={"inputs": [{"id": ids[0]}], "properties": []})
    assert (read.status_code, read.json()["results"]) == (207, [])
    again = api.post(CONTACTS, json={"properties": {"email": account.records("contacts")[ids[1]]["fields"]["email"]}})
    assert (again.status_code, again.json()["message"]) == (409, f"Contact already exists. Existing ID: {twice}")


def test_merges_that_cannot_be(account: Sandbox, api: httpx.Client) -> None:
    note = [account.create("notes", hs_timestamp="2026-01-01T00:00:00Z") for _ in range(2)]
    body = {"primaryObjectId": note[0], "objectIdToMerge": note[1]}
    assert api.post("/crm/v3/objects/notes/merge", json=body).status_code == 400
    body = {"primaryObjectId": "17", "objectIdToMerge": "18"}
    assert api.post(f"{CONTACTS}/merge", json=body).status_code == 404


def test_erased_for_good(account: Sandbox, api: httpx.Client) -> None:
    address = mail("erased")
    made = account.create("contacts", email=address)
    reply = api.post(f"{CONTACTS}/gdpr-delete", json={"objectId": address, "idProperty": "email"})
    assert reply.status_code == 204
    assert api.get(f"{CONTACTS}/{made}?archived=true").status_code == 404
    assert made not in account.records("contacts")


def test_late_commit(account: Sandbox, api: httpx.Client) -> None:
    """A record turns up after others that are newer by their stamps."""
    account.faults({"kind": "late_commit", "path": "/_sandbox/hubspot/contacts"})
    late = account.create("contacts", lastname="Late")
    early = account.create("contacts", lastname="Early")
    assert api.get(f"{CONTACTS}/{late}").status_code == 404
    newer = api.get(f"{CONTACTS}/{early}").json()["updatedAt"]
    found = wait_until(lambda: (reply := api.get(f"{CONTACTS}/{late}")).status_code == 200 and reply.json(), 15)
    assert found["updatedAt"] < newer


def test_half_a_batch(account: Sandbox, api: httpx.Client) -> None:
    account.faults({"kind": "partial_batch", "path": "/batch/create"})
    inputs = [{"properties": {"lastname": unique("H")}, "objectWriteTraceId": str(i)} for i in range(4)]
    reply = api.post(f"{CONTACTS}/batch/create", json={"inputs": inputs})
    assert reply.status_code == 207
    assert {one["objectWriteTraceId"] for one in reply.json()["results"]} == {"0", "2"}
    assert [one["context"]["objectWriteTraceId"] for one in reply.json()["errors"]] == [["1"], ["3"]]


def test_everything_survives_a_kill(make_account: MakeAccount) -> None:
    account = make_account()
    made = account.create("contacts", email="kept@acme.test", firstname="Kept")
    account.schema("contacts", "add", "score", type="number")
    account.update("contacts", made, score="7")
    gone = account.create("contacts", lastname="Gone")
    account.delete("contacts", gone)
    account.control("PATCH", "/pipelines/default", {"fields": {"label": "Renamed"}})
    before = account.records("contacts")
    account.kill()
    account.start()
    assert account.records("contacts") == before
    with rest(account) as api:
        twice = api.post(CONTACTS, json={"properties": {"email": "kept@acme.test"}})
        assert twice.status_code == 409
        assert api.get("/crm/v3/pipelines/deals/default").json()["label"] == "Renamed"
        newer = api.post(CONTACTS, json={"properties": {"lastname": "Newer"}}).json()["id"]
        assert int(newer) > int(made)
