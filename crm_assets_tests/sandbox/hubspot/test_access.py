"""Who may call, how often, and under which paths."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox, wait_until

from .conftest import MakeAccount, rest

REFRESH = {
    "grant_type": "refresh_token",
    "refresh_token": "sandbox",
    "client_id": "sandbox",
    "client_secret": "sandbox",
}


@pytest.mark.parametrize(
    ("numbered", "dated"),
    [
        ("/crm/v3/objects/contacts?limit=3", "/crm/objects/2026-03/contacts?limit=3"),
        ("/crm/v3/properties/deals/amount", "/crm/properties/2026-09/deals/amount"),
        ("/crm/v3/pipelines/tickets", "/crm/pipelines/2026-09/tickets"),
        ("/crm/v3/owners?limit=2", "/crm/owners/2026-03?limit=2"),
        ("/crm/v4/associations/deals/contacts/labels", "/crm/associations/2026-03/deals/contacts/labels"),
        ("/crm/v3/schemas", "/crm-object-schemas/v3/schemas"),
        ("/account-info/v3/details", "/account-info/2026-03/details"),
    ],
)
def test_two_families_of_paths(api: httpx.Client, numbered: str, dated: str) -> None:
    first, second = api.get(numbered), api.get(dated)
    assert first.status_code == second.status_code == 200
    bodies = [reply.json() for reply in (first, second)]
    for body in bodies:
        body.pop("paging", None)
    assert bodies[0] == bodies[1]
    assert api.get(f"/hubspot{numbered}").json()


@pytest.mark.parametrize("name", ["contacts", "contact", "0-1", "CONTACT"])
def test_names_of_an_object(api: httpx.Client, name: str) -> None:
    assert api.get(f"/crm/v3/objects/{name}").json()["results"]


def test_paths_that_are_not_there(api: httpx.Client) -> None:
    assert api.get("/crm/v3/nothing").status_code == 404
    assert api.put("/crm/v3/objects/contacts").status_code == 405
    unknown = api.get("/crm/v3/objects/rockets")
    assert (unknown.status_code, unknown.json()["category"]) == (400, "VALIDATION_ERROR")
    assert api.get("/crm/v3/objects/contacts", params={"properties": "x" * 20_000}).status_code == 414


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic sandbox"}])
def test_strangers(account: Sandbox, headers: dict[str, str]) -> None:
    reply = httpx.get(f"{account.url}/crm/v3/objects/contacts", headers=headers, trust_env=False)
    assert reply.status_code == 401
    body = reply.json()
    assert (body["status"], body["category"]) == ("error", "INVALID_AUTHENTICATION")
    assert body["message"].startswith("Authentication credentials not found. This API supports OAuth 2.0")
    assert reply.headers["x-hubspot-correlation-id"] == body["correlationId"]


@pytest.mark.parametrize("path", ["/oauth/v1/token", "/oauth/v3/token", "/oauth/2026-03/token"])
def test_tokens(account: Sandbox, path: str) -> None:
    reply = httpx.post(f"{account.url}{path}", data=REFRESH, trust_env=False)
    body = reply.json()
    assert (body["token_type"], body["refresh_token"], body["expires_in"]) == ("bearer", "sandbox", 1800)
    assert ("hub_id" in body) is (path != "/oauth/v1/token")
    with rest(account, body["access_token"]) as client:
        renewed = client.get("/crm/v3/objects/contacts")
        assert renewed.status_code == 200
        assert "X-HubSpot-RateLimit-Daily" not in renewed.headers
        assert "X-HubSpot-RateLimit-Remaining" in renewed.headers
        about = client.get(f"/oauth/v1/access-tokens/{body['access_token']}")
        assert about.json()["hub_id"] == 48210


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"refresh_token": "other"}, "BAD_REFRESH_TOKEN"),
        ({"client_secret": "other"}, "BAD_CLIENT_SECRET"),
        ({"client_id": "other"}, "BAD_CLIENT_ID"),
        ({"grant_type": "password"}, "BAD_GRANT_TYPE"),
    ],
)
def test_tokens_refused(account: Sandbox, change: dict[str, str], status: str) -> None:
    reply = httpx.post(f"{account.url}/oauth/v1/token", data=REFRESH | change, trust_env=False)
    assert (reply.status_code, reply.json()["status"]) == (400, status)


def test_a_token_ends(make_account: MakeAccount) -> None:
    account = make_account(session_seconds=0.5)
    token = httpx.post(f"{account.url}/oauth/v1/token", data=REFRESH, trust_env=False).json()["access_token"]
    with rest(account, token) as client:
        ended = wait_until(lambda: (reply := client.get("/crm/v3/owners")).status_code == 401 and reply)
        assert ended.json()["category"] == "EXPIRED_AUTHENTICATION"


def test_limits(make_account: MakeAccount) -> None:
    account = make_account()
    with rest(account) as api:
        replies = [api.get("/crm/v3/owners") for _ in range(101)]
        assert [one.status_code for one in replies] == [200] * 100 + [429]
        assert replies[0].headers["X-HubSpot-RateLimit-Max"] == "100"
        assert replies[0].headers["X-HubSpot-RateLimit-Remaining"] == "99"
        assert replies[0].headers["X-HubSpot-RateLimit-Interval-Milliseconds"] == "10000"
        assert replies[0].headers["X-HubSpot-RateLimit-Daily"] == "250000"
        body = replies[-1].json()
        assert (body["policyName"], body["errorType"]) == ("TEN_SECONDLY_ROLLING", "RATE_LIMIT")
        assert body["message"] == "You have reached your ten_secondly_rolling limit."

        started = time.monotonic()
        searches = [api.post("/crm/v3/objects/contacts/search", json={}) for _ in range(6)]
        if time.monotonic() - started < 1:
            assert [one.status_code for one in searches] == [200] * 5 + [429]
            assert searches[-1].json()["policyName"] == "SECONDLY"
        assert not any("ratelimit" in name for name in searches[0].headers)
        assert account.calls()["limit_violations"] == sum(one.status_code == 429 for one in [*replies, *searches])
        account.limits(calls_10s=1000)
        assert api.get("/crm/v3/owners").status_code == 200


@pytest.mark.parametrize(
    ("kind", "status", "told"),
    [
        ("429", 429, {"policyName": "TEN_SECONDLY_ROLLING", "category": "RATE_LIMITS"}),
        ("500", 500, {"status": "error"}),
        ("503", 503, {"status": "error"}),
        ("expired_token", 401, {"category": "EXPIRED_AUTHENTICATION"}),
    ],
)
def test_ordered_failures(account: Sandbox, api: httpx.Client, kind: str, status: int, told: dict[str, Any]) -> None:
    account.faults({"kind": kind, "path": "/owners"})
    reply = api.get("/crm/v3/owners")
    assert reply.status_code == status
    assert reply.json().items() >= told.items()
    assert api.get("/crm/v3/owners").status_code == 200
