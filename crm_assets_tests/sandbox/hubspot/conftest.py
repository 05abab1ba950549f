"""One account for all tests that make their own records, and clients of its API."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox, make_sandbox

__all__ = ["make_sandbox"]

MakeAccount = Callable[..., Sandbox]
UNLIMITED = {"calls_10s": 1_000_000, "search_1s": 1_000_000}
_names = count(1)


def rest(sandbox: Sandbox, token: str = "sandbox") -> httpx.Client:
    """A client of the vendor's API; close it after use."""
    own = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=sandbox.url, headers=own, timeout=60, trust_env=False)


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """Its index does not lag, and its limits do not bite."""
    sandbox = Sandbox(tmp_path_factory.mktemp("hubspot") / "data", connection="hubspot", rows=200)
    sandbox.limits(**UNLIMITED, index_lag_ms=0)
    yield sandbox
    sandbox.kill()


@pytest.fixture(scope="session")
def api(account: Sandbox) -> Iterator[httpx.Client]:
    with rest(account) as client:
        yield client


@pytest.fixture
def make_account(make_sandbox: Callable[..., Sandbox]) -> MakeAccount:
    """Accounts of a test's own."""

    def make(**options: Any) -> Sandbox:
        return make_sandbox(connection="hubspot", rows=options.pop("rows", 20), **options)

    return make


def unique(stem: str = "x") -> str:
    """A text that no other test uses."""
    return f"{stem}{next(_names)}"


def mail(stem: str = "x") -> str:
    return f"{unique(stem)}@tests.example"


def found(api: httpx.Client, kind: str, *filters: dict[str, Any], **more: Any) -> list[str]:
    """The ids that a search finds."""
    reply = api.post(
        f"/crm/v3/objects/{kind}/search", json={"filterGroups": [{"filters": list(filters)}], "limit": 200, **more}
    )
    assert reply.status_code == 200, reply.text
    return [one["id"] for one in reply.json()["results"]]


def where(name: str, operator: str, value: Any = None, **more: Any) -> dict[str, Any]:
    one = {"propertyName": name, "operator": operator, **more}
    return one if value is None else one | {"value": value}


def make_primary(api: httpx.Client, contact: str, company: str) -> None:
    """Makes a company a contact's primary one; the type is told with its category, since labels have numbers too."""
    spec = [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 1}]
    path = f"/crm/v4/objects/contacts/{contact}/associations/companies/{company}"
    reply = api.put(path, json=spec)
    assert reply.status_code < 300, reply.text
