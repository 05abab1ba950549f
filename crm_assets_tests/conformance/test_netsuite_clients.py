"""Independent clients find in the sandbox what they find in an account: both ways to log in, a thousand records."""

from __future__ import annotations

import asyncio
import json
import time
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import jwt
import pytest
import requests

from crm_assets_tests.plugins.sandbox import Sandbox, wait_until

with warnings.catch_warnings():
    # What these packages import is being renamed; that is theirs to follow.
    warnings.simplefilter("ignore")
    from netsuite import Config, NetSuiteRestApi, TokenAuth
    from netsuite.exceptions import NetsuiteAPIRequestError
    from netsuite_oauth import NetsuiteOauth

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
ACCOUNT = "1234567_SB1"
ASYNC = {"Prefer": "respond-async"}
BATCH = ASYNC | {"Content-Type": "application/vnd.oracle.resource+json; type=collection"}
TRANSIENT = {"Prefer": "transient"}
NEW = 1000


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    sandbox = Sandbox(tmp_path_factory.mktemp("netsuite") / "data", connection="netsuite", rows=100)
    yield sandbox
    sandbox.kill()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The clients take a proxy from the environment; between two processes of one machine it has no business."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def batches(prefix: str) -> Iterator[dict[str, Any]]:
    """The bodies that write a thousand customers, a hundred at a time."""
    for start in range(0, NEW, 100):
        rows = [
            {"companyName": f"{prefix} {i}", "externalId": f"{prefix}-{i}", "creditLimit": i}
            for i in range(start, start + 100)
        ]
        yield {"items": rows}


def written(account: Sandbox, prefix: str) -> dict[str, dict[str, Any]]:
    return {
        key: row for key, row in account.alive("customer").items() if (row["externalId"] or "").startswith(f"{prefix}-")
    }


def all_written(account: Sandbox, prefix: str) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = wait_until(
        lambda: len(rows := written(account, prefix)) == NEW and rows, seconds=30, every=0.2
    )
    return found


def check(account: Sandbox, prefix: str, rows: list[dict[str, Any]]) -> None:
    """What was read by key is what was written."""
    truth = all_written(account, prefix)
    assert [row["id"] for row in rows] == sorted(truth, key=int)
    assert {row["id"]: (row["companyname"], float(row["creditlimit"])) for row in rows} == {
        key: (own["companyName"], own["creditLimit"]) for key, own in truth.items()
    }


# ---- netsuite (async, token-based, with a hash of the body among what is signed)


def local_client(account: Sandbox, secret: str = "sandbox") -> NetSuiteRestApi:
    class Local(NetSuiteRestApi):
        def _make_url(self, subpath: str) -> str:
            return f"{account.url}/services/rest{subpath}"

    auth = TokenAuth(consumer_key="sandbox", consumer_secret=secret, token_id="sandbox", token_secret="sandbox")
    return Local(Config(account=ACCOUNT, auth=auth))


def test_netsuite_writes_and_reads_a_thousand(account: Sandbox) -> None:
    async def run() -> list[dict[str, Any]]:
        client = local_client(account)
        for body in batches("ns"):
            reply = await client.request("POST", "/record/v1/customer", json=body, headers=BATCH)
            assert reply.status_code == 202, reply.text
        await asyncio.to_thread(all_written, account, "ns")
        rows: list[dict[str, Any]] = []
        sql = "SELECT id, companyname, creditlimit FROM customer WHERE externalid LIKE 'ns-%' AND id > ? ORDER BY id"
        while True:
            last = rows[-1]["id"] if rows else "0"
            page = await client.suiteql(sql, limit=400, json={"params": [last]})
            rows += page["items"]
            if not page["hasMore"]:
                return rows

    check(account, "ns", asyncio.run(run()))


def test_netsuite_life_of_a_record(account: Sandbox) -> None:
    async def run() -> None:
        client = local_client(account)
        made = await client.request("POST", "/record/v1/contact", json={"firstName": "Ada", "lastName": "Pine"})
        path = "/record/v1/contact/" + made.headers["location"].rpartition("/")[2]
        assert (await client.get(path))["entityId"] == "Ada Pine"
        assert await client.patch(path, json={"title": "Captain"}) is None
        assert (await client.get(path, params={"fields": "title", "expandSubResources": "true"}))["title"] == "Captain"
        assert await client.put("/record/v1/contact/eid:ns_c-1", json={"lastName": "Oak"}) is None
        found = await client.get("/record/v1/contact", params={"q": 'lastName IS "Pine" AND title START_WITH "Cap"'})
        assert found["items"][0]["links"][0]["href"].endswith(path)
        assert await client.delete(path) is None
        with pytest.raises(NetsuiteAPIRequestError, match="NONEXISTENT_ID"):
            await client.get(path)
        # This client asks for strict names.
        with pytest.raises(NetsuiteAPIRequestError, match="INVALID_CONTENT"):
            await client.post("/record/v1/contact", json={"lastName": "X", "colour": "red"})
        pages = await asyncio.gather(
            *(client.suiteql("SELECT id FROM contact ORDER BY id", 10, 10 * i) for i in range(2))
        )
        assert len({row["id"] for page in pages for row in page["items"]}) == 20

    asyncio.run(run())


