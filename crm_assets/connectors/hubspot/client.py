"""HTTP to one HubSpot account: tokens, limits and what a lost reply means.

Sources: "Private apps" and "OAuth tokens" (tokens of apps live 30 minutes); API usage guidelines, "Response headers".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeVar

import httpx
import simplejson

from crm_assets.connectors.http import HttpClient, Token
from crm_assets.connectors.hubspot import failures
from crm_assets.core.errors import ConfigurationError, QuotaExhausted, RetriableError, UnknownOutcome
from crm_assets.core.model import Limit

# One place for the version: dated paths (/crm/objects/2026-03) carry the same bodies.
OBJECTS = "/crm/v3/objects"
PROPERTIES = "/crm/v3/properties"
PIPELINES = "/crm/v3/pipelines"
OWNERS = "/crm/v3/owners"
SCHEMAS = "/crm/v3/schemas"
ASSOCIATIONS = "/crm/v4/associations"
_TOKEN = "/oauth/v1/token"

_T = TypeVar("_T")


class Client(HttpClient):
    """Calls of one account."""

    def read(self, method: str, path: str, api: str, what: str, **options: Any) -> Any:
        """The body of a call that changes nothing (POST too, for search and batch reads): sent again a few times
        when it fails on the way. Numbers are exact. ``accept`` are further statuses that are no error."""

        def exact(body: bytes) -> Any:
            return simplejson.loads(body, use_decimal=True)

        return self._read(exact, method, path, api, what, **options)

    def whole(self, method: str, path: str, api: str, what: str, **options: Any) -> bytes:
        """As ``read``, but the body as it came: a JSON object, not parsed yet."""

        def object_of(body: bytes) -> bytes:
            if not body.rstrip().endswith(b"}"):
                raise ValueError("no end")
            return body

        return self._read(object_of, method, path, api, what, **options)

    def _read(self, parse: Callable[[bytes], _T], method: str, path: str, api: str, what: str, **options: Any) -> _T:
        def once() -> _T:
            response = self.call(method, path, api, what, writes=False, **options)
            try:
                return parse(response.content)
            except ValueError as error:
                raise RetriableError(f"{self.config.name}: {what}: the reply is cut off or no JSON") from error

        return self.repeated(once)

    def write(self, method: str, path: str, what: str, body: Any) -> Mapping[str, Any]:
        """One call, once; the body of its reply, empty for 204. UnknownOutcome if it may have arrived without one."""
        response = self.call(method, path, "write", what, writes=True, json=body)
        if response.status_code == 204:
            return {}
        try:
            reply = simplejson.loads(response.content, use_decimal=True)
        except ValueError as error:
            raise UnknownOutcome(f"{self.config.name}: {what}: the reply is cut off") from error
        if not isinstance(reply, dict):
            raise UnknownOutcome(f"{self.config.name}: {what}: the reply is not of the documented form")
        return reply

    def ask_the_time(self) -> None:
        self.read("GET", OWNERS, "owners", "clock", params={"limit": 1})

    def note(self, headers: httpx.Headers) -> None:
        if limits := list(_limits(headers)):
            self.gate.observe(limits)

    def refusal(self, response: httpx.Response, said: str, writes: bool) -> Exception:
        if response.status_code == 401:
            why = failures.explain(failures.read(response))
            return ConfigurationError(
                f"connection {self.config.name}: HubSpot does not know the token ({why}); check the variables "
                f"{', '.join(sorted(self.config.credentials.values()))}"
            )
        if response.status_code == 429:
            self.gate.refused(*failures.limit(failures.read(response)))
        return failures.translate(response, said, may_have_written=writes)

    def log_in(self) -> Token:
        """A private app's token as it is; an app's access token by its refresh token."""
        server = self.config.url.rstrip("/")
        if "token" in self.config.credentials:
            return Token(self.config.secret("token"), server)
        form = {"grant_type": "refresh_token"} | {
            name: self.config.secret(name) for name in ("client_id", "client_secret", "refresh_token")
        }
        try:
            response = self.request("POST", f"{server}{_TOKEN}", "token", "token", writes=False, data=form)
        except QuotaExhausted as error:
            raise RetriableError(str(error)) from error
        if response.status_code in (400, 401):
            body = failures.read(response)
            raise ConfigurationError(
                f"connection {self.config.name}: HubSpot refused the refresh token ({body.get('status', '')}); check "
                f"the variables {', '.join(sorted(self.config.credentials.values()))}, or install the app again"
            )
        return self.granted(response)


def _limits(headers: httpx.Headers) -> Iterator[Limit]:
    """What a reply says about the account's limits; a search's says nothing."""
    for name, most, left in (
        ("calls_10s", "X-HubSpot-RateLimit-Max", "X-HubSpot-RateLimit-Remaining"),
        ("daily_calls", "X-HubSpot-RateLimit-Daily", "X-HubSpot-RateLimit-Daily-Remaining"),
    ):
        limit, remaining = headers.get(most, ""), headers.get(left, "")
        if limit.isdecimal() and remaining.isdecimal():
            yield Limit(name, int(limit) - int(remaining), int(limit))
