"""Bulk 2.0 beyond what the usual client does with it."""

from __future__ import annotations

import csv
import io
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox, wait_until

KEY = "Crm_Assets_Row_Id__c"


def run(api: httpx.Client, **body: Any) -> str:
    """Runs a query job to its end; returns its id."""
    made = api.post("/jobs/query", json={"operation": "query"} | body)
    assert made.status_code == 200, made.text
    assert made.json()["state"] == "UploadComplete" and made.json()["id"].startswith("750")
    job = str(made.json()["id"])
    wait_until(lambda: api.get(f"/jobs/query/{job}").json()["state"] == "JobComplete")
    return job


def load(api: httpx.Client, content: str, **body: Any) -> dict[str, Any]:
    """Runs an ingest job to its end; returns what became of it."""
    made = api.post("/jobs/ingest", json={"object": "Contact", "contentType": "CSV"} | body).json()
    url = f"/jobs/ingest/{made['id']}"
    assert made["contentUrl"] == f"services/data/v67.0{url}/batches"
    assert api.put(f"{url}/batches", content=content.encode()).status_code == 201
    assert api.put(f"{url}/batches", content=content.encode()).status_code == 400
    api.patch(url, json={"state": "UploadComplete"})
    return dict(wait_until(lambda: (job := api.get(url).json())["state"] in ("JobComplete", "Failed") and job))


def test_locators_and_encodings(sandbox: Sandbox, api: httpx.Client) -> None:
    job = run(api, query="SELECT Id FROM Contact ORDER BY Id")
    url = f"/jobs/query/{job}/results"
    first = api.get(url, params={"maxRecords": 20})
    assert first.headers["Content-Encoding"] == "gzip"
    plain = api.get(url, params={"maxRecords": 20}, headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers and plain.text == first.text
    assert first.headers["Sforce-NumberOfRecords"] == "20"
    locator = first.headers["Sforce-Locator"]
    second = api.get(url, params={"maxRecords": 20, "locator": locator})
    assert second.headers["Sforce-Locator"] == "null" and second.headers["Sforce-NumberOfRecords"] == "15"
    assert second.text == api.get(url, params={"maxRecords": 20, "locator": locator}).text
    lines = first.text.splitlines() + second.text.splitlines()[1:]
    assert [line.strip('"') for line in lines] == ["Id", *sorted(sandbox.alive("Contact"))]
    assert api.get(url, params={"locator": "AAAA"}).json()[0]["errorCode"] == "INVALID_QUERY_LOCATOR"
    other = httpx.get(f"{sandbox.url}/services/data/v60.0{url}", headers=dict(api.headers), trust_env=False)
    assert other.status_code == 409
    pages = api.get(f"/jobs/query/{job}/resultPages").json()
    assert pages["done"] and api.get(f"{sandbox.url}{pages['resultPages'][0]['resultUrl']}").status_code == 200
    assert api.delete(f"/jobs/query/{job}").status_code == 204
    assert api.get(url).status_code == 404


def test_delimiter_line_end_and_deleted(sandbox: Sandbox, api: httpx.Client) -> None:
    gone = sandbox.create("Contact", LastName="Gone", FirstName='"x"')
    sandbox.delete("Contact", gone)
    job = run(api, operation="queryAll", columnDelimiter="PIPE", lineEnding="CRLF",
              query=f"SELECT Id, FirstName, Title, IsDeleted FROM Contact WHERE Id = '{gone}'")  # fmt: skip
    raw = api.get(f"/jobs/query/{job}/results").content
    expected = f'"Id"|"FirstName"|"Title"|"IsDeleted"\r\n"{gone}"|"""x"""|""|"true"\r\n'
    assert raw == expected.encode()


def test_results_survive_a_restart_and_later_changes(sandbox: Sandbox, api: httpx.Client) -> None:
    job = run(api, query="SELECT Id, LastName FROM Contact")
    before = api.get(f"/jobs/query/{job}/results").text
    sandbox.update("Contact", next(iter(sandbox.alive("Contact"))), LastName="Later")
    sandbox.kill()
    sandbox.start()
    assert api.get(f"/jobs/query/{job}/results").text == before


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SELECT COUNT() FROM Contact", "API_ERROR"),
        ("SELECT Id FROM Contact LIMIT 5 OFFSET 1", "API_ERROR"),
        ("SELECT MailingAddress FROM Contact", "API_ERROR"),
        ("SELECT Nope FROM Contact", "INVALID_FIELD"),
        ("SELECT", "MALFORMED_QUERY"),
    ],
)
def test_refused_queries(api: httpx.Client, text: str, code: str) -> None:
    reply = api.post("/jobs/query", json={"operation": "query", "query": text})
    assert (reply.status_code, reply.json()[0]["errorCode"]) == (400, code)


