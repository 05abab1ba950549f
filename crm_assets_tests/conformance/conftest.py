"""simple-salesforce, unmodified, talking to the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import requests
from requests.adapters import HTTPAdapter
from simple_salesforce import Salesforce

from crm_assets_tests.plugins.sandbox import Sandbox, make_sandbox, module_sandbox, sandbox

__all__ = ["make_sandbox", "module_sandbox", "sandbox"]


class ToSandbox(HTTPAdapter):
    """The client speaks https only; this sends its requests to a plain local address, otherwise as they are."""

    def __init__(self, url: str) -> None:
        super().__init__()
        self._url = url

    def send(self, request: requests.PreparedRequest, *args: Any, **options: Any) -> requests.Response:
        request.url = self._url + request.path_url
        return super().send(request, *args, **options)


@pytest.fixture
def log_in() -> Iterator[Callable[..., Salesforce]]:
    """Logs in to a sandbox by client credentials."""
    opened: list[requests.Session] = []

    def log_in(where: Sandbox, secret: str = "sandbox") -> Salesforce:
        session = requests.Session()
        session.trust_env = False
        session.mount("https://", ToSandbox(where.url))
        opened.append(session)
        return Salesforce(
            consumer_key="sandbox",
            consumer_secret=secret,
            domain="acme.my",
            session=session,
            version="67.0",
        )

    yield log_in
    for session in opened:
        session.close()


@pytest.fixture
def salesforce(sandbox: Sandbox, log_in: Callable[..., Salesforce]) -> Salesforce:
    return log_in(sandbox)
