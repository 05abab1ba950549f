"""HTTP to one HubSpot account: tokens, limits and what a lost reply means.

Sources: "Private apps" and "OAuth tokens" (tokens of apps live 30 minutes); API usage guidelines, "Response headers".
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
import simplejson
import stamina

from crm_assets.connectors.base import ConnectionConfig, Gate
from crm_assets.connectors.hubspot import failures
from crm_assets.core.errors import ConfigurationError, QuotaExhausted, RejectedError, RetriableError, UnknownOutcome
from crm_assets.core.model import Limit

# One place for the version: dated paths (/crm/objects/2026-03) carry the same bodies.
OBJECTS = "/crm/v3/objects"
PROPERTIES = "/crm/v3/properties"
PIPELINES = "/crm/v3/pipelines"
OWNERS = "/crm/v3/owners"
ASSOCIATIONS = "/crm/v4/associations"
_TOKEN = "/oauth/v1/token"

_READ_ATTEMPTS = 3

_T = TypeVar("_T")
_EARLY = timedelta(seconds=60)
"""An app's token is renewed this long before it ends: a 401 is no reliable sign of its end."""


class Client:
    """Calls of one connection. Safe to use from several threads; the token is shared by them."""

    def __init__(self, config: ConnectionConfig, gate: Gate) -> None:
        self.config = config
        self._gate = gate
        self._http = httpx.Client(
            timeout=httpx.Timeout(config.call_timeout.total_seconds(), connect=10.0),
            headers={"Accept": "application/json", "Accept-Encoding": "gzip"},
            trust_env=not config.url.startswith("http://127.0.0.1"),
        )
        self._token: tuple[str, float] | None = None
        self._heard: tuple[datetime, float] | None = None
        self._lock = threading.Lock()

    def close(self) -> None:
        self._http.close()

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
        for attempt in stamina.retry_context(
            on=_worth_repeating, attempts=_READ_ATTEMPTS, wait_initial=0.2, wait_max=2.0, timeout=60.0
        ):
            with attempt:
                response = self._call(method, path, api, what, writes=False, **options)
                try:
                    return parse(response.content)
                except ValueError as error:
                    raise RetriableError(f"{self.config.name}: {what}: the reply is cut off or no JSON") from error
        raise AssertionError("unreachable")

    def write(self, method: str, path: str, what: str, body: Any) -> Mapping[str, Any]:
        """One call, once; the body of its reply, empty for 204. UnknownOutcome if it may have arrived without one."""
        response = self._call(method, path, "write", what, writes=True, json=body)
        if response.status_code == 204:
            return {}
        try:
            reply = simplejson.loads(response.content, use_decimal=True)
        except ValueError as error:
            raise UnknownOutcome(f"{self.config.name}: {what}: the reply is cut off") from error
        if not isinstance(reply, dict):
            raise UnknownOutcome(f"{self.config.name}: {what}: the reply is not of the documented form")
        return reply

    def clock(self) -> datetime:
        """The server's own clock, whole seconds: as told with the last reply, advanced by the time since then."""
        if self._heard is None:
            self.read("GET", OWNERS, "owners", "clock", params={"limit": 1})
        assert self._heard is not None
        at, when = self._heard
        return at + timedelta(seconds=int(time.monotonic() - when))

    def _call(
        self,
        method: str,
        path: str,
        api: str,
        what: str,
        *,
        writes: bool,
        accept: tuple[int, ...] = (),
        **options: Any,
    ) -> httpx.Response:
        for renewed in (False, True):
            token = self._credentials()
            headers = {"Authorization": f"Bearer {token}"}
            response = self._request(method, path, api, what, writes=writes, headers=headers, **options)
            if response.status_code == 401 and not renewed:
                # Refused before anything was done; an app's token may have ended early.
                self._forget(token)
                continue
            if response.is_success or response.status_code in accept:
                return response
            if response.status_code == 401:
                said = failures.explain(failures.read(response))
                raise ConfigurationError(
                    f"connection {self.config.name}: HubSpot does not know the token ({said}); check the variables "
                    f"{', '.join(sorted(self.config.credentials.values()))}"
                )
            if response.status_code == 429:
                self._gate.refused(*failures.limit(failures.read(response)))
            raise failures.translate(response, f"{self.config.name}: {what}", may_have_written=writes)
        raise AssertionError("unreachable")

    def _request(self, method: str, path: str, api: str, what: str, *, writes: bool, **options: Any) -> httpx.Response:
        said = f"{self.config.name}: {what}"
        # Whole, because httpx looks at each character of a URL again whenever it puts parts together.
        query = urlencode(options.pop("params", None) or {})
        url = f"{self.config.url.rstrip('/')}{path}{'?' if query else ''}{query}"
        with self._gate.call(api):
            try:
                response = self._http.request(method, url, **options)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                raise RetriableError(f"{said}: no connection to {self.config.url} ({error})") from error
            except httpx.HTTPError as error:
                reason = f"{said}: no reply ({type(error).__name__})"
                raise (UnknownOutcome(reason) if writes else RetriableError(reason)) from error
        if "Date" in response.headers:
            self._heard = parsedate_to_datetime(response.headers["Date"]).astimezone(UTC), time.monotonic()
        if limits := list(_limits(response.headers)):
            self._gate.observe(limits)
        return response

    def _credentials(self) -> str:
        """A private app's token as it is; an app's access token, renewed before it ends."""
        if "token" in self.config.credentials:
            return self.config.secret("token")
        with self._lock:
            if self._token is None or time.monotonic() >= self._token[1]:
                self._token = self._renew()
            return self._token[0]

    def _forget(self, token: str) -> None:
        with self._lock:
            if self._token is not None and self._token[0] == token:
                self._token = None

    def _renew(self) -> tuple[str, float]:
        form = {"grant_type": "refresh_token"} | {
            name: self.config.secret(name) for name in ("client_id", "client_secret", "refresh_token")
        }
        try:
            response = self._request("POST", _TOKEN, "token", "token", writes=False, data=form)
        except QuotaExhausted as error:
            raise RetriableError(str(error)) from error
        if response.status_code in (400, 401):
            body = failures.read(response)
            raise ConfigurationError(
                f"connection {self.config.name}: HubSpot refused the refresh token ({body.get('status', '')}); check "
                f"the variables {', '.join(sorted(self.config.credentials.values()))}, or install the app again"
            )
        if not response.is_success:
            raise failures.translate(response, f"{self.config.name}: token", may_have_written=False)
        try:
            body = response.json()
            lives = timedelta(seconds=float(body["expires_in"]))
            return str(body["access_token"]), time.monotonic() + max(lives - _EARLY, lives / 2).total_seconds()
        except (ValueError, KeyError, TypeError) as error:
            raise RejectedError(f"{self.config.name}: the token endpoint answered without an access_token") from error


def _limits(headers: httpx.Headers) -> Iterator[Limit]:
    """What a reply says about the account's limits; a search's says nothing."""
    for name, most, left in (
        ("calls_10s", "X-HubSpot-RateLimit-Max", "X-HubSpot-RateLimit-Remaining"),
        ("daily_calls", "X-HubSpot-RateLimit-Daily", "X-HubSpot-RateLimit-Daily-Remaining"),
    ):
        limit, remaining = headers.get(most, ""), headers.get(left, "")
        if limit.isdecimal() and remaining.isdecimal():
            yield Limit(name, int(limit) - int(remaining), int(limit))


def _worth_repeating(error: Exception) -> bool:
    return isinstance(error, RetriableError) and not isinstance(error, QuotaExhausted)
