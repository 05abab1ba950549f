"""The call loop that HTTP connectors share: one token for all threads, the gate, the server's clock, and what a lost
reply means.

A vendor's client says how it logs in and how its refusals read; it inherits the rest.
"""

from __future__ import annotations

import math
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any, TypeVar
from urllib.parse import urlencode

import httpx
import stamina

from crm_assets.connectors.base import ConnectionConfig, Gate
from crm_assets.core.errors import QuotaExhausted, RejectedError, RetriableError, UnknownOutcome

T = TypeVar("T")

_READ_ATTEMPTS = 3
_EARLY = timedelta(seconds=60)
"""A token is renewed this long before it ends: a 401 is no reliable sign of its end."""


@dataclass(frozen=True, slots=True)
class Token:
    """An access token, and where it is good: the address of the server, and the account's id where a login tells it."""

    text: str
    server: str
    until: float = math.inf
    """By ``time.monotonic``."""
    tenant: str = ""


class HttpClient(ABC):
    """Calls of one connection. Safe to use from several threads; the token is shared by them."""

    def __init__(self, config: ConnectionConfig, gate: Gate) -> None:
        self.config = config
        self.gate = gate
        self._http = httpx.Client(
            timeout=httpx.Timeout(config.call_timeout.total_seconds(), connect=10.0),
            headers={"Accept": "application/json", "Accept-Encoding": "gzip"},
            # A sandbox on this machine is not behind the environment's proxy.
            trust_env=not config.url.startswith("http://127.0.0.1"),
        )
        self._token: Token | None = None
        self._heard: tuple[datetime, float] | None = None
        self._lock = threading.Lock()

    @abstractmethod
    def log_in(self) -> Token:
        """A new token, by calls through ``request``. ConfigurationError says what to fix where the vendor refuses."""

    @abstractmethod
    def refusal(self, response: httpx.Response, said: str, writes: bool) -> Exception:
        """What a reply that is no success means."""

    @abstractmethod
    def note(self, headers: httpx.Headers) -> None:
        """Report what a reply's headers say about the vendor's limits."""

    def close(self) -> None:
        self._http.close()

    def clock(self) -> datetime:
        """The server's own clock, whole seconds: as told with the last reply, advanced by the time since then."""
        if self._heard is None:
            self.ask_the_time()
        assert self._heard is not None
        at, when = self._heard
        return at + timedelta(seconds=int(time.monotonic() - when))

    @abstractmethod
    def ask_the_time(self) -> None:
        """The cheapest read there is: every reply carries the clock."""

    def repeated(self, read: Callable[[], T]) -> T:
        """Do a read again a few times when it fails on the way, since repeating it changes nothing."""
        for attempt in stamina.retry_context(
            on=_worth_repeating, attempts=_READ_ATTEMPTS, wait_initial=0.2, wait_max=2.0, timeout=60.0
        ):
            with attempt:
                return read()
        raise AssertionError("unreachable")

    def call(
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
        """One call, once: a success, or one of the statuses in ``accept``.

        With ``writes``, a call that may have arrived without a reply is UnknownOutcome, else RetriableError.
        """
        for renewed in (False, True):
            token = self.token()
            headers = {"Authorization": f"Bearer {token.text}"} | dict(options.get("headers") or {})
            response = self.request(
                method, f"{token.server}{path}", api, what, writes=writes, **{**options, "headers": headers}
            )
            if response.status_code == 401 and not renewed:
                # A dead token: the call was refused before anything was done.
                self.forget(token.text)
                continue
            if response.is_success or response.status_code in accept:
                return response
            raise self.refusal(response, f"{self.config.name}: {what}", writes)
        raise AssertionError("unreachable")

    def request(self, method: str, url: str, api: str, what: str, *, writes: bool, **options: Any) -> httpx.Response:
        """One request as it is, through the gate; any reply."""
        said = f"{self.config.name}: {what}"
        # Whole, because httpx looks at each character of a URL again whenever it puts parts together.
        query = urlencode(options.pop("params", None) or {})
        with self.gate.call(api):
            try:
                response = self._http.request(method, f"{url}{'?' if query else ''}{query}", **options)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
                raise RetriableError(f"{said}: no connection to {self.config.url} ({error})") from error
            except httpx.HTTPError as error:
                reason = f"{said}: no reply ({type(error).__name__})"
                raise (UnknownOutcome(reason) if writes else RetriableError(reason)) from error
        if "Date" in response.headers:
            self._heard = parsedate_to_datetime(response.headers["Date"]).astimezone(UTC), time.monotonic()
        self.note(response.headers)
        return response

    def token(self) -> Token:
        """The token of all calls; logs in when there is none, or when it is about to end."""
        with self._lock:
            if self._token is None or time.monotonic() >= self._token.until:
                self._token = self.log_in()
            return self._token

    def forget(self, text: str) -> None:
        """A token that was found dead; another thread may have a new one since."""
        with self._lock:
            if self._token is not None and self._token.text == text:
                self._token = None

    def granted(self, response: httpx.Response) -> Token:
        """The token in a reply of an OAuth token endpoint (RFC 6749, 5.1)."""
        if not response.is_success:
            raise self.refusal(response, f"{self.config.name}: token", False)
        try:
            body = response.json()
            lives = timedelta(seconds=float(body["expires_in"]))
            text = str(body["access_token"])
        except (ValueError, KeyError, TypeError) as error:
            raise RejectedError(f"{self.config.name}: the token endpoint answered without an access_token") from error
        return Token(
            text, self.config.url.rstrip("/"), time.monotonic() + max(lives - _EARLY, lives / 2).total_seconds()
        )


def _worth_repeating(error: Exception) -> bool:
    return isinstance(error, RetriableError) and not isinstance(error, QuotaExhausted)
