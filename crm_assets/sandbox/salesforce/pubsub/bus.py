"""The bus: a durable log of change events beside the records, kept for three days.

A replay id is a place in the log; the only promise about it is that it can be handed back.
"""

from __future__ import annotations

import sqlite3
import threading
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

from crm_assets.sandbox.salesforce.errors import not_found
from crm_assets.sandbox.salesforce.objects import SObject
from crm_assets.sandbox.salesforce.store import Store, Tx

from .changes import Commit, Event, encoded, event, merged
from .schemas import EventSchema, build, event_name

RETENTION_SECONDS = 72 * 3600.0
_PURGE_SECONDS = 600.0
_HOLD_SECONDS = 1.0
_ALL = "ChangeEvents"
_MARK = b"\x53\x42"
_REPLAY_ID = 10


@dataclass(frozen=True, slots=True)
class Logged:
    """An event as it stands in the log."""

    seq: int
    id: str
    schema_id: str
    payload: bytes


class UnknownPlaceError(Exception):
    """A replay id that is none, or whose next event is no longer kept; ``code`` is the vendor's."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code


def replay_id(seq: int) -> bytes:
    return _MARK + seq.to_bytes(_REPLAY_ID - len(_MARK), "big")


class Bus:
    """Takes the events of each transaction with its commit, and hands them out by topic."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._schemas: dict[str, tuple[SObject, EventSchema]] = {}
        self._held: list[Event] = []
        self._purged = float("-inf")
        self._commit = 0
        self.moved = threading.Condition()
        with store.setup() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS _events (seq INTEGER PRIMARY KEY AUTOINCREMENT, entity TEXT,"
                " schema_id TEXT, id TEXT, payload BLOB, at REAL)"
            )
            db.execute("CREATE TABLE IF NOT EXISTS _event_schemas (id TEXT PRIMARY KEY, json TEXT)")
            db.execute("CREATE TABLE IF NOT EXISTS _unselected (object TEXT PRIMARY KEY)")
            self.unselected = frozenset(name for (name,) in db.execute("SELECT object FROM _unselected"))
            """Objects that are not chosen in Change Data Capture; a fresh sandbox has chosen all."""
            self._purge(db)

    def select(self, kind: SObject, chosen: bool) -> None:
        """Chooses an object in Change Data Capture, or no longer."""
        statement = (
            "DELETE FROM _unselected WHERE object = ?" if chosen else "INSERT OR IGNORE INTO _unselected VALUES (?)"
        )
        with self._store.setup() as db:
            db.execute(statement, (kind.name,))
        self.unselected = self.unselected - {kind.name} if chosen else self.unselected | {kind.name}

    # Writing: inside the transaction that the events tell of.

    def record(self, tx: Tx, user: str) -> None:
        """Logs what a transaction changed; each change says what becomes of its event."""
        commit = self._new_commit(user)
        entries: list[Event] = []
        held: list[Event] = []
        told = (one for one in tx.changes if one.fate != "lose_event" and one.object not in self.unselected)
        for sequence, group in enumerate(merged(told), 1):
            kind = self._store.schema.objects[group[0].object]
            made = event(kind, self._schema(tx.db, kind), commit, group, sequence)
            fates = {one.fate for one in group}
            if "reorder_events" in fates:
                held.append(made)
                continue
            entries += [made] * (2 if "duplicate_event" in fates else 1)
        self._append(tx.db, [*entries, *self._held] if entries else [])
        if entries:
            self._held = []
        if held:
            self._held += held
            timer = threading.Timer(_HOLD_SECONDS, self.release)
            timer.daemon = True
            timer.start()

    def gap(self, kind: SObject, change: str, ids: Sequence[str], user: str) -> None:
        """An event that has a header only: the org could not tell what changed."""
        with self._store.setup() as db:
            schema = self._schema(db, kind)
            header = self._new_commit(user).header(kind.name, change, ids, 1)
            self._append(db, [encoded(kind.name, schema, {"ChangeEventHeader": header})])
        self.wake()

    def garble(self, kind: SObject) -> None:
        """An event whose payload nobody can read."""
        with self._store.setup() as db:
            self._append(db, [Event(kind.name, self._schema(db, kind).id, str(uuid.uuid4()), b"\xff\xff\xff")])
        self.wake()

    def release(self) -> None:
        """What was held back follows what came after it."""
        with self._store.setup() as db:
            held, self._held = self._held, []
            self._append(db, held)
        self.wake()

    def forget(self) -> None:
        """As if the time that events are kept had passed."""
        with self._store.setup() as db:
            db.execute("DELETE FROM _events")

    def wake(self) -> None:
        """After a commit: subscribers look again."""
        with self.moved:
            self.moved.notify_all()

    # Reading.

    def entity(self, topic: str) -> SObject | None:
        """The object of a topic, None for the one of all objects; ApiError NOT_FOUND for a topic that there is not."""
        name = topic.removeprefix("/data/")
        if name == _ALL and topic.startswith("/data/"):
            return None
        for kind in self._store.schema.objects.values():
            if topic == f"/data/{event_name(kind.name)}":
                return kind
        raise not_found(f"no such topic: {topic}")

    def schema_of(self, kind: SObject) -> EventSchema:
        with self._store.setup() as db:
            return self._schema(db, kind)

    def schema_json(self, schema_id: str) -> str | None:
        row = self._store.reader.execute("SELECT json FROM _event_schemas WHERE id = ?", (schema_id,)).fetchone()
        return row[0] if row else None

    def last(self) -> int:
        """The newest place there has ever been."""
        row = self._store.reader.execute("SELECT seq FROM sqlite_sequence WHERE name = '_events'").fetchone()
        return int(row[0]) if row else 0

    def first(self) -> int:
        """The place before the oldest event that is kept."""
        row = self._store.reader.execute("SELECT min(seq) FROM _events").fetchone()
        return int(row[0]) - 1 if row[0] is not None else self.last()

    def place(self, given: bytes) -> int:
        """The place of a replay id; UnknownPlaceError if events behind it may be missing."""
        if len(given) != _REPLAY_ID or not given.startswith(_MARK):
            raise UnknownPlaceError("sfdc.platform.eventbus.grpc.subscription.fetch.replayid.corrupted")
        seq = int.from_bytes(given[len(_MARK) :], "big")
        if not self.first() <= seq <= self.last():
            raise UnknownPlaceError("sfdc.platform.eventbus.grpc.subscription.fetch.replayid.validation.failed")
        return seq

    def read(self, entity: SObject | None, after: int, most: int) -> list[Logged]:
        """The next events behind a place."""
        own, params = ("", ()) if entity is None else (" AND entity = ?", (entity.name,))
        rows = self._store.reader.execute(
            f"SELECT seq, id, schema_id, payload FROM _events WHERE seq > ?{own} ORDER BY seq LIMIT ?",
            (after, *params, most),
        )
        return [Logged(*row) for row in rows]

    def _new_commit(self, user: str) -> Commit:
        # Rises over restarts without being stored.
        self._commit = max(self._commit + 1, time.time_ns() // 1000)
        return Commit(self._commit, time.time_ns() // 1_000_000, user, str(uuid.uuid4()))

    def _schema(self, db: sqlite3.Connection, kind: SObject) -> EventSchema:
        known = self._schemas.get(kind.name)
        if known is None or known[0] is not kind:
            known = self._schemas[kind.name] = kind, build(kind)
        found = known[1]
        # Again each time: what a transaction that was undone has stored is gone with it.
        db.execute("INSERT OR IGNORE INTO _event_schemas VALUES (?, ?)", (found.id, found.json))
        return found

    def _append(self, db: sqlite3.Connection, events: Sequence[Event]) -> None:
        now = time.time()
        db.executemany(
            "INSERT INTO _events (entity, schema_id, id, payload, at) VALUES (?, ?, ?, ?, ?)",
            [(one.entity, one.schema_id, one.id, one.payload, now) for one in events],
        )
        if time.monotonic() - self._purged > _PURGE_SECONDS:
            self._purge(db)

    def _purge(self, db: sqlite3.Connection) -> None:
        db.execute("DELETE FROM _events WHERE at < ?", (time.time() - RETENTION_SECONDS,))
        self._purged = time.monotonic()
