"""One org: its store, its resources, and the rules every call passes."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from crm_assets.sandbox.calls import Calls, Window
from crm_assets.sandbox.faults import BATCH_KINDS, WRITE_KINDS, Faults
from crm_assets.sandbox.push import Push

from . import describe, seed
from .batches import Batches
from .bulk_ingest import BulkIngest
from .bulk_query import BulkQuery
from .composite import Composite
from .describe import Describe
from .errors import error, not_found
from .jobs import Jobs
from .queries import Queries
from .records import Records
from .rows import Rows
from .sessions import OAuth, Sessions, bearer
from .store import Change, Store
from .wire import Call, Reply, Router, refused

log = logging.getLogger(__name__)

CONNECTION = "salesforce"
LATE_SECONDS = 5.0
_DATA = "/services/data"
_DAY = 86_400.0
_WRITES = frozenset({"sobject_write", "collections"})


@dataclass(frozen=True, slots=True)
class Request:
    """An HTTP request, its path without the connection's prefix."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes
    url: str
    paths: tuple[str, ...]

    @property
    def version(self) -> str | None:
        """The API version in the path, of data resources only."""
        head, _, _ = self.path.removeprefix(_DATA + "/").partition("/")
        return head[1:] if self.path.startswith(_DATA + "/v") else None

    @property
    def rest(self) -> str:
        return self.path.removeprefix(_DATA + "/").partition("/")[2]

    @property
    def open(self) -> bool:
        """Whether the call needs no session."""
        return not self.path.startswith(_DATA + "/v")


class Org:
    """Everything that belongs to the connection."""

    def __init__(self, folder: Path, seed_dir: Path | None, rows: int, session_seconds: float = 7200.0) -> None:
        self.store = Store(folder / f"{CONNECTION}.sqlite")
        if self.store.empty:
            with self.store.setup() as db:
                own = seed_dir / CONNECTION if seed_dir else None
                if own and own.is_dir():
                    count = seed.load(db, self.store.schema, seed.read(own))
                else:
                    # Only here: importing Faker costs more than all the rest of a start.
                    from . import generate

                    count = generate.load(db, self.store.schema, rows)
            log.info("%s: %d records loaded", CONNECTION, count)
        self.calls = Calls()
        self.faults = Faults()
        self.push = Push(CONNECTION, self.faults)
        self.limits = {"daily_calls": Window(24_000, _DAY)}
        self.sessions = Sessions(session_seconds)
        self.records = Records(self.store)
        self._oauth = OAuth(self.sessions)
        self._router = Router()
        self._build()
        self.store.on_commit(self._committed)

    def _build(self) -> None:
        daily = self.limits["daily_calls"]
        queries, jobs = Queries(self.store), Jobs(self.store)
        for part in (
            Describe(self.records, lambda: (daily.used, daily.most)),
            queries,
            Rows(self.records),
            Batches(self.records),
            Composite(self.records, self._router),
            BulkQuery(self.records, queries, jobs),
            BulkIngest(self.records, jobs),
        ):
            part.routes(self._router)

    def _committed(self, changes: list[Change]) -> None:
        self.push.publish([change.event() for change in changes])

    def api(self, request: Request) -> str:
        """Under which name a call is counted."""
        if request.path.startswith("/services/oauth2/"):
            return request.path.removeprefix("/services/oauth2/").strip("/")
        if request.path.startswith("/services/Soap/"):
            return "soap_login"
        if request.path.rstrip("/") == _DATA:
            return "versions"
        return self._router.api(request.method, request.rest) if request.version else "other"

    def limit_header(self) -> dict[str, str]:
        daily = self.limits["daily_calls"]
        return {"Sforce-Limit-Info": f"api-usage={daily.used}/{daily.most}"}

    def answer(self, request: Request) -> Reply:
        """The reply to one request."""
        if request.path.startswith("/services/oauth2/") or request.path.startswith("/services/Soap/"):
            return self._log_in(request)
        if request.path.rstrip("/") == _DATA and request.method == "GET":
            return Reply(body=describe.versions())
        version = request.version
        if version is None or not describe.supported(version):
            return refused(not_found())
        if not self.sessions.valid(bearer(request.headers)):
            return expired()
        if not self.limits["daily_calls"].take():
            self.calls.violated()
            return refused(error(403, "REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."))
        late: str | None = None
        half: str | None = None
        if request.method != "GET":
            api = self.api(request)
            # Of the calls of an ingest job only the last one writes records.
            if api in _WRITES or (api == "bulk_ingest" and request.method == "PATCH"):
                late = self.faults.strike(WRITE_KINDS, request.method, *request.paths)
            if api == "collections":
                half = self.faults.strike(BATCH_KINDS, request.method, *request.paths)
        call = Call(
            request.method,
            request.rest,
            version,
            request.query,
            request.headers,
            request.body,
            late=LATE_SECONDS if late else 0.0,
            half=half is not None,
        )
        return self._router.answer(call)

    def _log_in(self, request: Request) -> Reply:
        if request.method != "POST":
            return Reply(405)
        name = request.path.removeprefix("/services/oauth2/").strip("/")
        if name == "token":
            return self._oauth.token(request.headers, request.body, request.url, self.records.user)
        if name == "introspect":
            return self._oauth.introspect(request.headers, request.body)
        if name == "revoke":
            return self._oauth.revoke(request.headers, request.body)
        if request.path.startswith("/services/Soap/"):
            return self._oauth.soap(request.body, request.url, self.records.user)
        return refused(not_found())


def expired() -> Reply:
    """What a call with a dead session gets."""
    return refused(error(401, "INVALID_SESSION_ID", "Session expired or invalid"))
