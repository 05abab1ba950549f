"""Seed files are taken to the letter; without them a company is made up, always the same one."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox

USER, ACCOUNT, OTHER = "0055g0AAAAAAAABA45", "0015g0AAAAAAAABA45", "0015g0AAAAAAAACA45"
STAMPS = {"CreatedDate": "2016-01-10T10:43:12Z", "SystemModstamp": "2016-09-01T10:43:12Z"}


def write(folder: Path, name: str, *rows: dict[str, str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


@pytest.fixture
def seeded(tmp_path: Path, make_sandbox: MakeSandbox) -> Sandbox:
    folder = tmp_path / "seed" / "salesforce"
    user = {"Id": USER, "FirstName": "Cara", "LastName": "Losch", "Name": "Cara Q. Losch", "IsActive": "true"}
    write(folder, "User", user | STAMPS)
    account = {"Id": ACCOUNT, "Name": "Acme ", "Industry": "technolgy", "YearStarted": "1996", "Rating": "Select",
               "AnnualRevenue": "1100040000", "NumberOfEmployees": "2822", "OwnerId": USER}  # fmt: skip
    blank = dict.fromkeys(account, "") | {"Id": OTHER, "Name": "Beta"}
    write(folder, "Account", account | STAMPS, blank | STAMPS)
    lead = {"Id": "00Q5g0AAAAAAAABE45", "LastName": "Prospect 1", "Company": "[not provided]", "Page_Views__c": "2.5",
            "Lead_Number__c": "660737", "Zip__c": "04103", "Seen__c": "2017-01-01T20:16:36Z", "Day__c": "2017-01-01",
            "Flag__c": "true", "Story__c": "x" * 400, "Tags__c": "Select", "Email": "not an address",
            "Status": "Odd one"}  # fmt: skip
    write(folder, "Lead", lead | STAMPS, lead | {"Id": "00Q5g0AAAAAAAACE45", "Flag__c": "", "Seen__c": ""} | STAMPS)
    deal = {"Id": "0065g0AAAAAAAABA45", "Name": "Deal", "AccountId": "", "StageName": "Closed Won", "Amount": "0.5",
            "CloseDate": "2017-03-01", "IsClosed": "false", "IsWon": "false"}  # fmt: skip
    write(folder, "Opportunity", deal | STAMPS)
    write(tmp_path / "seed" / "elsewhere", "things", {"id": "1"})
    return make_sandbox(seed_dir=tmp_path / "seed")


def test_values_are_exact(seeded: Sandbox) -> None:
    account = seeded.alive("Account")[ACCOUNT]
    assert (account["Name"], account["Industry"], account["Rating"]) == ("Acme ", "technolgy", "Select")
    assert (account["AnnualRevenue"], account["NumberOfEmployees"]) == (1100040000, 2822)
    assert account["CreatedDate"] == "2016-01-10T10:43:12.000+0000"
    assert account["SystemModstamp"] == "2016-09-01T10:43:12.000+0000"
    other = seeded.alive("Account")[OTHER]
    assert other["Industry"] is None and other["AnnualRevenue"] is None and other["YearStarted"] is None
    lead = seeded.alive("Lead")["00Q5g0AAAAAAAABE45"]
    assert (lead["Company"], lead["Email"], lead["Zip__c"]) == ("[not provided]", "not an address", "04103")
    assert (lead["Page_Views__c"], lead["Lead_Number__c"], lead["Flag__c"]) == (2.5, 660737, True)
    assert lead["Name"] == "Prospect 1"
    deal = seeded.alive("Opportunity")["0065g0AAAAAAAABA45"]
    assert deal["IsClosed"] is False and deal["IsWon"] is False and deal["Amount"] == 0.5
    assert seeded.alive("User")[USER]["Name"] == "Cara Q. Losch"


def test_columns_become_fields(seeded: Sandbox) -> None:
    with seeded.api() as api:
        fields = {one["name"]: one for one in api.get("/sobjects/Lead/describe").json()["fields"]}
        years = {one["name"]: one for one in api.get("/sobjects/Account/describe").json()["fields"]}
    types = {name: fields[name]["type"] for name in fields if name.endswith("__c")}
    assert types == {
        "Page_Views__c": "double", "Lead_Number__c": "double", "Zip__c": "string", "Seen__c": "datetime",
        "Day__c": "date", "Flag__c": "boolean", "Story__c": "textarea", "Tags__c": "string",
        "Crm_Assets_Row_Id__c": "string",
    }  # fmt: skip
    assert (fields["Page_Views__c"]["scale"], fields["Lead_Number__c"]["scale"]) == (1, 0)
    assert fields["Story__c"]["length"] >= 400 and fields["Story__c"]["filterable"] is False
    assert "Odd one" in [one["value"] for one in fields["Status"]["picklistValues"]]
    assert years["YearStarted"]["type"] == "double" and years["YearStarted"]["createable"]


def test_other_vendors_are_named_and_left(seeded: Sandbox) -> None:
    assert "elsewhere" in seeded.log


def test_seeding_happens_once(seeded: Sandbox) -> None:
    seeded.update("Account", ACCOUNT, Name="Mine")
    seeded.stop()
    seeded.start()
    assert len(seeded.records("Account")) == 2
    assert seeded.alive("Account")[ACCOUNT]["Name"] == "Mine"


def test_an_object_of_ones_own(tmp_path: Path, make_sandbox: MakeSandbox) -> None:
    rows = [{"Id": "a00000000000001", "Name": "First", "Weight__c": "1.25"}]
    write(tmp_path / "seed" / "salesforce", "Gadget__c", *rows)
    sandbox = make_sandbox(seed_dir=tmp_path / "seed")
    for _ in range(2):
        record = sandbox.alive("Gadget__c")["a00000000000001AAA"]
        assert (record["Name"], record["Weight__c"]) == ("First", 1.25)
        with sandbox.api() as api:
            made = api.post("/sobjects/Gadget__c", json={"Name": "Second", "Crm_Assets_Row_Id__c": "k"})
            assert made.status_code == 201 and made.json()["id"].startswith("a00")
        sandbox.delete("Gadget__c", made.json()["id"])
        sandbox.stop()
        sandbox.start()


def test_a_seed_that_cannot_be_read(tmp_path: Path, make_sandbox: MakeSandbox) -> None:
    write(tmp_path / "seed" / "salesforce", "Account", {"Name": "No id"})
    with pytest.raises(RuntimeError, match="each row needs an Id"):
        make_sandbox(seed_dir=tmp_path / "seed")


def test_generated_company(make_sandbox: MakeSandbox) -> None:
    one, two = make_sandbox(rows=400), make_sandbox(rows=400)
    total = 0
    for name in ("User", "Account", "Contact", "Lead", "Opportunity", "Product2", "Task", "Campaign"):
        records = one.records(name)
        assert records and records == two.records(name)
        total += len(records)
    assert 350 < total < 500
    accounts = one.alive("Account")
    assert all(row["AccountId"] in accounts for row in one.alive("Contact").values() if row["AccountId"])
