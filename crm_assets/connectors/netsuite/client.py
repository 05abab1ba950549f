"""HTTP to one NetSuite account: tokens, the limit of calls at once, and what a lost reply means.

Sources: "REST Web Services URL Schema and Account-Specific URLs"; "Web Services and RESTlet Concurrency Governance".
"""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any
from urllib.parse import urlencode

import httpx
import simplejson
import stamina

from crm_assets.connectors.base import ConnectionConfig, Gate
from crm_assets.connectors.netsuite import failures, login
from crm_assets.core.errors import ConfigurationError, QuotaExhausted, RejectedError, RetriableError, UnknownOutcome

RECORDS = "/services/rest/record/v1"
CATALOG = f"{RECORDS}/metadata-catalog"
_SUITEQL = "/services/rest/query/v1/suiteql"
_TOKEN = "/services/rest/auth/oauth2/v1/token"

CONCURRENCY = "concurrency"
LARGEST_PAGE = 1_000
_READ_ATTEMPTS = 3
_EARLY = timedelta(seconds=60)
"""A token is renewed this long before it ends."""


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

    def get(self, path: str, api: str, what: str, **options: Any) -> Any:
        """The body of a call that changes nothing, sent again a few times when it fails on the way."""
        return simplejson.loads(self._read("GET", path, api, what, **options))

    def suiteql(self, statement: str, what: str, limit: int = LARGEST_PAGE) -> bytes:
        """The reply to a query, of its first ``limit`` rows, as it came. RejectedError if the query is refused."""
        return self._read(
            "POST",
            _SUITEQL,
            "query",
            what,
            params={"limit": limit, "offset": 0},
            json={"q": statement},
            headers={"Prefer": "transient"},
        )

    def rows(self, statement: str, what: str, limit: int = LARGEST_PAGE) -> list[dict[str, Any]]:
        """The rows of a query's first page."""
        return list(simplejson.loads(self.suiteql(statement, what, limit))["items"])

    def write(self, method: str, path: str, what: str, body: Any = None, within: timedelta | None = None) -> str | None:
        """One call, once: where the record is that it made. UnknownOutcome if it may have arrived without a reply.

        ``within`` is how long to wait for the reply, if not the connection's time.
        """
        options: dict[str, Any] = {} if within is None else {"timeout": within.total_seconds()}
        if body is not None:
            options["content"] = simplejson.dumps(body, use_decimal=True).encode()
        headers = {"Content-Type": "application/json", "X-NetSuite-PropertyNameValidation": "Error"}
        response = self._call(method, path, "write", what, writes=True, headers=headers, **options)
        if response.status_code != 204:
            raise UnknownOutcome(f"{self.config.name}: {what}: NetSuite answered {response.status_code}, not 204")
        place: str | None = response.headers.get("Location")
        return place

    def clock(self) -> datetime:
        """The server's own clock, whole seconds: as told with the last reply, advanced by the time since then."""
        if self._heard is None:
            self.suiteql("SELECT 1 AS n FROM dual", "clock")
        assert self._heard is not None
        at, when = self._heard
        return at + timedelta(seconds=int(time.monotonic() - when))

    def _read(self, method: str, path: str, api: str, what: str, **options: Any) -> bytes:
        for attempt in stamina.retry_context(
            on=_worth_repeating, attempts=_READ_ATTEMPTS, wait_initial=0.2, wait_max=2.0, timeout=60.0
        ):
            with attempt:
                content = self._call(method, path, api, what, writes=False, **options).content
                if not content.rstrip().endswith(b"}"):
                    raise RetriableError(f"{self.config.name}: {what}: the reply is cut off or no JSON")
                return content
        raise AssertionError("unreachable")

    def _call(self, method: str, path: str, api: str, what: str, *, writes: bool, **options: Any) -> httpx.Response:
        for renewed in (False, True):
            token = self._credentials()
            headers = {"Authorization": f"Bearer {token}"} | options.get("headers", {})
            response = self._request(method, path, api, what, writes=writes, **{**options, "headers": headers})
            if response.status_code == 401 and not renewed:
                # Refused before anything was done.
                self._forget(token)
                continue
            if response.is_success:
                return response
            if response.status_code == 401:
                raise ConfigurationError(
                    f"connection {self.config.name}: NetSuite does not take its own new token "
                    f"({failures.explain(failures.read(response))}); check the integration's role and user"
                )
            if response.status_code == 429:
                self._gate.refused(CONCURRENCY, failures.CONCURRENCY_WAIT)
            raise failures.translate(response, f"{self.config.name}: {what}", may_have_written=writes)
        raise AssertionError("unreachable")

    def _request(self, method: str, path: str, api: str, what: str, *, writes: bool, **options: Any) -> httpx.Response:
        said = f"{self.config.name}: {what}"
        query = urlencode(options.pop("params", None) or {})
        url = f"{self.config.url}{path}{'?' if query else ''}{query}"
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
        return response

    def _credentials(self) -> str:
        with self._lock:
            if self._token is None or time.monotonic() >= self._token[1]:
                self._token = self._log_in()
            return self._token[0]

    def _forget(self, token: str) -> None:
        """A token that was refused; another thread may have a new one since."""
        with self._lock:
            if self._token is not None and self._token[0] == token:
                self._token = None

    def _log_in(self) -> tuple[str, float]:
        form = login.form(self.config, f"{self.config.url}{_TOKEN}")
        response = self._request("POST", _TOKEN, "token", "token", writes=False, data=form)
        if response.status_code in (400, 401):
            said = failures.explain(failures.read(response))
            raise ConfigurationError(
                f"connection {self.config.name}: NetSuite refused the login ({said}); check the variables "
                f"{', '.join(sorted(self.config.credentials.values()))}, that the certificate is valid and mapped to a "
                "user and role, and this machine's clock"
            )
        if not response.is_success:
            raise failures.translate(response, f"{self.config.name}: token", may_have_written=False)
        try:
            body = response.json()
            lives = timedelta(seconds=float(body["expires_in"]))
            return str(body["access_token"]), time.monotonic() + max(lives - _EARLY, lives / 2).total_seconds()
        except (ValueError, KeyError, TypeError) as error:
            raise RejectedError(f"{self.config.name}: the token endpoint answered without an access_token") from error


def _worth_repeating(error: Exception) -> bool:
    return isinstance(error, RetriableError) and not isinstance(error, QuotaExhausted)
