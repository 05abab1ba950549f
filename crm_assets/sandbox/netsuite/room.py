"""One account: its store, its resources, and the rules every call passes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from crm_assets.sandbox.faults import BATCH_KINDS, WRITE_KINDS
from crm_assets.sandbox.http import Reply, Request, VendorError
from crm_assets.sandbox.room import LATE_SECONDS, Opening, Room

from . import seed, told
from .batches import demand_async, is_batch
from .catalog import Catalog
from .certificates import Certificates
from .concurrency import Gate
from .control import AccountDesk
from .errors import ApiError, Problem
from .jobs import Jobs
from .preferences import Preferences
from .query import SuiteQL
from .records import Records
from .rows import Rows
from .signatures import Signatures
from .store import Change, Store
from .tokens import PATH as TOKEN
from .tokens import Tokens
from .wire import Call, Router, reply

log = logging.getLogger(__name__)

CONNECTION = "netsuite"
_REST = "/services/rest/"
_CONCURRENCY = 15
_LOGIN = (
    "Invalid login attempt. For more details, see the Login Audit Trail in the NetSuite UI at Setup > Users/Roles >"
    " User Management > View Login Audit Trail."
)
_FAILURES = {
    "429": (429, "CONCURRENCY_LIMIT_EXCEEDED", "Concurrent request limit exceeded. Request blocked."),
    "500": (500, "UNEXPECTED_ERROR", "An unexpected error occurred. Error ID: sandbox"),
    "503": (503, "SERVICE_UNAVAILABLE", "The service is temporarily unavailable."),
}


def open_room(opening: Opening) -> Room:
    return Account(opening)


class Account(Room):
    """Everything that belongs to the connection."""

    def __init__(self, opening: Opening) -> None:
        self._gate = Gate(_CONCURRENCY, lambda: self.calls.violated())
        super().__init__(CONNECTION, told.ScriptForm(), {"concurrency": self._gate})
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
        certificates, preferences = Certificates(self.store), Preferences()
        self._tokens = Tokens(certificates, opening.session_seconds)
        self._signatures = Signatures()
        records = Records(self.store, preferences)
        self._desk = AccountDesk(records, certificates, preferences)
        self._router = Router()
        for part in (
            Catalog(lambda: self.store.schema),
            SuiteQL(self.store, preferences),
            Rows(records, preferences),
        ):
            part.routes(self._router)
        self._router.add("GET", "system/v1/governanceLimits", "governance", self._governance)
        self._jobs = Jobs(self.store, self._router)
        self._jobs.routes(self._router)
        self.store.on_commit(self._committed)

    def _committed(self, changes: list[Change]) -> None:
        self.push.publish([told.event(change) for change in changes])

    @property
    def desk(self) -> AccountDesk:
        return self._desk

    def owns(self, path: str) -> bool:
        return path.startswith(_REST)

    def needs_session(self, request: Request) -> bool:
        return request.path != TOKEN

    def api(self, request: Request) -> str:
        if request.path == TOKEN:
            return "token"
        call = _call(request)
        return "batch" if is_batch(call) else self._router.api(call.method, call.path)

    @contextmanager
    def slot(self, request: Request) -> Iterator[Reply | None]:
        """A token is asked for outside of the gate: it only counts what works in the account."""
        if request.path == TOKEN:
            yield None
            return
        with self._gate.enter() as room:
            yield None if room else self.failure("429", request)

    def failure(self, kind: str, request: Request) -> Reply:
        if kind == "expired_token":
            return _unauthorized(request)
        status, code, detail = _FAILURES[kind]
        return ApiError(status, Problem(detail, code)).reply()

    def answer(self, request: Request) -> Reply:
        if request.path == TOKEN:
            return self._tokens.grant(request) if request.method == "POST" else Reply(405)
        if not self._admitted(request):
            return _unauthorized(request)
        call = self._faulty(_call(request), request)
        try:
            if "respond-async" in call.prefers and not call.path.startswith("async/"):
                return self._jobs.submit(call)
            demand_async(call)
        except VendorError as failed:
            return failed.reply()
        return self._router.answer(call)

    def _admitted(self, request: Request) -> bool:
        kind, _, token = request.headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer":
            return self._tokens.valid(token.strip())
        return self._signatures.valid(request)

    def _faulty(self, call: Call, request: Request) -> Call:
        """The call with what ordered faults do to it."""
        if is_batch(call):
            half = self.faults.strike(BATCH_KINDS, request.method, *request.paths)
            call = replace(call, half=half is not None)
        elif self._router.api(call.method, call.path) != "record_write":
            return call
        late = self.faults.strike(WRITE_KINDS, request.method, *request.paths)
        return replace(call, late=LATE_SECONDS) if late else call

    def _governance(self, _: Call) -> Reply:
        body = {
            "accountConcurrencyLimit": self._gate.most,
            "accountUnallocatedConcurrencyLimit": self._gate.most,
            "integrationLimitType": "accountLimit",
        }
        return reply("singular", body)

    def stop(self) -> None:
        self.store.stop()

    def close(self) -> None:
        self._jobs.close()
        self.store.close()


def _call(request: Request) -> Call:
    path = request.path.removeprefix(_REST).strip("/") if request.path.startswith(_REST) else ""
    base = f"{request.url}{_REST.rstrip('/')}"
    return Call(request.method, path, base, request.query, request.headers, request.body)


def _unauthorized(request: Request) -> Reply:
    """A token that is wrong or old, or a signature that does not fit."""
    challenge = f'realm="{told.ACCOUNT}", error="invalid_token", error_description="Invalid login attempt."'
    kind = "OAuth" if request.headers.get("authorization", "").lower().startswith("oauth") else "Bearer"
    headers = {"WWW-Authenticate": f"{kind} {challenge}"}
    return ApiError(401, Problem(_LOGIN, "INVALID_LOGIN"), headers=headers).reply()
