"""One account: its store, its resources, and the rules every call passes."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping

from crm_assets.sandbox.calls import Window
from crm_assets.sandbox.faults import BATCH_KINDS, WRITE_KINDS
from crm_assets.sandbox.http import Reply, Request
from crm_assets.sandbox.room import LATE_SECONDS, Opening, Room
from crm_assets.sandbox.routes import Routes
from crm_assets.sandbox.store import numbers

from . import generate, seed
from .associations import Associations
from .batches import Batches
from .control import AccountDesk
from .describe import Describe
from .errors import CORRELATION, ApiError, not_found
from .objects import Objects
from .owners import Owners
from .pipelines import Pipelines
from .records import Records
from .schemas import Schemas
from .scopes import READING, Scopes
from .search import Search
from .sessions import OAuth, Sessions, expired, is_private
from .store import Store, Told
from .webhooks import HubSpotForm, events
from .wire import Call, numbered

log = logging.getLogger(__name__)

CONNECTION = "hubspot"
_OWN = ("/crm/", "/crm-object-schemas/", "/oauth/", "/account-info/")
_BATCHES = frozenset(
    {"batch_create", "batch_update", "batch_upsert", "associations_batch_create", "associations_batch_archive"}
)
_LONGEST_URL = 16_384


def open_room(opening: Opening) -> Room:
    return Account(opening)


class Account(Room):
    """Everything that belongs to the connection."""

    def __init__(self, opening: Opening) -> None:
        self.store = Store(opening.folder / f"{CONNECTION}.sqlite")
        self._rolling, self._secondly, self._daily = Window(100, 10.0), Window(5, 1.0), Window(250_000, 86_400.0)
        super().__init__(
            CONNECTION,
            HubSpotForm(),
            {
                "calls_10s": self._rolling,
                "search_1s": self._secondly,
                "daily_calls": self._daily,
                "index_lag_ms": self.store.index_lag,
            },
        )
        if self.store.schema.empty:
            with self.store.setup() as db:
                if opening.seed:
                    count = seed.load(db, self.store.schema, seed.read(opening.seed))
                else:
                    count = generate.load(db, self.store.schema, opening.rows)
            log.info("%s: %d records loaded", CONNECTION, count)
        self.sessions = Sessions(opening.session_seconds)
        self.scopes = Scopes()
        self._oauth = OAuth(self.sessions, self.scopes)
        self.records = Records(self.store)
        schemas = Schemas(self.records)
        self._desk = AccountDesk(self.records, self.scopes, schemas)
        self._routes = Routes()
        self._event_ids = numbers()
        for part in (
            Objects(self.records),
            Batches(self.records),
            Search(self.records),
            Associations(self.records),
            Describe(self.store),
            schemas,
            Pipelines(self.store),
            Owners(self.store),
        ):
            part.routes(self._routes)
        self.store.on_commit(self._committed)

    def _committed(self, changes: list[Told]) -> None:
        self.push.publish(events(changes, self._event_ids))

    @property
    def desk(self) -> AccountDesk:
        return self._desk

    def owns(self, path: str) -> bool:
        return path.startswith(_OWN)

    def api(self, request: Request) -> str:
        path = numbered(request.path)
        if path.startswith("/oauth/"):
            return path.removeprefix("/oauth/").partition("/")[0]
        return self._routes.api(request.method, path)

    def needs_session(self, request: Request) -> bool:
        return not request.path.startswith("/oauth/")

    def answer(self, request: Request) -> Reply:
        path = numbered(request.path)
        if path.startswith("/oauth/"):
            resource = path.removeprefix("/oauth/").strip("/")
            return self._oauth.answer(request.method, resource, request.body, request.path.startswith("/oauth/v1/"))
        try:
            return self._answer(request, path)
        except ApiError as failed:
            return failed.reply()

    def _answer(self, request: Request, path: str) -> Reply:
        if len(request.paths[-1]) > _LONGEST_URL:
            raise ApiError(414, "The URI is too long")
        refusal = self.sessions.refusal(request.headers)
        if refusal is not None:
            raise refusal
        api = self._routes.api(request.method, path)
        if api == "search":
            if not self._secondly.take():
                self.calls.violated()
                raise _over("secondly", "SECONDLY")
        elif not self._rolling.take():
            self.calls.violated()
            raise _over("ten_secondly_rolling", "TEN_SECONDLY_ROLLING")
        if not self._daily.take():
            self.calls.violated()
            raise _over("daily", "DAILY")
        found = self._routes.find(request.method, path)
        if found is None:
            raise ApiError(405, "Method Not Allowed") if self._routes.knows(path) else not_found()
        denied = self.scopes.refusal(request.method, path, api, found.arguments.get("type"))
        if denied is not None:
            raise denied
        half = api in _BATCHES and self.faults.strike(BATCH_KINDS, request.method, *request.paths)
        writes = request.method != "GET" and api not in READING
        late = writes and self.faults.strike(WRITE_KINDS, request.method, *request.paths)
        call = Call(request, path, half=bool(half), late=LATE_SECONDS if late else 0.0)
        return found.handler(call, **found.arguments)

    def failure(self, kind: str, request: Request) -> Reply:
        if kind == "expired_token":
            return expired().reply()
        if kind == "429":
            searches = self.api(request) == "search"
            return (
                _over("secondly", "SECONDLY") if searches else _over("ten_secondly_rolling", "TEN_SECONDLY_ROLLING")
            ).reply()
        message = "internal error" if kind == "500" else "Service Unavailable"
        return ApiError(int(kind), message).reply()

    def headers(self, request: Request, reply: Reply) -> Mapping[str, str]:
        made = {CORRELATION: str(uuid.uuid4())}
        if not self.needs_session(request) or self.api(request) == "search":
            return made
        left = max(0, self._rolling.most - self._rolling.used)
        made |= {
            "X-HubSpot-RateLimit-Interval-Milliseconds": "10000",
            "X-HubSpot-RateLimit-Max": str(self._rolling.most),
            "X-HubSpot-RateLimit-Remaining": str(left),
        }
        if is_private(request.headers):
            made |= {
                "X-HubSpot-RateLimit-Daily": str(self._daily.most),
                "X-HubSpot-RateLimit-Daily-Remaining": str(max(0, self._daily.most - self._daily.used)),
            }
        return made

    def stop(self) -> None:
        self.store.stop()

    def close(self) -> None:
        self.store.close()


def _over(limit: str, policy: str) -> ApiError:
    """Too many calls."""
    extra = {"errorType": "RATE_LIMIT", "policyName": policy, "requestId": str(uuid.uuid4())}
    return ApiError(429, f"You have reached your {limit} limit.", "RATE_LIMITS", extra=extra)
