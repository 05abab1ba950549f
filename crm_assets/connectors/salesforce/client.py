"""HTTP to one Salesforce org: tokens, limits and what a lost reply means.

Source: REST API Developer Guide, "Limit Info Header".
"""

from __future__ import annotations

import re
import threading
import time
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

import httpx
import simplejson
import stamina

from crm_assets.connectors.base import ConnectionConfig, Gate
from crm_assets.connectors.salesforce import failures, login
from crm_assets.core.errors import (
    ConfigurationError,
    QuotaExhausted,
    RejectedError,
    RetriableError,
    UnknownOutcome,
)
from crm_assets.core.model import Limit

if TYPE_CHECKING:
    from crm_assets.connectors.salesforce.changeevents import Schema

_USAGE = re.compile(r"(?<![\w-])api-usage=(\d+)/(\d+)")
_READ_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Session:
    """An open session: its token, the address of the org's server, and the org's id."""

    token: str
    instance: str
    tenant: str


class Client:
    """Calls of one connection. Safe to use from several threads; the token is shared by them."""

    def __init__(self, config: ConnectionConfig, gate: Gate) -> None:
        self.config = config
        self._gate = gate
        self._http = httpx.Client(
            timeout=httpx.Timeout(config.call_timeout.total_seconds(), connect=10.0),
            headers={"Accept": "application/json", "Accept-Encoding": "gzip"},
            # The base URL is loopback or the org itself; a proxy is the environment's business elsewhere.
            trust_env=not config.url.startswith("http://127.0.0.1"),
        )
        self._session: Session | None = None
        self.event_schemas: dict[str, Schema] = {}
        """Of the stream's events, by schema id; a schema never changes."""
        self._heard: tuple[datetime, float] | None = None
        self._lock = threading.Lock()
        version = str(config.options.get("api_version", "67.0"))
        self.root = f"/services/data/v{version.removeprefix('v')}"

    def close(self) -> None:
        self._http.close()

    def get(self, path: str, api: str, what: str, **options: Any) -> httpx.Response:
        """A read: sent again a few times when it fails on the way, since repeating it changes nothing."""
        for attempt in stamina.retry_context(
            on=_worth_repeating, attempts=_READ_ATTEMPTS, wait_initial=0.2, wait_max=2.0, timeout=60.0
        ):
            with attempt:
                return self._call("GET", path, api, what, writes=False, **options)
        raise AssertionError("unreachable")

    def send(self, method: str, path: str, api: str, what: str, *, writes: bool, **options: Any) -> httpx.Response:
        """One call, once. With ``writes``, a call that may have arrived without a reply is UnknownOutcome."""
        return self._call(method, path, api, what, writes=writes, **options)

    def json(self, response: httpx.Response) -> Any:
        """The body with exact decimals; a cut-off one is RetriableError."""
        try:
            return simplejson.loads(response.content, use_decimal=True)
        except ValueError as error:
            raise RetriableError(
                f"{self.config.name}: the reply of {response.url.path} is cut off or no JSON"
            ) from error

    def clock(self) -> datetime:
        """The server's own clock, whole seconds: as told with the last reply, advanced by the time since then."""
        if self._heard is None:
            self.get(f"{self.root}/", "version", "clock")
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
            session = self.session()
            headers = {"Authorization": f"Bearer {session.token}"} | dict(options.get("headers") or {})
            response = self._request(
                method, urljoin(session.instance, path), api, what, writes=writes, **{**options, "headers": headers}
            )
            if response.status_code == 401 and not renewed:
                # A dead session: the request was refused before anything was done.
                self.forget(session.token)
                continue
            if response.is_success or response.status_code in accept:
                return response
            raise failures.translate(response, f"{self.config.name}: {what}", may_have_written=writes)
        raise AssertionError("unreachable")

    def _request(self, method: str, url: str, api: str, what: str, *, writes: bool, **options: Any) -> httpx.Response:
        said = f"{self.config.name}: {what}"
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
        usage = _USAGE.search(response.headers.get("Sforce-Limit-Info", ""))
        if usage:
            self._gate.observe([Limit("daily_calls", int(usage[1]), int(usage[2]))])
        return response

    def session(self) -> Session:
        """The session of all calls; logs in when there is none."""
        with self._lock:
            if self._session is None:
                self._session = self._log_in()
            return self._session

    @property
    def organization(self) -> str | None:
        """The org's id, once a login has told it."""
        return self._session.tenant if self._session else None

    def forget(self, token: str) -> None:
        """A session that was found dead; another thread may have opened a new one since."""
        with self._lock:
            if self._session is not None and self._session.token == token:
                self._session = None

    def _log_in(self) -> Session:
        form = login.form(self.config)
        base = str(self.config.options.get("login_url", self.config.url))
        try:
            response = self._request(
                "POST", urljoin(base, "/services/oauth2/token"), "token", "login", writes=False, data=form
            )
        except QuotaExhausted as error:
            raise RetriableError(str(error)) from error
        if response.status_code in (400, 401):
            code, message = failures.read(response)
            raise ConfigurationError(
                f"connection {self.config.name}: Salesforce refused the login ({code}: {message}); check the variables "
                f"{', '.join(sorted(self.config.credentials.values()))} and the connected app's flow"
            )
        if not response.is_success:
            raise failures.translate(response, f"{self.config.name}: login", may_have_written=False)
        body = self.json(response)
        if not isinstance(body, dict) or "access_token" not in body:
            raise RejectedError(f"{self.config.name}: the token endpoint at {base} answered without an access_token")
        # https://login.salesforce.com/id/<org>/<user>
        tenant = str(body.get("id", "")).rstrip("/").split("/")[-2:][0]
        return Session(str(body["access_token"]), str(body.get("instance_url") or self.config.url), tenant)


def _worth_repeating(error: Exception) -> bool:
    return isinstance(error, RetriableError) and not isinstance(error, QuotaExhausted)
