"""One org: its store, its resources, and the rules every call passes."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from crm_assets.sandbox.calls import Window
from crm_assets.sandbox.faults import BATCH_KINDS, EVENT_KINDS, WRITE_KINDS
from crm_assets.sandbox.http import Reply, Request
from crm_assets.sandbox.push import Event, Push
from crm_assets.sandbox.room import LATE_SECONDS, Opening, Room
from crm_assets.sandbox.signed import SignedForm

from . import describe, outbound, seed
from .batches import Batches
from .bulk_ingest import BulkIngest
from .bulk_query import BulkQuery
from .composite import Composite
from .control import OrgDesk
from .describe import Describe
from .errors import error, not_found
from .jobs import Jobs
from .keys import Keys
from .outbound import OutboundForm
from .pubsub.bus import Bus
from .pubsub.schemas import event_name
from .queries import Queries
from .records import Records
from .rows import Rows
from .sessions import OAuth, Sessions, bearer
from .store import Change, Store, Tx
from .tooling import Tooling
from .wire import Call, Router, refused

if TYPE_CHECKING:
    from .pubsub.service import Server

log = logging.getLogger(__name__)

CONNECTION = "salesforce"
_DATA = "/services/data"
_DAY = 86_400.0
_LONGEST_URL = 16_384
_OWN = (_DATA, "/services/oauth2/", "/services/Soap/")
_WRITES = frozenset({"sobject_write", "collections"})
_FAILURES = {
    "429": (429, "REQUEST_LIMIT_EXCEEDED", "ConcurrentRequests (Concurrent API Requests) Limit exceeded."),
    "500": (500, "UNKNOWN_EXCEPTION", "An unexpected error occurred."),
    "503": (503, "SERVER_UNAVAILABLE", "The server is temporarily unable to handle the request."),
    "expired_token": (401, "INVALID_SESSION_ID", "Session expired or invalid"),
}


def open_room(opening: Opening) -> Room:
    return Org(opening)


def _version(path: str) -> str | None:
    """The API version in a path, of data resources only."""
    head, _, _ = path.removeprefix(_DATA + "/").partition("/")
    return head[1:] if path.startswith(_DATA + "/v") else None


def _rest(path: str) -> str:
    return path.removeprefix(_DATA + "/").partition("/")[2]


class Org(Room):
    """Everything that belongs to the connection."""

    def __init__(self, opening: Opening) -> None:
        self._daily = Window(24_000, _DAY)
        super().__init__(CONNECTION, SignedForm(CONNECTION), {"daily_calls": self._daily})
        self.store = Store(opening.folder / f"{CONNECTION}.sqlite")
        if self.store.empty:
            with self.store.setup() as db:
                if opening.seed:
                    count = seed.load(db, self.store.schema, seed.read(opening.seed))
                else:
                    # Only here: importing Faker costs more than all the rest of a start.
                    from . import generate

                    count = generate.load(db, self.store.schema, opening.rows)
            log.info("%s: %d records loaded", CONNECTION, count)
        self.sessions = Sessions(opening.session_seconds)
        self.records = Records(self.store)
        self.bus = Bus(self.store)
        self._outbound = Push(self.faults, OutboundForm())
        self.keys = Keys(self.store)
        self._desk = OrgDesk(self.store, self.records, self.bus, self._outbound, self.keys)
        self._oauth = OAuth(self.sessions, self.keys)
        self._router = Router()
        self._build()
        self._pubsub: Server | None = None
        if opening.grpc_port is not None:
            # Only here: gRPC is not needed by most.
            from .pubsub.service import PubSub, Server

            service = PubSub(self.bus, self.sessions, self.faults, opening.keep_alive_seconds)
            self._pubsub = Server(service, opening.grpc_port)
        self.store.before_commit(self._written)
        self.store.on_commit(self._committed)

    def _build(self) -> None:
        daily = self._daily
        queries, jobs = Queries(self.store), Jobs(self.store)
        for part in (
            Describe(self.records, lambda: (daily.used, daily.most)),
            queries,
            Rows(self.records),
            Batches(self.records),
            Composite(self.records, self._router),
            BulkQuery(self.records, queries, jobs),
            BulkIngest(self.records, jobs),
            Tooling(self._chosen),
        ):
            part.routes(self._router)

    def _chosen(self) -> list[str]:
        names = [name for name in self.store.schema.objects if name not in self.bus.unselected]
        return [event_name(name) for name in sorted(names)]

    def _written(self, tx: Tx) -> None:
        for change in tx.changes:
            change.fate = self.faults.strike(EVENT_KINDS, "", change.object)
        self.bus.record(tx, self.records.user)

    def _committed(self, changes: list[Change]) -> None:
        if self.push.listening:
            events = [Event(change.object, change.event()) for change in changes]
            self.push.publish(events, [change.fate for change in changes])
        if self._outbound.listening:
            sent = [(outbound.event(change), change.fate) for change in changes if change.change in outbound.CHANGES]
            self._outbound.publish([one for one, _ in sent], [fate for _, fate in sent])
        self.bus.wake()

    @property
    def pushes(self) -> Sequence[Push]:
        return self.push, self._outbound

    @property
    def desk(self) -> OrgDesk:
        return self._desk

    def owns(self, path: str) -> bool:
        return path.startswith(_OWN)

    def needs_session(self, request: Request) -> bool:
        return _version(request.path) is not None

    def failure(self, kind: str, request: Request) -> Reply:
        return refused(error(*_FAILURES[kind]))

    def addresses(self) -> Mapping[str, str]:
        return {"pub/sub": self._pubsub.address} if self._pubsub else {}

    def stop(self) -> None:
        self.store.stop()
        if self._pubsub:
            self._pubsub.release()

    def close(self) -> None:
        if self._pubsub:
            self._pubsub.stop()
        self.store.close()

    def api(self, request: Request) -> str:
        """Under which name a call is counted."""
        if request.path.startswith("/services/oauth2/"):
            return request.path.removeprefix("/services/oauth2/").strip("/")
        if request.path.startswith("/services/Soap/"):
            return "soap_login"
        if request.path.rstrip("/") == _DATA:
            return "versions"
        return self._router.api(request.method, _rest(request.path)) if _version(request.path) else "other"

    def headers(self, request: Request, reply: Reply) -> Mapping[str, str]:
        if not self.needs_session(request):
            return {}
        return {"Sforce-Limit-Info": f"api-usage={self._daily.used}/{self._daily.most}"}

    def answer(self, request: Request) -> Reply:
        """The reply to one request."""
        if request.path.startswith("/services/oauth2/") or request.path.startswith("/services/Soap/"):
            return self._log_in(request)
        if request.path.rstrip("/") == _DATA and request.method == "GET":
            return Reply(body=describe.versions())
        if len(request.paths[-1]) > _LONGEST_URL:
            return refused(error(414, "URI_TOO_LONG", "The requested URL's length exceeds the capacity limit"))
        version = _version(request.path)
        if version is None or not describe.supported(version):
            return refused(not_found())
        if not self.sessions.valid(bearer(request.headers)):
            return self.failure("expired_token", request)
        if not self._daily.take():
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
            _rest(request.path),
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
