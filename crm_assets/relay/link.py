"""A connection within the relay: its connectors, its objects, and what its workers do in a turn."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import psycopg

from crm_assets import runtime
from crm_assets.connections import ConnectionSpec
from crm_assets.connectors.base import Connector, Streaming
from crm_assets.core.errors import ConfigurationError, CrmAssetsError
from crm_assets.core.model import Object
from crm_assets.core.pace import LINGER
from crm_assets.events import drain as events
from crm_assets.quota import state
from crm_assets.relay.following import Following
from crm_assets.relay.sweeping import sweep
from crm_assets.relay.tending import Tending
from crm_assets.relay.told import Told
from crm_assets.relay.worker import Turn, Worker
from crm_assets.settings import Settings
from crm_assets.store import stage
from crm_assets.store.apply import apply
from crm_assets.store.database import Database
from crm_assets.store.worker import Worker as Claimant
from crm_assets.writeback import drain as writeback

_QUOTA_READ_EVERY = 5.0
_DESCRIBE_MISSING_EVERY = 60.0
_DESCRIBES_READ_EVERY = 1.0
_TRUSTED = 1.0
_AFTER_OTHERS = 0.1
"""What is staged for events is applied with them, and with it all else in the stage; the rest can wait so long."""
_PATIENCE = 0.5
"""How long ``apply`` lets a turn of ``events`` go first, which does its work, too."""
_WRITEBACK_COUNTS = ("sent", "confirmed", "rejected", "conflicts", "unknown", "retried")
_APPLY_COUNTS = ("inserted", "updated", "deleted", "undeleted")


class Link:
    """One connection. Its workers share nothing but the objects and what the database says."""

    def __init__(self, settings: Settings, db: Database, spec: ConnectionSpec, stop: threading.Event) -> None:
        self._settings = settings
        self._db = db
        self._spec = spec
        # In a common pool each statement would be planned on each connection.
        self._events_db, self._apply_db = db.separate(_TRUSTED), db.separate(_TRUSTED)
        # The outcome of a call must not be lost with a connection.
        self._writeback_db = db.separate()
        self._connectors: dict[str, Connector] = {}
        self._connectors_lock = threading.Lock()
        self._objects: dict[str, Object] = {}
        self._objects_lock = threading.Lock()
        self._described: object = None
        self._described_read = float("-inf")
        self._asked_for_missing = float("-inf")
        self._claimant: Claimant | None = None
        self._tending = Tending()
        self._applying = threading.Lock()
        self._pace = state.Pace(LINGER, LINGER)
        self._pace_read = float("-inf")
        self._told = Told(db, spec.connection)
        self._followings = [self._following(topic) for topic in self._topics()]
        turns: tuple[tuple[str, Turn, float], ...] = (
            ("events", self.events, 0.5),
            ("writeback", self.writeback, 0.5),
            ("apply", self.apply, 1.0),
            ("sweep", self.sweep, 1.0),
            *((f"stream {one.topic}", one.turn, 0.5) for one in self._followings),
        )
        pauses = {"events": self._gathering, "apply": self._after_others}
        self.workers = {
            kind: Worker(f"{kind} of {self.name}", turn, pauses.get(kind, self._linger), stop, poll)
            for kind, turn, poll in turns
        }

    @property
    def name(self) -> str:
        return self._spec.connection

    @property
    def receiving(self) -> Connector | None:
        """What verifies deliveries; None as long as the connection's settings are wrong."""
        return self._connectors.get("events")

    def connector(self, lane: str) -> Connector:
        """The connector of a lane, made when first asked for; making it asks the CRM nothing."""
        with self._connectors_lock:
            if lane not in self._connectors:
                self._connectors[lane] = runtime.open_connector(self._db, self._spec, lane)
            return self._connectors[lane]

    def objects(self, within: float = _DESCRIBES_READ_EVERY) -> dict[str, Object]:
        """The objects as they were described ``within`` so many seconds: another process may describe them anew.

        What is read with older ones is refused where it is stored, and read again.
        """
        with self._objects_lock:
            now = time.monotonic()
            if self._objects and now - self._described_read < within:
                return self._objects
            with self._db.transaction() as conn:
                described = conn.execute(
                    "SELECT max(described_at), count(*) FROM crm_assets.object WHERE connection = %s", (self.name,)
                ).fetchone()
            missing = len(self._objects) < len(self._spec.objects)
            retry = missing and time.monotonic() - self._asked_for_missing > _DESCRIBE_MISSING_EVERY
            if described != self._described or retry:
                self._asked_for_missing = time.monotonic()
                self._objects = runtime.described(self._settings, self._db, self._spec, self.connector("events"))
                self._described = described
            self._described_read = now
            return self._objects

    def _topics(self) -> list[str]:
        try:
            connector = self.connector("events")
        except ConfigurationError:
            return []  # told where the connector is needed
        return list(connector.topics) if isinstance(connector, Streaming) else []

    def _following(self, topic: str) -> Following:
        def source() -> Streaming:
            connector = self.connector("events")
            assert isinstance(connector, Streaming)
            return connector

        url = self._settings.direct_database_url or self._db.url
        return Following(self._db, url, self.name, topic, source, self.objects)

    def events(self) -> bool:
        """Inbox → re-read → mirror."""
        connector = self.connector("events")
        with self._applying:
            report = events.drain(self._events_db, connector, self.objects(), limit=connector.max_fetch)
        for table, part in report.objects.items():
            self._told.add(table, "events", part.counts())
        if report.waiting:
            self.workers["apply"].wake()
        return report.settled > 0

    def writeback(self) -> bool:
        """Outbox → CRM."""
        connector = self.connector("writeback")
        if self._claimant is None:
            # Its lock belongs to a session, which a pooler in between would hand to somebody else.
            self._claimant = Claimant(self._settings.direct_database_url or self._db.url)
        # A write of a field that is not known yet would be rejected.
        objects = self.objects(within=0.0)
        report = writeback.drain(
            self._writeback_db, connector, objects, limit=connector.max_write, worker=self._claimant
        )
        for table, part in report.objects.items():
            self._told.add(table, "writeback", {name: getattr(part, name) for name in _WRITEBACK_COUNTS})
        return any(report.total(name) for name in ("confirmed", "rejected", "conflicts"))

    def apply(self) -> bool:
        """What is left in the stage: rows the product held, replies, loads whose process died before applying."""
        self._told.write_if_due()
        # Two passes of one object would only get into each other's way.
        alone = self._applying.acquire(timeout=_PATIENCE)
        try:
            self._apply_rest()
        finally:
            if alone:
                self._applying.release()
        return False

    def _apply_rest(self) -> None:
        objects = self.objects()
        faults: list[Exception] = []
        for table in stage.unapplied(self._apply_db, self.name, list(objects)):
            try:
                done = apply(self._apply_db, self.name, objects[table])
            except (psycopg.Error, CrmAssetsError) as error:
                if isinstance(error, psycopg.Error) and error.sqlstate is None:
                    raise  # there is no server to ask for the others
                faults.append(error)
                continue
            self._told.add(table, "apply", {name: getattr(done, name) for name in _APPLY_COUNTS})
        if faults:
            # After the others have had their turn; the worker tells it, and backs off.
            raise faults[0]

    def sweep(self) -> bool:
        """Objects of which nobody could say what changed, then those that nobody reads."""
        home, connector, objects = self._settings.home, self.connector("incremental"), self.objects()
        done = sweep(self._db, home, connector, objects)
        if done is None:
            done = self._tending.turn(self._db, home, connector, self._spec, objects)
        if done is not None:
            self._told.add(done.object, "sweep", {name: getattr(done, name) for name in _APPLY_COUNTS})
        return done is not None and not done.partial

    def close(self) -> None:
        """After the workers have ended."""
        with suppress(psycopg.Error):
            self._told.write()
        for following in self._followings:
            following.close()
        if self._claimant is not None:
            self._claimant.__exit__(None, None, None)
        for connector in self._connectors.values():
            runtime.close_connector(connector)
        for db in (self._events_db, self._writeback_db, self._apply_db):
            db.close()

    def _after_others(self) -> float:
        return max(self._linger(), _AFTER_OTHERS)

    def _linger(self) -> float:
        return self._paced().linger

    def _gathering(self) -> float:
        return self._paced().gather

    def _paced(self) -> state.Pace:
        """From what is left of the day's quota, read every few seconds."""
        now = time.monotonic()
        if now - self._pace_read > _QUOTA_READ_EVERY:
            self._pace_read = now
            # A fault of the database: the turn that follows meets it, too, and backs off.
            with suppress(psycopg.Error), self._db.transaction() as conn:
                self._pace = state.pace(conn, self.name, self._spec.quota.single_changes)
        return self._pace
