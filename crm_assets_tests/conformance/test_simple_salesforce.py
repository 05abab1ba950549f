"""An independent client finds in the sandbox what it finds in the real system."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable

import pytest
from simple_salesforce import Salesforce
from simple_salesforce.exceptions import (
    SalesforceAuthenticationFailed,
    SalesforceMalformedRequest,
    SalesforceResourceNotFound,
)

from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox

KEY = "Crm_Assets_Row_Id__c"


def rows(pages: list[str]) -> list[dict[str, str]]:
    return [row for page in pages for row in csv.DictReader(io.StringIO(page))]


def test_wrong_secret_is_refused(sandbox: Sandbox, log_in: Callable[..., Salesforce]) -> None:
    with pytest.raises(SalesforceAuthenticationFailed, match="invalid client credentials"):
        log_in(sandbox, secret="guess")


def test_log_in_and_query(sandbox: Sandbox, salesforce: Salesforce) -> None:
    answer = salesforce.query("SELECT Id, Name, Owner.Name FROM Account ORDER BY Name")
    truth = sandbox.alive("Account")
    users = sandbox.alive("User")
    assert answer["totalSize"] == len(truth) and answer["done"]
    for row in answer["records"]:
        assert row["Name"] == truth[row["Id"]]["Name"]
        assert row["Owner"]["Name"] == users[truth[row["Id"]]["OwnerId"]]["Name"]
    names = [row["Name"].lower() for row in answer["records"]]
    assert names == sorted(names)


def test_pages(make_sandbox: MakeSandbox, log_in: Callable[..., Salesforce]) -> None:
    sandbox = make_sandbox(rows=2000)
    salesforce = log_in(sandbox)
    small = {"Sforce-Query-Options": "batchSize=200"}
    page = salesforce.query("SELECT Id FROM Contact", headers=small)
    found = [row["Id"] for row in page["records"]]
    sizes = [len(found)]
    while not page["done"]:
        page = salesforce.query_more(page["nextRecordsUrl"], identifier_is_url=True)
        sizes.append(len(page["records"]))
        found += [row["Id"] for row in page["records"]]
    assert sizes[:-1] == [200] * (len(sizes) - 1) and len(sizes) > 2
    assert sorted(found) == sorted(sandbox.alive("Contact"))
    everything = salesforce.query_all("SELECT Id FROM Contact", headers=small)
    assert everything["totalSize"] == len(everything["records"]) == len(found)


def test_query_all_sees_the_recycle_bin(sandbox: Sandbox, salesforce: Salesforce) -> None:
    gone = next(iter(sandbox.alive("Lead")))
    salesforce.Lead.delete(gone)
    sql = f"SELECT Id, IsDeleted FROM Lead WHERE Id = '{gone}'"
    assert salesforce.query(sql)["totalSize"] == 0
    assert salesforce.query(sql, include_deleted=True)["records"][0]["IsDeleted"] is True


def test_record_life(sandbox: Sandbox, salesforce: Salesforce) -> None:
    made = salesforce.Contact.create({"LastName": "  Pine ", "FirstName": "Ada", "Email": "ada@example.com"})
    assert made["success"] and len(made["id"]) == 18
    row = salesforce.Contact.get(made["id"])
    assert (row["LastName"], row["Name"], row["Email"]) == ("Pine", "Ada Pine", "ada@example.com")
    assert salesforce.Contact.update(made["id"], {"LastName": "Oak", "Email": ""}) == 204
    assert sandbox.alive("Contact")[made["id"]]["Name"] == "Ada Oak"
    assert sandbox.alive("Contact")[made["id"]]["Email"] is None
    assert salesforce.Contact.delete(made["id"]) == 204
    with pytest.raises(SalesforceResourceNotFound, match="ENTITY_IS_DELETED"):
        salesforce.Contact.delete(made["id"])


def test_upsert_by_external_id(sandbox: Sandbox, salesforce: Salesforce) -> None:
    contact = salesforce.Contact
    assert contact.upsert(f"{KEY}/k-1", {"LastName": "One"}, raw_response=True).status_code == 201
    assert contact.upsert(f"{KEY}/k-1", {"LastName": "Two"}, raw_response=True).status_code == 200
    found = [row for row in sandbox.alive("Contact").values() if row[KEY] == "k-1"]
    assert [row["LastName"] for row in found] == ["Two"]
    assert contact.get_by_custom_id(KEY, "k-1")["LastName"] == "Two"


def test_errors(salesforce: Salesforce) -> None:
    with pytest.raises(SalesforceMalformedRequest, match="REQUIRED_FIELD_MISSING") as missing:
        salesforce.Contact.create({"FirstName": "Nobody"})
    assert missing.value.content[0]["fields"] == ["LastName"]
    with pytest.raises(SalesforceMalformedRequest, match="MALFORMED_QUERY"):
        salesforce.query("SELECT Id FROM Contact WHERE")
    with pytest.raises(SalesforceMalformedRequest, match="No such column 'Nope' on entity 'Contact'"):
        salesforce.query("SELECT Nope FROM Contact")
    with pytest.raises(SalesforceMalformedRequest, match="INVALID_TYPE"):
        salesforce.query("SELECT Id FROM Nothing__c")


def test_expired_session_is_renewed_by_the_client(sandbox: Sandbox, salesforce: Salesforce) -> None:
    sandbox.reset_calls()
    sandbox.faults({"kind": "expired_token"})
    assert salesforce.query("SELECT Id FROM Account")["done"]
    calls = sandbox.calls()
    assert calls["by_status"] == {"401": 1, "200": 2}
    assert calls["by_api"] == {"query": 2, "token": 1}


def test_describe(salesforce: Salesforce) -> None:
    names = {one["name"] for one in salesforce.describe()["sobjects"]}
    assert {"Account", "Contact", "Lead", "Opportunity", "User", "Product2"} <= names
    fields = {one["name"]: one for one in salesforce.Contact.describe()["fields"]}
    assert fields["LastName"]["length"] == 80 and not fields["LastName"]["nillable"]
    assert not fields["Name"]["createable"] and fields["Name"]["nameField"]
    key = fields[KEY]
    assert key["externalId"] and key["unique"] and key["idLookup"] and key["length"] == 36
    assert fields["AccountId"]["referenceTo"] == ["Account"]
    assert fields["AccountId"]["relationshipName"] == "Account"
    assert fields["MailingAddress"]["type"] == "address" and not fields["MailingAddress"]["updateable"]
    assert "Dr." in [one["value"] for one in fields["Salutation"]["picklistValues"]]


def test_limits(sandbox: Sandbox, salesforce: Salesforce) -> None:
    sandbox.limits(daily_calls=500)
    salesforce.query("SELECT Id FROM Account LIMIT 1")
    usage = salesforce.api_usage["api-usage"]
    assert usage.total == 500 and usage.used >= 1
    daily = salesforce.limits()["DailyApiRequests"]
    assert daily == {"Max": 500, "Remaining": 500 - usage.used - 1}


def test_bulk_query(make_sandbox: MakeSandbox, log_in: Callable[..., Salesforce]) -> None:
    sandbox = make_sandbox(rows=2000)
    salesforce = log_in(sandbox)
    nasty = 'a "quoted", comma\nand line'
    made = sandbox.create("Contact", LastName="Nasty", Description=nasty)
    sql = "SELECT Id, LastName, Description, HasOptedOutOfEmail, SystemModstamp, Account.Name FROM Contact"
    pages = list(salesforce.bulk2.Contact.query(sql, max_records=300, wait=1))
    assert len(pages) == 3
    found = {row["Id"]: row for row in rows(pages)}
    truth = sandbox.alive("Contact")
    accounts = sandbox.alive("Account")
    assert found.keys() == truth.keys()
    assert found[made]["Description"] == nasty
    for record_id, row in found.items():
        own = truth[record_id]
        assert row["LastName"] == own["LastName"]
        assert row["HasOptedOutOfEmail"] == str(own["HasOptedOutOfEmail"]).lower()
        assert row["SystemModstamp"] == own["SystemModstamp"].replace("+0000", "Z")
        parent = own["AccountId"]
        assert row["Account.Name"] == (accounts[parent]["Name"] if parent else "")


def test_bulk_query_without_rows(salesforce: Salesforce) -> None:
    pages = list(salesforce.bulk2.Contact.query("SELECT Id FROM Contact WHERE LastName = 'no one'", wait=1))
    assert [page.strip() for page in pages] == ['"Id"']


def test_bulk_ingest(sandbox: Sandbox, salesforce: Salesforce) -> None:
    bulk = salesforce.bulk2.Contact
    done = bulk.insert(records=[{"LastName": f"New {n}", KEY: f"k-{n}"} for n in range(5)], wait=1)
    assert (done[0]["numberRecordsProcessed"], done[0]["numberRecordsFailed"]) == (5, 0)
    ids = {row[KEY]: key for key, row in sandbox.alive("Contact").items() if row[KEY]}
    assert len(ids) == 5

    bulk.update(records=[{"Id": ids["k-0"], "LastName": "Changed", "FirstName": "#N/A"}], wait=1)
    assert sandbox.alive("Contact")[ids["k-0"]]["LastName"] == "Changed"

    mixed = [{"LastName": "Again", KEY: "k-1"}, {"LastName": "Fresh", KEY: "k-9"}, {"LastName": "", KEY: "k-8"}]
    job = bulk.upsert(records=mixed, external_id_field=KEY, wait=1)[0]["job_id"]
    good = rows([bulk.get_successful_records(job)])
    bad = rows([bulk.get_failed_records(job)])
    assert {row[KEY]: row["sf__Created"] for row in good} == {"k-1": "false", "k-9": "true"}
    assert bad[0]["sf__Error"].startswith("REQUIRED_FIELD_MISSING:Required fields are missing: [LastName]:")

    bulk.delete(records=[{"Id": ids["k-2"]}], wait=1)
    assert ids["k-2"] not in sandbox.alive("Contact")


def test_a_thousand_are_written_and_read(sandbox: Sandbox, salesforce: Salesforce) -> None:
    """Over Bulk 2.0 and, 200 a call, over collections; read back over both."""
    half = [[{"LastName": f"{way} {n}", KEY: f"{way}-{n}"} for n in range(500)] for way in ("bulk", "rest")]
    done = salesforce.bulk2.Contact.insert(records=half[0], wait=1)
    assert (done[0]["numberRecordsProcessed"], done[0]["numberRecordsFailed"]) == (500, 0)
    for start in range(0, 500, 200):
        records = [{"attributes": {"type": "Contact"}, **one} for one in half[1][start : start + 200]]
        answer = salesforce.restful("composite/sobjects", method="POST", json={"records": records})
        assert all(one["success"] for one in answer)
    wanted = {one[KEY]: one["LastName"] for one in (*half[0], *half[1])}
    where = f"FROM Contact WHERE {KEY} != null"
    over_rest = salesforce.query_all(f"SELECT {KEY}, LastName {where}")["records"]
    over_bulk = rows(list(salesforce.bulk2.Contact.query(f"SELECT {KEY}, LastName {where}", wait=1)))
    assert {one[KEY]: one["LastName"] for one in over_rest} == wanted
    assert {one[KEY]: one["LastName"] for one in over_bulk} == wanted
    assert {row[KEY]: row["LastName"] for row in sandbox.alive("Contact").values() if row[KEY]} == wanted


def test_collections(sandbox: Sandbox, salesforce: Salesforce) -> None:
    records = [
        {"attributes": {"type": "Contact"}, "LastName": "A", KEY: "c-1"},
        {"attributes": {"type": "Contact"}, "FirstName": "no last name"},
    ]
    body = {"allOrNone": False, "records": records}
    answer = salesforce.restful("composite/sobjects", method="POST", json=body)
    assert [one["success"] for one in answer] == [True, False]
    assert answer[1]["errors"][0] == {
        "statusCode": "REQUIRED_FIELD_MISSING",
        "message": "Required fields are missing: [LastName]",
        "fields": ["LastName"],
    }
    answer = salesforce.restful("composite/sobjects", method="POST", json=body | {"allOrNone": True})
    assert [one["success"] for one in answer] == [False, False]
    body = {"records": [{"attributes": {"type": "Contact"}, KEY: "c-1", "LastName": "B"},
                        {"attributes": {"type": "Contact"}, KEY: "c-2", "LastName": "C"}]}  # fmt: skip
    answer = salesforce.restful(f"composite/sobjects/Contact/{KEY}", method="PATCH", json=body)
    assert [one["created"] for one in answer] == [False, True]
    keys = {row[KEY]: row["LastName"] for row in sandbox.alive("Contact").values() if row[KEY]}
    assert keys == {"c-1": "B", "c-2": "C"}
