"""The records of a room: one SQLite file, one writer at a time, readers that never wait."""

from __future__ import annotations

import itertools
import logging
import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Generic, TypeVar

from .http import VendorError

log = logging.getLogger(__name__)

T = TypeVar("T")
TxT = TypeVar("TxT", bound="Tx")


@dataclass
class Tx:
    """One open write: its moment, the numbers it gave out, and its changes, in whatever form the room tells them."""

    db: sqlite3.Connection
    moment: datetime
    number: Callable[[], int]
    changes: list[Any] = field(default_factory=list)
    _level: int = 0

    @contextmanager
    def part(self) -> Iterator[None]:
        """A part that is undone alone if it fails."""
        self._level += 1
        name, before = f"part_{self._level}", len(self.changes)
        self.db.execute(f"SAVEPOINT {name}")
        try:
            yield
            self.db.execute(f"RELEASE {name}")
        except BaseException:
            self.db.execute(f"ROLLBACK TO {name}")
            self.db.execute(f"RELEASE {name}")
            del self.changes[before:]
            raise
        finally:
            self._level -= 1


def numbers() -> Iterator[int]:
    """Numbers that rise over restarts without being stored: they start at the microsecond of the start."""
    return itertools.count(time.time_ns() // 1000)


class Store(ABC, Generic[TxT]):
    """Opens the file, hands out readers, and runs writes one after the other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._writer = self._connect()
        self._lock = threading.RLock()
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._open: dict[object, datetime] = {}
        self._clock = threading.Lock()
        self._numbers = numbers()
        self._current: TxT | None = None
        self._owner = 0
        self._stopping = threading.Event()
        self._pending: list[threading.Thread] = []
        self._witnesses: list[Callable[[TxT], None]] = []
        self._listeners: list[Callable[[list[Any]], None]] = []

    @abstractmethod
    def _tx(self, moment: datetime, number: Callable[[], int]) -> TxT:
        """An open write of the room's own kind."""

    def _connect(self) -> sqlite3.Connection:
        db = sqlite3.connect(self.path, timeout=60, isolation_level=None, check_same_thread=False)
        # NORMAL: a killed process loses nothing that was committed; only a power cut could.
        db.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-32000;")
        return db

    @property
    def reader(self) -> sqlite3.Connection:
        """This thread's connection for reading; inside :meth:`together` the one that writes."""
        if self._current is not None and self._owner == threading.get_ident():
            return self._writer
        found: sqlite3.Connection | None = getattr(self._local, "db", None)
        if found is None:
            found = self._local.db = self._connect()
            self._readers.append(found)
        return found

    @contextmanager
    def private(self) -> Iterator[sqlite3.Connection]:
        """A connection for reading at length, closed afterwards: for threads that come and go."""
        db = self._connect()
        try:
            yield db
        finally:
            db.close()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Several reads that see one state."""
        db = self.reader
        if db is self._writer:
            yield db
            return
        db.execute("BEGIN")
        try:
            yield db
        finally:
            db.execute("COMMIT")

    def before_commit(self, witness: Callable[[TxT], None]) -> None:
        """``witness`` sees each write that changed something, and may write to its transaction."""
        self._witnesses.append(witness)

    def on_commit(self, listener: Callable[[list[Any]], None]) -> None:
        self._listeners.append(listener)

    @contextmanager
    def setup(self) -> Iterator[sqlite3.Connection]:
        """A change of tables, or a first load: nobody is told, no stamp moves."""
        with self._lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                self._writer.execute("ROLLBACK")
                raise

    def transact(self, work: Callable[[TxT], T], late: float = 0.0) -> T:
        """Runs a write and commits it; with ``late`` seconds, as a transaction that stays open so long."""
        if late:
            result, commit = self.open_late(work)
            self._stopping.wait(late)
            commit()
            return result
        token = object()
        with self._lock:
            if self._current is not None:
                with self._current.part():
                    return work(self._current)
            try:
                return self._run(work, self._begin(token), self._next)
            finally:
                self._end(token)

    def together(self, work: Callable[[TxT], T]) -> T:
        """Runs a write whose inner calls of :meth:`transact` and :meth:`snapshot` join its transaction."""

        def outer(tx: TxT) -> T:
            self._current, self._owner = tx, threading.get_ident()
            try:
                return work(tx)
            finally:
                self._current = None

        return self.transact(outer)

    def open_late(self, work: Callable[[TxT], T]) -> tuple[T, Callable[[], None]]:
        """A write that has its moment now and is seen by nobody until the returned function is called.

        It is tried, undone, and done again at the end with the same moment and the same ids; so other writes
        need not wait for it.
        """
        token = object()
        given: list[int] = []

        def remember() -> int:
            given.append(self._next())
            return given[-1]

        with self._lock:
            moment = self._begin(token)
            try:
                result = self._run(work, moment, remember, keep=False)
            except BaseException:
                self._end(token)
                raise

        def commit() -> None:
            again = iter(given)
            with self._lock:
                try:
                    self._run(work, moment, lambda: next(again, None) or self._next())
                finally:
                    self._end(token)

        return result, commit

    def later(self, commit: Callable[[], None], seconds: float) -> threading.Thread:
        """Commits after a while, or at once when the server stops."""

        def wait() -> None:
            self._stopping.wait(seconds)
            try:
                commit()
            except VendorError as failed:
                log.info("a late commit came to nothing: %s", failed)

        thread = threading.Thread(target=wait, name="late commit")
        self._pending = [one for one in self._pending if one.is_alive()] + [thread]
        thread.start()
        return thread

    def _next(self) -> int:
        return next(self._numbers)

    def _begin(self, token: object) -> datetime:
        with self._clock:
            self._open[token] = moment = datetime.now(UTC)
            return moment

    def _end(self, token: object) -> None:
        with self._clock:
            self._open.pop(token, None)

    def covered(self) -> datetime:
        """Up to here no write can turn up any more: now, or the start of the oldest open one."""
        with self._clock:
            return min([datetime.now(UTC), *self._open.values()])

    def _run(self, work: Callable[[TxT], T], moment: datetime, number: Callable[[], int], keep: bool = True) -> T:
        tx = self._tx(moment, number)
        self._writer.execute("BEGIN IMMEDIATE")
        try:
            result = work(tx)
            if keep and tx.changes:
                for witness in self._witnesses:
                    witness(tx)
            self._writer.execute("COMMIT" if keep else "ROLLBACK")
        except BaseException:
            self._writer.execute("ROLLBACK")
            raise
        if keep and tx.changes:
            for listener in self._listeners:
                listener(tx.changes)
        return result

    def stop(self) -> None:
        """Lets waiting transactions commit now."""
        self._stopping.set()

    def close(self) -> None:
        self.stop()
        for thread in self._pending:
            thread.join()
        with self._lock:
            for db in self._readers:
                db.close()
            self._writer.close()
