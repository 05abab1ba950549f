"""Two doors of Salesforce: a login with a signed statement, and Outbound Messages coming in."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from crm_assets.connectors import registry
from crm_assets.connectors.base import ConnectionConfig, Connector
from crm_assets.connectors.salesforce import login, outbound
from crm_assets.core.errors import ConfigurationError
from crm_assets.events.receiver import app
from crm_assets.store.database import Database
from crm_assets_tests.connectors.test_salesforce import CountingGate
from crm_assets_tests.events.serving import serving
from crm_assets_tests.plugins.sandbox import Sandbox, wait_until

CREDENTIALS = {"client_id": "SF_APP", "username": "SF_USER", "private_key": "SF_KEY"}


def make_key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def private(key: rsa.RSAPrivateKey) -> str:
    pkcs8, no = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, pkcs8, no).decode()


def public(key: rsa.RSAPrivateKey) -> str:
    return (
        key.public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        .decode()
    )


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return make_key()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch, key: rsa.RSAPrivateKey) -> pytest.MonkeyPatch:
    for name, value in {"SF_APP": "app", "SF_USER": "sandbox", "SF_KEY": private(key)}.items():
        monkeypatch.setenv(name, value)
    return monkeypatch


def connect(url: str, credentials: dict[str, str] = CREDENTIALS, **options: str) -> Connector:
    return registry.make(ConnectionConfig("salesforce", "salesforce", url, credentials, options), CountingGate())


def test_a_signed_statement_opens_a_session(
    sandbox: Sandbox, environment: pytest.MonkeyPatch, key: rsa.RSAPrivateKey, tmp_path: Path
) -> None:
    sandbox.control("POST", "/keys", {"client_id": "app", "public_key": public(key)})
    file = tmp_path / "key.pem"
    file.write_text(private(key))
    for given in (private(key), private(key).replace("\n", "\\n"), str(file)):
        environment.setenv("SF_KEY", given)
        connector = connect(sandbox.url)
        assert "Contact" in connector.object_names()
        connector.close()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"SF_KEY": "other"}, "invalid assertion"),
        ({"SF_APP": "unknown"}, "client identifier invalid"),
        ({"SF_USER": "nobody@example.com"}, "hasn't approved"),
        ({"audience": "https://login.example.com"}, "audience is invalid"),
    ],
)
def test_what_the_signature_does_not_prove_is_refused(
    sandbox: Sandbox, environment: pytest.MonkeyPatch, key: rsa.RSAPrivateKey, change: dict[str, str], reason: str
) -> None:
    sandbox.control("POST", "/keys", {"client_id": "app", "public_key": public(key)})
    options = {"jwt_audience": change.pop("audience")} if "audience" in change else {}
    for name, value in change.items():
        environment.setenv(name, private(make_key()) if value == "other" else value)
    connector = connect(sandbox.url, **options)
    with pytest.raises(ConfigurationError, match=reason):
        connector.object_names()
    connector.close()


def test_the_statement(environment: pytest.MonkeyPatch, key: rsa.RSAPrivateKey) -> None:
    config = ConnectionConfig("s", "salesforce", "https://acme--uat.sandbox.my.salesforce.com", CREDENTIALS)
    claims = jwt.decode(
        login.assertion(config, "app"), public(key), algorithms=["RS256"], audience="https://test.salesforce.com"
    )
    assert (claims["iss"], claims["sub"]) == ("app", "sandbox")
    assert 0 < claims["exp"] - time.time() <= 180
    config = ConnectionConfig("s", "salesforce", "https://acme.my.salesforce.com", CREDENTIALS)
    assert login.audience(config) == "https://login.salesforce.com"
    environment.setenv("SF_KEY", "/nowhere/key.pem")
    with pytest.raises(ConfigurationError, match="SF_KEY"):
        login.assertion(config, "app")


MESSAGE = """<?xml version="1.0" encoding="UTF-8"?>
<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance"><soapenv:Body>
<notifications xmlns="http://soap.sforce.com/2005/09/outbound"><OrganizationId>00D5g000004SandEAC</OrganizationId>
<ActionId>04k000000000001AAA</ActionId><SessionId xsi:nil="true"/>{}</notifications>
</soapenv:Body></soapenv:Envelope>"""
ONE = """<Notification><Id>{}</Id><sObject xsi:type="sf:Contact" xmlns:sf="urn:sobject.enterprise.soap.sforce.com">
<sf:Id>{}</sf:Id><sf:LastName>Pine</sf:LastName></sObject></Notification>"""
BODY = MESSAGE.format(ONE.format("04l1", "003a") + ONE.format("04l2", "003b")).encode()
URL = "http://relay/webhooks/salesforce?key=s"


def test_a_message_names_records() -> None:
    changes = outbound.parse("s", "00D5g000004Sand", BODY, URL)
    assert [(one.event_id, one.object, one.record_id) for one in changes] == [
        ("04l1", "Contact", "003a"),
        ("04l2", "Contact", "003b"),
    ]


@pytest.mark.parametrize(
    ("url", "organization", "body", "error"),
    [
        (URL.replace("key=s", "key=x"), None, BODY, PermissionError),
        (URL.partition("?")[0], None, BODY, PermissionError),
        (URL, "00D000000000001", BODY, PermissionError),
        (URL, None, BODY[:200], ValueError),
        (URL, None, b"<a/>", ValueError),
        (URL, None, MESSAGE.format("<Notification/>").encode(), ValueError),
        (URL, None, b'<!DOCTYPE x [<!ENTITY e "boom">]>' + BODY, ValueError),
    ],
)
def test_forged_and_malformed_messages(url: str, organization: str | None, body: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        outbound.parse("s", organization, body, url)


@pytest.fixture
def connector(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Connector]:
    monkeypatch.setenv("SF_SECRET", "sandbox")
    made = connect(sandbox.url, {"webhook_secret": "SF_SECRET"})
    yield made
    made.close()


def test_messages_arrive_and_are_acknowledged(sandbox: Sandbox, connector: Connector, db: Database) -> None:
    """Sent again until the reply says so; each notification is one hint however often it comes."""

    def hints() -> list[tuple[str, str]]:
        with db.transaction() as conn:
            return conn.execute("SELECT object, record_id FROM crm_assets.inbox ORDER BY seq").fetchall()  # type: ignore[return-value]

    with serving(app(db, {"salesforce": connector})) as address:
        sandbox.control("POST", "/outbound_messages", {"url": f"{address}/webhooks/salesforce?key=wrong"})
        sandbox.control("POST", "/outbound_messages", {"url": f"{address}/webhooks/salesforce?key=sandbox"})
        sandbox.faults({"kind": "duplicate_event", "path": "Contact"})
        made = sandbox.create("Contact", LastName="Pine")
        sandbox.update("Contact", made, LastName="Oak")
        sandbox.delete("Contact", made)
        account = sandbox.create("Account", Name="A")
        expected = [("contact", made), ("contact", made), ("account", account)]
        wait_until(lambda: sorted(hints()) == sorted(expected))
        time.sleep(0.5)  # what was acknowledged is not sent again
        assert sorted(hints()) == sorted(expected)