def test_ingest_cells(sandbox: Sandbox, api: httpx.Client) -> None:
    """Empty leaves alone, #N/A clears, a quoted cell may hold anything, a parent can be named by its key."""
    sandbox.create("Account", Name="P", **{KEY: "p"})
    kept = sandbox.create("Contact", LastName="Kept", FirstName="F", Title="T", Department="D")
    text = f'Id,LastName,FirstName,Title,Description,Account.{KEY}\n{kept},,,#N/A,"a ""b""\nc",p\n'
    job = load(api, text, operation="update", lineEnding="LF")
    assert (job["state"], job["numberRecordsProcessed"], job["numberRecordsFailed"]) == ("JobComplete", 1, 0)
    row = sandbox.alive("Contact")[kept]
    assert (row["LastName"], row["FirstName"], row["Title"], row["Department"]) == ("Kept", "F", None, "D")
    assert row["Description"] == 'a "b"\nc'
    assert sandbox.alive("Account")[row["AccountId"]]["Name"] == "P"


def test_ingest_failures(sandbox: Sandbox, api: httpx.Client) -> None:
    text = f"LastName,{KEY}\nGood,k-1\n{'x' * 81},k-2\nTwin,k-1\n"
    job = load(api, text, operation="insert", lineEnding="LF")
    assert (job["state"], job["numberRecordsProcessed"], job["numberRecordsFailed"]) == ("JobComplete", 3, 2)
    bad = list(csv.DictReader(io.StringIO(api.get(f"/jobs/ingest/{job['id']}/failedResults/").text)))
    assert [row["sf__Error"].split(":")[0] for row in bad] == ["STRING_TOO_LONG", "DUPLICATE_VALUE"]
    assert [row[KEY] for row in bad] == ["k-2", "k-1"]
    assert load(api, "LastName\r\nA\r\n", operation="insert", lineEnding="LF")["state"] == "Failed"
    assert not any(row["LastName"] == "A" for row in sandbox.alive("Contact").values())


def test_hard_delete_leaves_only_the_log(sandbox: Sandbox, api: httpx.Client) -> None:
    gone = sandbox.create("Contact", LastName="Gone")
    stamp = sandbox.alive("Contact")[gone]["SystemModstamp"]
    load(api, f"Id\n{gone}\n", operation="hardDelete", lineEnding="LF")
    assert gone not in sandbox.records("Contact")
    window = {"start": stamp, "end": "2099-01-01T00:00:00Z"}
    deleted = api.get("/sobjects/Contact/deleted/", params=window).json()["deletedRecords"]
    assert gone in [one["id"] for one in deleted]


def test_chunked_upload(sandbox: Sandbox, api: httpx.Client) -> None:
    reply = api.post("/sobjects/Account", content=iter([b'{"Name":', b'"Chunked"}']),
                     headers={"Content-Type": "application/json"})  # fmt: skip
    assert reply.status_code == 201
    assert sandbox.alive("Account")[reply.json()["id"]]["Name"] == "Chunked"
