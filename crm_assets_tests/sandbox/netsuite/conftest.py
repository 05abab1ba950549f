"""One account for all tests that make their own records, and clients of its API."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox, make_sandbox

__all__ = ["make_sandbox"]


def rest(sandbox: Sandbox, **headers: str) -> httpx.Client:
    """A client with a token that never ends; close it after use."""
    own = {"Authorization": "Bearer sandbox"} | headers
    return httpx.Client(base_url=f"{sandbox.url}/services/rest", headers=own, timeout=60, trust_env=False)


def _open(folder: Path) -> Iterator[Sandbox]:
    sandbox = Sandbox(folder / "data", connection="netsuite", rows=200)
    yield sandbox
    sandbox.kill()


@pytest.fixture(scope="session")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One for tests that make their own records."""
    yield from _open(tmp_path_factory.mktemp("netsuite"))


@pytest.fixture(scope="session")
def api(account: Sandbox) -> Iterator[httpx.Client]:
    with rest(account) as client:
        yield client


@pytest.fixture(scope="session")
def still(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One whose records nobody changes: a generated company, for tests that only ask."""
    yield from _open(tmp_path_factory.mktemp("netsuite-still"))


@pytest.fixture(scope="session")
def still_api(still: Sandbox) -> Iterator[httpx.Client]:
    with rest(still) as client:
        yield client


def rows(api: httpx.Client, text: str, *params: Any) -> list[dict[str, Any]]:
    """The rows of a SuiteQL query that fits one page."""
    reply = ask(api, text, *params)
    assert reply.status_code == 200, reply.text
    items: list[dict[str, Any]] = reply.json()["items"]
    return [{name: value for name, value in one.items() if name != "links"} for one in items]


def ask(api: httpx.Client, text: str, *params: Any, **page: Any) -> httpx.Response:
    """The reply to a SuiteQL query."""
    body = {"q": text} | ({"params": list(params)} if params else {})
    return api.post("/query/v1/suiteql", params=page, json=body, headers={"Prefer": "transient"})


def made(reply: httpx.Response) -> str:
    """The id of a record that was just created or changed."""
    assert reply.status_code == 204, reply.text
    return reply.headers["location"].rpartition("/")[2]


def problem(reply: httpx.Response) -> tuple[int, str]:
    """The status and the code of a refusal."""
    body = reply.json()
    assert body["status"] == reply.status_code and body["type"].startswith("https://www.rfc-editor.org/")
    return reply.status_code, body["o:errorDetails"][0]["o:errorCode"]
