"""HTTP to one NetSuite account: tokens, the limit of calls at once, and what a lost reply means.

Sources: "REST Web Services URL Schema and Account-Specific URLs"; "Web Services and RESTlet Concurrency Governance".
"""

from __future__ import annotations

from datetime import timedelta
from typing import Any
from urllib.parse import urlsplit

import httpx
import simplejson

from crm_assets.connectors.http import HttpClient, Token
from crm_assets.connectors.netsuite import failures, login
from crm_assets.core.errors import ConfigurationError, RetriableError, UnknownOutcome

RECORDS = "/services/rest/record/v1"
CATALOG = f"{RECORDS}/metadata-catalog"
_SUITEQL = "/services/rest/query/v1/suiteql"
_TOKEN = "/services/rest/auth/oauth2/v1/token"

CONCURRENCY = "concurrency"
LARGEST_PAGE = 1_000
_JSON = {"Content-Type": "application/json", "X-NetSuite-PropertyNameValidation": "Error"}


class Client(HttpClient):
    """Calls of one account."""

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
        response = self.call(method, path, "write", what, writes=True, headers=_JSON, **options)
        if response.status_code != 204:
            raise UnknownOutcome(f"{self.config.name}: {what}: NetSuite answered {response.status_code}, not 204")
        place: str | None = response.headers.get("Location")
        return place

    def submit(self, path: str, what: str, body: Any, key: str, within: timedelta) -> tuple[str, bool]:
        """Have a record created by a job: its path, and whether it is new or an earlier call's with the same key.
        UnknownOutcome if the call may have arrived without a reply."""
        said = f"{self.config.name}: {what}"
        response = self.call(
            "POST",
            path,
            "write",
            what,
            writes=True,
            accept=(400,),
            content=simplejson.dumps(body, use_decimal=True).encode(),
            timeout=within.total_seconds(),
            headers={**_JSON, "Prefer": "respond-async", "X-NetSuite-Idempotency-Key": key},
        )
        new = response.status_code == 202
        if not new and failures.code(failures.read(response)) != failures.SENT_BEFORE:
            raise self.refusal(response, said, True)
        place = urlsplit(response.headers.get("Location", "")).path
        if not place:
            raise UnknownOutcome(f"{said}: the reply does not name the job")
        return place, new

    def result(self, job: str, what: str) -> str | None:
        """Where the record is that a finished job has made. Refused as the call itself would have been."""
        response = self.call("GET", f"{job}/task/1/result", "job", what, writes=True)
        place: str | None = response.headers.get("Location")
        return place

    def ask_the_time(self) -> None:
        self.suiteql("SELECT 1 AS n FROM dual", "clock")

    def note(self, headers: httpx.Headers) -> None:
        """NetSuite's replies do not tell how many calls are under way."""

    def refusal(self, response: httpx.Response, said: str, writes: bool) -> Exception:
        if response.status_code == 401:
            return ConfigurationError(
                f"connection {self.config.name}: NetSuite does not take its own new token "
                f"({failures.explain(failures.read(response))}); check the integration's role and user"
            )
        if response.status_code == 429:
            self.gate.refused(CONCURRENCY, failures.CONCURRENCY_WAIT)
        return failures.translate(response, said, may_have_written=writes)

    def log_in(self) -> Token:
        url = f"{self.config.url.rstrip('/')}{_TOKEN}"
        response = self.request("POST", url, "token", "token", writes=False, data=login.form(self.config, url))
        if response.status_code in (400, 401):
            said = failures.explain(failures.read(response))
            raise ConfigurationError(
                f"connection {self.config.name}: NetSuite refused the login ({said}); check the variables "
                f"{', '.join(sorted(self.config.credentials.values()))}, that the certificate is valid and mapped to a "
                "user and role, and this machine's clock"
            )
        return self.granted(response)

    def _read(self, method: str, path: str, api: str, what: str, **options: Any) -> bytes:
        def once() -> bytes:
            content = self.call(method, path, api, what, writes=False, **options).content
            if not content.rstrip().endswith(b"}"):
                raise RetriableError(f"{self.config.name}: {what}: the reply is cut off or no JSON")
            return content

        return self.repeated(once)
