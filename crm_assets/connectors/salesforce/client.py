"""HTTP to one Salesforce org: tokens, limits and what a lost reply means.

Source: REST API Developer Guide, "Limit Info Header".
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import httpx
import simplejson

from crm_assets.connectors.base import ConnectionConfig, Gate
from crm_assets.connectors.http import HttpClient, Token
from crm_assets.connectors.salesforce import failures, login
from crm_assets.core.errors import ConfigurationError, QuotaExhausted, RejectedError, RetriableError
from crm_assets.core.model import Limit

if TYPE_CHECKING:
    from crm_assets.connectors.salesforce.changeevents import Schema

_USAGE = re.compile(r"(?<![\w-])api-usage=(\d+)/(\d+)")
_TOKEN = "/services/oauth2/token"


class Client(HttpClient):
    """Calls of one org."""

    def __init__(self, config: ConnectionConfig, gate: Gate) -> None:
        super().__init__(config, gate)
        self.event_schemas: dict[str, Schema] = {}
        """Of the stream's events, by schema id; a schema never changes."""
        version = str(config.options.get("api_version", "67.0"))
        self.root = f"/services/data/v{version.removeprefix('v')}"

    def get(self, path: str, api: str, what: str, **options: Any) -> httpx.Response:
        """A read: sent again a few times when it fails on the way."""
        return self.repeated(lambda: self.call("GET", path, api, what, writes=False, **options))

    def json(self, response: httpx.Response) -> Any:
        """The body with exact decimals; a cut-off one is RetriableError."""
        try:
            return simplejson.loads(response.content, use_decimal=True)
        except ValueError as error:
            raise RetriableError(
                f"{self.config.name}: the reply of {response.url.path} is cut off or no JSON"
            ) from error

    def ask_the_time(self) -> None:
        self.get(f"{self.root}/", "version", "clock")

    def note(self, headers: httpx.Headers) -> None:
        if usage := _USAGE.search(headers.get("Sforce-Limit-Info", "")):
            self.gate.observe([Limit("daily_calls", int(usage[1]), int(usage[2]))])

    def refusal(self, response: httpx.Response, said: str, writes: bool) -> Exception:
        return failures.translate(response, said, may_have_written=writes)

    @property
    def organization(self) -> str | None:
        """The org's id, once a login has told it."""
        return self._token.tenant if self._token else None

    def log_in(self) -> Token:
        base = str(self.config.options.get("login_url", self.config.url)).rstrip("/")
        form = login.form(self.config)
        try:
            response = self.request("POST", f"{base}{_TOKEN}", "token", "login", writes=False, data=form)
        except QuotaExhausted as error:
            raise RetriableError(str(error)) from error
        if response.status_code in (400, 401):
            code, message = failures.read(response)
            raise ConfigurationError(
                f"connection {self.config.name}: Salesforce refused the login ({code}: {message}); check the variables "
                f"{', '.join(sorted(self.config.credentials.values()))} and the connected app's flow"
            )
        if not response.is_success:
            raise self.refusal(response, f"{self.config.name}: login", False)
        body = self.json(response)
        if not isinstance(body, dict) or "access_token" not in body:
            raise RejectedError(f"{self.config.name}: the token endpoint at {base} answered without an access_token")
        # https://login.salesforce.com/id/<org>/<user>
        tenant = str(body.get("id", "")).rstrip("/").split("/")[-2:][0]
        server = str(body.get("instance_url") or self.config.url).rstrip("/")
        return Token(str(body["access_token"]), server, tenant=tenant)
