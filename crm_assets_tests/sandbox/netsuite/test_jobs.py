"""Asynchronous calls and batches."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until
from crm_assets_tests.sandbox.netsuite.conftest import problem, rest

ASYNC = {"Prefer": "respond-async"}
BATCH = ASYNC | {"Content-Type": "application/vnd.oracle.resource+json; type=collection"}


def done(api: httpx.Client, accepted: httpx.Response) -> list[httpx.Response]:
    """The results of a job's tasks, once it is completed."""
    assert accepted.status_code == 202, accepted.text
    assert accepted.headers["preference-applied"] == "respond-async"
    url = accepted.headers["location"]
    job = wait_until(lambda: (body := api.get(url).json())["completed"] and body)
    assert job["progress"] == "succeeded" and job["id"] == url.rpartition("/")[2]
    tasks = api.get(job["task"]["links"][0]["href"]).json()["items"]
    first = api.get(tasks[0]["links"][0]["href"]).json()
    assert first["completed"] and first["startTime"] <= first["endTime"]
    return [api.get(task["links"][0]["href"] + "/result") for task in tasks]


def test_a_call_of_its_own(api: httpx.Client, account: Sandbox) -> None:
    accepted = api.post("/record/v1/customer", json={"companyName": "Later"}, headers=ASYNC)
    (result,) = done(api, accepted)
    assert result.status_code == 204
    key = result.headers["location"].rpartition("/")[2]
    assert account.alive("customer")[key]["companyName"] == "Later"
    (refused,) = done(api, api.post("/record/v1/customer", json={}, headers=ASYNC))
    assert problem(refused) == (400, "USER_ERROR")
    (read,) = done(api, api.get(f"/record/v1/customer/{key}", headers=ASYNC))
    assert read.json()["companyName"] == "Later"
    assert problem(api.get("/async/v1/job/999999")) == (404, "NONEXISTENT_ID")


def test_an_idempotency_key_counts_once(api: httpx.Client, account: Sandbox) -> None:
    headers = ASYNC | {"X-NetSuite-Idempotency-Key": str(uuid.uuid4())}
    first = api.post("/record/v1/customer", json={"companyName": "Only once"}, headers=headers)
    again = api.post("/record/v1/customer", json={"companyName": "Only once"}, headers=headers)
    assert problem(again) == (400, "IDEMPOTENCY_ERROR") and again.json()["title"] == "Conflict"
    assert again.headers["location"] == first.headers["location"]
    done(api, first)
    assert [row["companyName"] for row in account.alive("customer").values()].count("Only once") == 1
    # A call that is answered at once ignores the key.
    key = {"X-NetSuite-Idempotency-Key": headers["X-NetSuite-Idempotency-Key"]}
    assert api.post("/record/v1/customer", json={"companyName": "Sync"}, headers=key).status_code == 204


def send(api: httpx.Client, method: str, path: str, *items: dict[str, Any]) -> list[httpx.Response]:
    return done(api, api.request(method, path, json={"items": list(items)}, headers=BATCH))


def test_batches(api: httpx.Client, account: Sandbox) -> None:
    names = [{"companyName": f"Batch {i}", "externalId": f"batch-{i}"} for i in range(3)]
    results = send(api, "POST", "/record/v1/customer", *names, {"email": "x@y.example"})
    assert [one.status_code for one in results] == [204, 204, 204, 400]
    keys = [one.headers["location"].rpartition("/")[2] for one in results[:3]]
    changes = [{"id": keys[0], "phone": "1"}, {"externalId": "batch-1", "phone": "2"}, {"id": "1", "phone": "3"}]
    assert [one.status_code for one in send(api, "PATCH", "/record/v1/customer", *changes)] == [204, 204, 404]
    upserts = [{"externalId": "batch-2", "phone": "3"}, {"externalId": "batch-9", "companyName": "Batch 9"}]
    results = send(api, "PUT", "/record/v1/customer", *upserts)
    keys.append(results[1].headers["location"].rpartition("/")[2])
    truth = account.alive("customer")
    assert [truth[key]["phone"] for key in keys] == ["1", "2", "3", None]
    ids = f"{keys[0]},eid:batch-1"
    (read,) = done(api, api.get("/record/v1/customer", params={"expandRecords": "true", "ids": ids}, headers=ASYNC))
    assert [one["companyName"] for one in read.json()["items"]] == ["Batch 0", "Batch 1"]
    results = done(api, api.delete("/record/v1/customer", params={"ids": ",".join(keys)}, headers=ASYNC))
    assert [one.status_code for one in results] == [204] * 4
    assert not set(keys) & set(account.alive("customer"))


def test_batches_that_are_refused(api: httpx.Client) -> None:
    many = {"items": [{"companyName": "x"}] * 101}
    assert problem(api.post("/record/v1/customer", json=many, headers=BATCH)) == (400, "INVALID_REQUEST")
    sync = {"Content-Type": BATCH["Content-Type"]}
    assert problem(api.post("/record/v1/customer", json={"items": [{}]}, headers=sync)) == (400, "INVALID_HEADER")
    assert problem(api.delete("/record/v1/customer", params={"ids": "1"})) == (400, "INVALID_HEADER")
    nameless = {"items": [{"phone": "1"}]}
    assert problem(api.patch("/record/v1/customer", json=nameless, headers=BATCH)) == (400, "INVALID_CONTENT")


def test_half_of_a_batch(api: httpx.Client, account: Sandbox) -> None:
    account.faults({"kind": "partial_batch", "method": "POST", "path": "/contact$"})
    results = send(api, "POST", "/record/v1/contact", *({"lastName": f"Half {i}"} for i in range(4)))
    assert [one.status_code for one in results] == [204, 400, 204, 400]


@pytest.mark.parametrize("end", ["stop", "kill"])
def test_a_job_outlives_a_restart(make_sandbox: MakeSandbox, end: str) -> None:
    account = make_sandbox(connection="netsuite", rows=1)
    account.faults({"kind": "late_commit", "path": "/contact$"})
    with rest(account) as api:
        accepted = api.post("/record/v1/contact", json={"lastName": "Patient"}, headers=ASYNC)
        assert accepted.status_code == 202
        assert not api.get(accepted.headers["location"]).json()["completed"]
    getattr(account, end)()
    account.start()
    with rest(account) as api:
        wait_until(lambda: api.get(accepted.headers["location"]).json()["completed"])
    names = [row["lastName"] for row in account.alive("contact").values()]
    assert names.count("Patient") == 1
