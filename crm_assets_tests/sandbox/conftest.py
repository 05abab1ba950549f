"""The sandbox's fixtures."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox, make_sandbox, module_sandbox, sandbox

__all__ = ["make_sandbox", "module_sandbox", "sandbox"]


@pytest.fixture
def api(sandbox: Sandbox) -> Iterator[httpx.Client]:
    """The vendor's API of the test's own sandbox."""
    with sandbox.api() as client:
        yield client


def query(api: httpx.Client, text: str, **options: Any) -> list[dict[str, Any]]:
    """The records of a query that fits one page."""
    reply = api.get("/query", params={"q": text}, **options)
    assert reply.status_code == 200, reply.text
    records: list[dict[str, Any]] = reply.json()["records"]
    return records
