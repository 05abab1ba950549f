"""What a write may say, and what becomes of it."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from email.utils import formatdate
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox, wait_until
from crm_assets_tests.sandbox.conftest import query

KEY = "Crm_Assets_Row_Id__c"


@pytest.mark.parametrize(
    ("name", "fields", "code", "named"),
    [
        ("Contact", {"FirstName": "A"}, "REQUIRED_FIELD_MISSING", ["LastName"]),
        ("Contact", {"LastName": "x" * 81}, "STRING_TOO_LONG", ["LastName"]),
        ("Contact", {"LastName": "A", "Salutation": "Sir"}, "INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST",
         ["Salutation"]),
        ("Contact", {"LastName": "A", "Nope": 1}, "INVALID_FIELD", None),
        ("Contact", {"LastName": "A", "Name": "B"}, "INVALID_FIELD_FOR_INSERT_UPDATE", ["Name"]),
        ("Contact", {"LastName": "A", "SystemModstamp": "2020-01-01T00:00:00Z"},
         "INVALID_FIELD_FOR_INSERT_UPDATE", ["SystemModstamp"]),
        ("Contact", {"LastName": "A", "AccountId": "nonsense"}, "MALFORMED_ID", ["AccountId"]),
        ("Contact", {"LastName": "A", "AccountId": "001000000000001"}, "INVALID_CROSS_REFERENCE_KEY",
         ["AccountId"]),
        ("Contact", {"LastName": "A", "Email": "not an address"}, "INVALID_EMAIL_ADDRESS", ["Email"]),
        ("Contact", {"LastName": "A", "Birthdate": "tomorrow"}, "JSON_PARSER_ERROR", None),
        ("Contact", {"LastName": 5}, "JSON_PARSER_ERROR", None),
        ("Account", {"Name": "A", "NumberOfEmployees": "many"}, "JSON_PARSER_ERROR", None),
        ("Account", {"Name": "A", "AnnualRevenue": 1e19}, "NUMBER_OUTSIDE_VALID_RANGE", ["AnnualRevenue"]),
        ("Opportunity", {"Name": "A"}, "REQUIRED_FIELD_MISSING", ["StageName", "CloseDate"]),
        ("User", {"LastName": "A"}, "CANNOT_INSERT_UPDATE_ACTIVATE_ENTITY", None),
    ],
)  # fmt: skip
def test_refused(api: httpx.Client, name: str, fields: dict[str, Any], code: str, named: Any) -> None:
    reply = api.post(f"/sobjects/{name}", json=fields)
    assert reply.status_code == 400
    body = reply.json()[0]
    assert (body["errorCode"], body.get("fields")) == (code, named), body


def test_values_are_kept_as_the_real_system_keeps_them(sandbox: Sandbox, api: httpx.Client) -> None:
    fields = {"Name": "  Trim me ", "StageName": "Closed Won", "CloseDate": "2026-02-03", "Amount": 10.005,
              "NextStep": "   ", "Description": "two\nlines"}  # fmt: skip
    made = api.post("/sobjects/Opportunity", json=fields)
    assert made.status_code == 201
    row = sandbox.alive("Opportunity")[made.json()["id"]]
    assert row["Name"] == "Trim me" and row["NextStep"] is None and row["Description"] == "two\nlines"
    assert row["Amount"] == 10.01
    assert row["IsClosed"] is True and row["IsWon"] is True and row["Probability"] == 100
    assert row["OwnerId"] and row["CreatedDate"] == row["SystemModstamp"]


def test_update_moves_the_stamp_even_without_a_change(sandbox: Sandbox, api: httpx.Client) -> None:
    record_id, row = next(iter(sandbox.alive("Account").items()))
    assert api.patch(f"/sobjects/Account/{record_id[:15]}", json={"Name": row["Name"]}).status_code == 204
    after = sandbox.records("Account")[record_id]
    assert after["fields"]["SystemModstamp"] > row["SystemModstamp"]
    assert after["fields"]["LastModifiedDate"] == after["fields"]["SystemModstamp"]
    assert after["modified_at"][:19] == after["fields"]["SystemModstamp"][:19]
    assert api.patch(f"/sobjects/Account/{record_id}", json={"Name": None}).status_code == 400


def test_unknown_and_deleted_records(sandbox: Sandbox, api: httpx.Client) -> None:
    gone = sandbox.create("Lead", LastName="L", Company="C")
    sandbox.delete("Lead", gone)
    for method, body in (("GET", None), ("PATCH", {"LastName": "x"}), ("DELETE", None)):
        reply = api.request(method, f"/sobjects/Lead/{gone}", json=body)
        assert (reply.status_code, reply.json()[0]["errorCode"]) == (404, "ENTITY_IS_DELETED")
        reply = api.request(method, "/sobjects/Lead/00Q000000000009", json=body)
        assert (reply.status_code, reply.json()[0]["errorCode"]) == (404, "NOT_FOUND")
    assert api.put("/sobjects/Lead", json={}).status_code == 405


def test_external_id_is_unique_and_found(sandbox: Sandbox, api: httpx.Client) -> None:
    first = api.post("/sobjects/Lead", json={"LastName": "L", "Company": "C", KEY: "k"}).json()["id"]
    again = api.post("/sobjects/Lead", json={"LastName": "L", "Company": "C", KEY: "k"})
    assert again.json()[0]["errorCode"] == "DUPLICATE_VALUE" and first[:15] in again.json()[0]["message"]
    assert api.get(f"/sobjects/Lead/{KEY}/k").json()["Id"] == first
    only = api.patch(f"/sobjects/Lead/{KEY}/other", params={"updateOnly": "true"}, json={"LastName": "M"})
    assert only.status_code == 404
    # Two leads with one mail address: an upsert by that key cannot choose.
    for _ in range(2):
        sandbox.create("Lead", LastName="L", Company="C", Email="same@example.com")
    several = api.patch("/sobjects/Lead/Email/same@example.com", json={"LastName": "M"})
    assert several.status_code == 300 and len(several.json()) == 2
    # A deleted record does not hold its key, but keeps it for whoever looks in the bin.
    sandbox.delete("Lead", first)
    second = api.patch(f"/sobjects/Lead/{KEY}/k", json={"LastName": "N", "Company": "C"})
    assert second.status_code == 201 and second.json()["id"] != first
    found = api.get("/queryAll", params={"q": f"SELECT Id FROM Lead WHERE {KEY} = 'k'"}).json()["records"]
    assert {row["Id"] for row in found} == {first, second.json()["id"]}


def test_parent_by_external_id(sandbox: Sandbox, api: httpx.Client) -> None:
    parent = sandbox.create("Account", Name="P", **{KEY: "p-1"})
    made = api.post("/sobjects/Contact", json={"LastName": "C", "Account": {KEY: "p-1"}}).json()["id"]
    assert sandbox.alive("Contact")[made]["AccountId"] == parent
    missing = api.post("/sobjects/Contact", json={"LastName": "C", "Account": {KEY: "p-2"}}).json()[0]
    assert missing["errorCode"] == "INVALID_FIELD" and "p-2 not found" in missing["message"]


def test_preconditions(sandbox: Sandbox, api: httpx.Client) -> None:
    record_id = sandbox.create("Account", Name="Held")
    old, new = formatdate(1_500_000_000, usegmt=True), formatdate(4_000_000_000, usegmt=True)
    url = f"/sobjects/Account/{record_id}"
    assert api.patch(url, json={"Name": "X"}, headers={"If-Unmodified-Since": old}).status_code == 412
    assert sandbox.alive("Account")[record_id]["Name"] == "Held"
    assert api.patch(url, json={"Name": "X"}, headers={"If-Unmodified-Since": new}).status_code == 204
    assert api.get(url, headers={"If-Modified-Since": new}).status_code == 304
    assert api.patch(url, json={}, headers={"If-Unmodified-Since": "soon"}).status_code == 400


def test_row_with_chosen_fields(sandbox: Sandbox, api: httpx.Client) -> None:
    record_id, row = next(iter(sandbox.alive("Contact").items()))
    got = api.get(f"/sobjects/Contact/{record_id}", params={"fields": "LastName,Owner.Name"}).json()
    assert got["LastName"] == row["LastName"] and got["Owner"]["Name"]
    assert set(got) == {"attributes", "LastName", "Owner", "Id"}


def test_undelete_merge_and_deleted_list(sandbox: Sandbox, api: httpx.Client) -> None:
    winner, loser = (sandbox.create("Account", Name=name) for name in ("Winner", "Loser"))
    child = sandbox.create("Contact", LastName="Child", AccountId=loser)
    sandbox.merge("account", winner, [loser])
    gone = sandbox.records("Account")[loser]
    assert gone["deleted"] and gone["fields"]["MasterRecordId"] == winner
    assert sandbox.alive("Contact")[child]["AccountId"] == winner
    window = {"start": "2026-01-01T00:00:00Z", "end": "2099-01-01T00:00:00Z"}
    bad = api.get("/sobjects/Account/deleted/", params=window)
    assert bad.json()[0]["errorCode"] == "INVALID_REPLICATION_DATE"
    window["start"] = query(api, f"SELECT SystemModstamp FROM Account WHERE Id = '{winner}'")[0]["SystemModstamp"]
    body = api.get("/sobjects/Account/deleted/", params=window).json()
    assert loser in [one["id"] for one in body["deletedRecords"]]
    assert winner in api.get("/sobjects/Account/updated/", params=window).json()["ids"]
    with pytest.raises(httpx.HTTPStatusError, match="404"):
        sandbox.update("Account", "001000000000001", Name="x")
    sandbox.undelete("Account", loser)
    back = sandbox.records("Account")[loser]
    assert not back["deleted"] and back["modified_at"] > gone["modified_at"]


def test_late_commit(sandbox: Sandbox, api: httpx.Client) -> None:
    """A write that is committed behind the cursor: only latestDateCovered tells that it may come."""
    sandbox.faults({"kind": "late_commit", "path": "Lead"})
    made = sandbox.create("Lead", LastName="Late", Company="C")
    window = {"start": "2099-01-01T00:00:00Z", "end": "2099-01-02T00:00:00Z"}
    assert made not in sandbox.records("Lead")
    assert query(api, f"SELECT Id FROM Lead WHERE Id = '{made}'") == []
    assert api.get(f"/sobjects/Lead/{made}").status_code == 404
    other = sandbox.create("Lead", LastName="Prompt", Company="C")
    covered = api.get("/sobjects/Lead/updated", params=window).json()["latestDateCovered"]
    wait_until(lambda: made in sandbox.records("Lead"))
    records = sandbox.records("Lead")
    assert covered <= records[made]["fields"]["SystemModstamp"]
    assert records[made]["modified_at"] < records[other]["modified_at"]
    after = api.get("/sobjects/Lead/updated", params=window).json()["latestDateCovered"]
    assert after > records[made]["fields"]["SystemModstamp"]


def test_late_commit_of_an_api_call(sandbox: Sandbox, api: httpx.Client) -> None:
    """The caller waits for its own commit; nobody else sees the record before."""
    sandbox.faults({"kind": "late_commit", "method": "POST", "path": "/sobjects/Lead"})
    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(api.post, "/sobjects/Lead", json={"LastName": "Late", "Company": "Slow Ltd"})
        time.sleep(1)
        sql = "SELECT Id FROM Lead WHERE Company = 'Slow Ltd'"
        assert query(api, sql) == [] and not call.done()
        made = call.result().json()["id"]
    assert [row["Id"] for row in query(api, sql)] == [made]


def test_unknown_objects(sandbox: Sandbox, api: httpx.Client) -> None:
    assert api.get("/sobjects/Widget/describe").status_code == 404
    for path in ("/widget", "/account/1/2/3"):
        with pytest.raises(httpx.HTTPStatusError, match=r"^404"):
            sandbox.control("GET", path)
    assert httpx.get(f"{sandbox.url}/_sandbox/hubspot/contacts", trust_env=False).status_code == 404


def test_cases_count_themselves(sandbox: Sandbox) -> None:
    made = [sandbox.create("Case", Subject=text) for text in ("one", "two")]
    rows = sandbox.alive("Case")
    assert [rows[one]["CaseNumber"] for one in made] == ["00001001", "00001002"]
    assert rows[made[0]]["Status"] == "New" and rows[made[0]]["IsClosed"] is False
    sandbox.update("Case", made[0], Status="Closed")
    assert sandbox.alive("Case")[made[0]]["IsClosed"] is True