def test_netsuite_reads_the_catalog(account: Sandbox) -> None:
    async def run() -> tuple[Any, Any]:
        client = local_client(account)
        return await client.jsonschema("salesOrder"), await client.openapi(["customer", "salesOrder"])

    schema, openapi = asyncio.run(run())
    assert schema["properties"]["tranDate"]["format"] == "date" and "entity" in schema["x-ns-filterable"]
    assert {"customer", "salesOrder"} <= set(openapi["components"]["schemas"])


def test_netsuite_with_a_wrong_secret(account: Sandbox) -> None:
    with pytest.raises(NetsuiteAPIRequestError, match="INVALID_LOGIN"):
        asyncio.run(local_client(account, secret="guess").suiteql("SELECT id FROM customer"))


# ---- netsuite-oauth-python (requests, token-based)


@pytest.fixture
def signed(account: Sandbox) -> Callable[..., NetsuiteOauth]:
    def make(path: str, secret: str = "sandbox") -> NetsuiteOauth:
        url = f"{account.url}/services/rest{path}"
        return NetsuiteOauth(url, "sandbox", "sandbox", "sandbox", secret, ACCOUNT)

    return make


def test_oauth_python_writes_and_reads_a_thousand(account: Sandbox, signed: Callable[..., NetsuiteOauth]) -> None:
    for body in batches("op"):
        assert signed("/record/v1/customer").post(body, headers=BATCH).status_code == 202
    all_written(account, "op")
    rows: list[dict[str, Any]] = []
    sql = "SELECT id, companyname, creditlimit FROM customer WHERE externalid LIKE 'op-%' ORDER BY id"
    for offset in range(0, NEW, 250):
        query = signed(f"/query/v1/suiteql?limit=250&offset={offset}")
        page = query.post({"q": sql}, headers=TRANSIENT).json()
        assert page["totalResults"] == NEW and page["hasMore"] == (offset < 750)
        rows += page["items"]
    check(account, "op", rows)


def test_oauth_python_life_of_a_record(account: Sandbox, signed: Callable[..., NetsuiteOauth]) -> None:
    made = signed("/record/v1/customer").post({"companyName": "Über & Söhne", "email": "a@b.example"})
    path = "/record/v1/customer/" + made.headers["Location"].rpartition("/")[2]
    assert signed(path).get(params={"fields": "companyName,email"}).json()["companyName"] == "Über & Söhne"
    assert signed(path).patch({"email": None}).status_code == 204
    assert "email" not in signed(path).get().json()
    assert signed("/record/v1/customer/eid:op_9-x").put({"companyName": "Upserted"}).status_code == 204
    found = signed("/record/v1/customer").get(params={"q": 'companyName IS "Über & Söhne"', "limit": "5"}).json()
    assert found["count"] == 1
    assert signed(path).delete().status_code == 204
    with pytest.raises(requests.HTTPError, match="404"):
        signed(path).get()
    with pytest.raises(requests.HTTPError, match="401"):
        signed(path, secret="guess").get()


# ---- OAuth 2.0, machine to machine


def test_machine_to_machine_writes_and_reads_a_thousand(account: Sandbox) -> None:
    """As the vendor's help describes it, with PyJWT and requests."""
    rest = f"{account.url}/services/rest"
    now = int(time.time())
    claims = {"iss": "sandbox", "scope": ["rest_webservices"], "aud": f"{rest}/auth/oauth2/v1/token", "iat": now}
    key = (account.data_dir / "netsuite-key.pem").read_text()
    assertion = jwt.encode(claims | {"exp": now + 3600}, key, "ES256", headers={"kid": "sandbox", "typ": "JWT"})
    form = {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": assertion,
    }
    with requests.Session() as session:
        token = session.post(f"{rest}/auth/oauth2/v1/token", data=form).json()
        assert token["token_type"] == "bearer" and int(token["expires_in"]) == 3600
        session.headers["Authorization"] = f"Bearer {token['access_token']}"
        for body in batches("mm"):
            reply = session.post(f"{rest}/record/v1/customer", data=json.dumps(body), headers=BATCH)
            assert reply.status_code == 202, reply.text
        all_written(account, "mm")
        sql = "SELECT id, companyname, creditlimit FROM customer WHERE externalid LIKE 'mm-%' ORDER BY id"
        page = session.post(f"{rest}/query/v1/suiteql", params={"limit": 1000}, json={"q": sql}, headers=TRANSIENT)
        check(account, "mm", page.json()["items"])
