"""Faults on order, the count of calls, and the limits."""

from __future__ import annotations

import time

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until

SQL = {"q": "SELECT Id, Name FROM Account"}
TOKEN = {"grant_type": "client_credentials", "client_id": "sandbox", "client_secret": "sandbox"}


def test_nth_and_times(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.faults({"method": "GET", "path": "/query", "nth": 2, "times": 2, "kind": "503"})
    assert api.get("/limits").status_code == 200
    assert [api.get("/query", params=SQL).status_code for _ in range(4)] == [200, 503, 503, 200]


def test_kinds_of_failure(sandbox: Sandbox, api: httpx.Client) -> None:
    for kind, status, code in (
        ("429", 429, "REQUEST_LIMIT_EXCEEDED"),
        ("500", 500, "UNKNOWN_EXCEPTION"),
        ("503", 503, "SERVER_UNAVAILABLE"),
        ("expired_token", 401, "INVALID_SESSION_ID"),
    ):
        sandbox.faults({"kind": kind})
        reply = api.get("/query", params=SQL)
        assert (reply.status_code, reply.json()[0]["errorCode"]) == (status, code)
    sandbox.faults({"kind": "500", "times": 100})
    sandbox.clear_faults()
    assert api.get("/query", params=SQL).status_code == 200


@pytest.mark.parametrize(("kind", "done"), [("timeout_before", False), ("timeout_after", True)])
def test_no_reply(sandbox: Sandbox, api: httpx.Client, kind: str, done: bool) -> None:
    sandbox.faults({"kind": kind, "method": "POST", "path": "/sobjects/Lead"})
    with pytest.raises(httpx.ReadTimeout):
        api.post("/sobjects/Lead", json={"LastName": "Unsure", "Company": "C"}, timeout=1)
    assert any(row["LastName"] == "Unsure" for row in sandbox.alive("Lead").values()) is done
    wait_until(lambda: sandbox.calls()["by_status"].get("none") == 1)


def test_a_held_call_does_not_hold_the_stop(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.faults({"kind": "timeout_before"})
    with pytest.raises(httpx.ReadTimeout):
        api.get("/query", params=SQL, timeout=0.3)
    started = time.monotonic()
    assert sandbox.stop() == 0
    assert time.monotonic() - started < 5


def test_truncated_reply(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.faults({"kind": "truncate", "path": "/query"})
    with pytest.raises(httpx.RemoteProtocolError):
        api.get("/query", params=SQL)
    assert api.get("/query", params=SQL).json()["done"]


def test_slow(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.faults({"kind": "slow"})
    started = time.monotonic()
    assert api.get("/query", params=SQL).status_code == 200
    assert 1.9 < time.monotonic() - started < 10


def test_partial_batch(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.faults({"kind": "partial_batch"})
    record = {"attributes": {"type": "Lead"}, "Company": "Partial"}
    body = {"records": [record | {"LastName": str(n)} for n in range(4)]}
    assert api.get("/query", params=SQL).status_code == 200
    results = api.post("/composite/sobjects", json=body).json()
    assert [one["success"] for one in results] == [True, False, True, False]
    assert results[1]["errors"][0]["statusCode"] == "UNABLE_TO_LOCK_ROW"
    made = {row["LastName"] for row in sandbox.alive("Lead").values() if row["Company"] == "Partial"}
    assert made == {"0", "2"}
    assert all(one["success"] for one in api.post("/composite/sobjects", json=body).json())


def test_unknown_kind_is_refused(sandbox: Sandbox) -> None:
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        sandbox.faults({"kind": "earthquake"})


def test_daily_limit(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.limits(daily_calls=3)
    replies = [api.get("/query", params=SQL) for _ in range(5)]
    assert [reply.status_code for reply in replies] == [200, 200, 200, 403, 403]
    assert replies[0].headers["Sforce-Limit-Info"] == "api-usage=1/3"
    assert replies[3].json() == [{"message": "TotalRequests Limit exceeded.", "errorCode": "REQUEST_LIMIT_EXCEEDED"}]
    assert sandbox.calls()["limit_violations"] == 2
    # Logging in costs nothing of the day's calls.
    assert httpx.post(f"{sandbox.url}/services/oauth2/token", data=TOKEN, trust_env=False).status_code == 200
    with pytest.raises(httpx.HTTPStatusError, match="unknown limit"):
        sandbox.limits(concurrency=3)


def test_calls_are_counted(sandbox: Sandbox, api: httpx.Client) -> None:
    sandbox.reset_calls()
    httpx.post(f"{sandbox.url}/services/oauth2/token", data=TOKEN, trust_env=False)
    api.get("/query", params=SQL)
    api.get("/query", params={"q": "nonsense"})
    api.get("/sobjects/Account/describe")
    calls = sandbox.calls()
    assert calls["total"] == 4
    assert calls["by_api"] == {"token": 1, "query": 2, "describe": 1}
    assert calls["by_status"] == {"200": 3, "400": 1}
    assert calls["peak_concurrency"] == 1 and calls["limit_violations"] == 0


def test_sessions(make_sandbox: MakeSandbox) -> None:
    sandbox = make_sandbox(session_seconds=1)
    with httpx.Client(base_url=sandbox.url, trust_env=False) as client:
        for wrong, code in (("client_id", "invalid_client_id"), ("client_secret", "invalid_client")):
            reply = client.post("/services/oauth2/token", data=TOKEN | {wrong: "guess"})
            assert (reply.status_code, reply.json()["error"]) == (400, code)
        basic = client.post("/services/oauth2/token", data={"grant_type": "client_credentials"},
                            auth=("sandbox", "sandbox"))  # fmt: skip
        token = basic.json()["access_token"]
        assert basic.json()["instance_url"] == sandbox.url
        form = {"token": token, "client_id": "sandbox", "client_secret": "sandbox"}
        assert client.post("/services/oauth2/introspect", data=form).json()["active"] is True
        mine = {"Authorization": f"Bearer {token}"}
        assert client.get("/services/data/v60.0/limits", headers=mine).status_code == 200
        assert client.get("/salesforce/services/data/v60.0/limits", headers=mine).status_code == 200
        assert client.get("/services/data/v49.0/limits", headers=mine).status_code == 404
        assert client.get("/services/data/v60.0/limits").status_code == 401
        assert len(client.get("/services/data/").json()) == 18
        time.sleep(1.2)
        reply = client.get("/services/data/v60.0/limits", headers=mine)
        assert (reply.status_code, reply.json()[0]["errorCode"]) == (401, "INVALID_SESSION_ID")
        assert client.post("/services/oauth2/introspect", data=form).json() == {"active": False}
        soap = "<env:Envelope><n1:password>{}</n1:password></env:Envelope>"
        good = client.post("/services/Soap/u/67.0", content=soap.format("sandboxTOKEN"))
        assert good.status_code == 200 and "<sessionId>" in good.text
        assert "INVALID_LOGIN" in client.post("/services/Soap/u/67.0", content=soap.format("guess")).text
