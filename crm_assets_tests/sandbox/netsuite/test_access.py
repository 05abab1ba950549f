"""Who may call, and how many at once."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from oauthlib.oauth1 import SIGNATURE_HMAC_SHA1, SIGNATURE_HMAC_SHA256, Client

from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until
from crm_assets_tests.sandbox.netsuite.conftest import made, problem, rest

TOKEN = "/services/rest/auth/oauth2/v1/token"
ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"


def assertion(account: Sandbox, key: Any = None, kid: str = "sandbox", algorithm: str = "ES256", **claims: Any) -> str:
    now = int(time.time())
    payload = {
        "iss": "sandbox",
        "scope": ["rest_webservices"],
        "aud": account.url + TOKEN,
        "iat": now,
        "exp": now + 600,
    }
    key = key or (account.data_dir / "netsuite-key.pem").read_text()
    return jwt.encode(payload | claims, key, algorithm=algorithm, headers={"kid": kid})


def grant(account: Sandbox, signed: str, **form: str) -> httpx.Response:
    given = {"grant_type": "client_credentials", "client_assertion_type": ASSERTION, "client_assertion": signed}
    return httpx.post(account.url + TOKEN, data=given | form, trust_env=False)


def whoami(account: Sandbox, token: str) -> httpx.Response:
    with rest(account, Authorization=f"Bearer {token}") as api:
        return api.get("/system/v1/governanceLimits")


def test_a_signed_assertion_is_worth_a_token(account: Sandbox) -> None:
    body = grant(account, assertion(account, scope="restlets,rest_webservices")).json()
    assert body["expires_in"] == "3600" and body["token_type"] == "bearer"
    limits = whoami(account, body["access_token"]).json()
    assert limits["accountConcurrencyLimit"] == 15 and limits["integrationLimitType"] == "accountLimit"


def test_a_key_of_ones_own(account: Sandbox) -> None:
    own = rsa.generate_private_key(65537, 2048)
    pem = own.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    known = account.control("POST", "/certificates", {"kid": "mine", "public_key": pem})
    assert known["certificates"] == ["mine", "sandbox"]
    assert grant(account, assertion(account, own, "mine", "PS256")).status_code == 200
    with pytest.raises(httpx.HTTPStatusError, match="400"):
        account.control("POST", "/certificates", {"kid": "bad", "public_key": "no key"})


def test_assertions_that_are_refused(account: Sandbox) -> None:
    now = int(time.time())
    other = ec.generate_private_key(ec.SECP256R1())
    for signed, error in (
        (assertion(account, kid="nobody"), "invalid_client"),
        (assertion(account, iss="somebody"), "invalid_client"),
        (assertion(account, other), "invalid_grant"),
        (assertion(account, exp=now + 3700, iat=now), "invalid_grant"),
        (assertion(account, exp=now - 10, iat=now - 600), "invalid_grant"),
        (assertion(account, aud="https://elsewhere.example" + TOKEN), "invalid_grant"),
        (assertion(account, scope=["everything"]), "invalid_scope"),
        ("nonsense", "invalid_grant"),
    ):
        reply = grant(account, signed)
        assert (reply.status_code, reply.json()) == (400, {"error": error})
    vendor = "https://1234567-sb1.suitetalk.api.netsuite.com" + TOKEN
    assert grant(account, assertion(account, aud=vendor)).status_code == 200
    assert grant(account, assertion(account), grant_type="password").json() == {"error": "unsupported_grant_type"}


def test_a_token_ends_after_its_time(make_sandbox: MakeSandbox) -> None:
    account = make_sandbox(connection="netsuite", rows=1, session_seconds=1.0)
    token = grant(account, assertion(account)).json()["access_token"]
    assert whoami(account, token).status_code == 200
    reply = wait_until(lambda: (last := whoami(account, token)).status_code == 401 and last)
    assert problem(reply) == (401, "INVALID_LOGIN")
    assert 'error="invalid_token"' in reply.headers["www-authenticate"]
    assert account.stop() == 0
    account.start()
    # The development key outlives a restart.
    assert grant(account, assertion(account)).status_code == 200


def test_expiry_on_order(account: Sandbox, api: httpx.Client) -> None:
    account.faults({"kind": "expired_token", "path": "/customer$"})
    assert problem(api.get("/record/v1/customer")) == (401, "INVALID_LOGIN")
    assert api.get("/record/v1/customer").status_code == 200


def test_no_credentials(account: Sandbox) -> None:
    for header in ("", "Bearer wrong", "Basic c2FuZGJveA==", 'OAuth realm="1", oauth_token="sandbox"'):
        with rest(account, Authorization=header) as api:
            assert problem(api.get("/record/v1/customer")) == (401, "INVALID_LOGIN")


def signed(account: Sandbox, path: str, method: str = SIGNATURE_HMAC_SHA256, **more: Any) -> tuple[str, dict[str, str]]:
    """The address and headers of a call that is signed as OAuth 1.0a asks for."""
    client = Client("sandbox", "sandbox", "sandbox", "sandbox", realm="1234567_SB1", signature_method=method, **more)
    url, headers, _ = client.sign(f"{account.url}{path}", "GET")
    return url, headers


def test_signatures(account: Sandbox) -> None:
    fields = "/services/rest/record/v1/customer?limit=5&q=companyName%20IS%20%22a%20%26%20b%22"
    with httpx.Client(trust_env=False) as http:
        for path in (fields, "/netsuite" + fields, "/services/rest/record/v1/vendor/eid:none"):
            url, headers = signed(account, path)
            assert http.get(url, headers=headers).status_code in (200, 404)
            # A signature counts once, and only for its own call.
            assert problem(http.get(url, headers=headers)) == (401, "INVALID_LOGIN")
        url, headers = signed(account, fields)
        assert http.get(url.replace("limit=5", "limit=6"), headers=headers).status_code == 401
        for more in ({"timestamp": str(int(time.time()) - 400)}, {"method": SIGNATURE_HMAC_SHA1}):
            url, headers = signed(account, fields, **more)
            assert http.get(url, headers=headers).status_code == 401


def test_sixteen_at_once_are_one_too_many(make_sandbox: MakeSandbox) -> None:
    account = make_sandbox(connection="netsuite", rows=1)
    account.faults({"kind": "slow", "path": "governanceLimits", "times": 15})
    with rest(account) as api, ThreadPoolExecutor(15) as pool:
        calls = [pool.submit(api.get, "/system/v1/governanceLimits") for _ in range(15)]
        wait_until(lambda: account.calls()["peak_concurrency"] == 15)
        assert problem(api.get("/record/v1/customer")) == (429, "CONCURRENCY_LIMIT_EXCEEDED")
        assert grant(account, assertion(account)).status_code == 200
        assert {one.result().status_code for one in calls} == {200}
        assert api.get("/record/v1/customer").status_code == 200
        assert account.calls()["limit_violations"] == 1
        account.limits(concurrency=0)
        assert api.get("/record/v1/customer").status_code == 429
        account.limits(concurrency=2)
        made(api.post("/record/v1/customer", json={"companyName": "In"}))
    with pytest.raises(httpx.HTTPStatusError, match="concurrency"):
        account.limits(daily_calls=3)
