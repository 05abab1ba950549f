"""The account's records: their ids, their changes, and the functions that queries need."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from crm_assets.sandbox import store

from . import clock, functions
from .fields import RecordType
from .schema import Schema, quote

Row = dict[str, Any]
FIRST_ID = 101
"""Ids below are taken by what an account is born with."""


@dataclass(frozen=True, slots=True)
class Change:
    """Something that happened to a record and is committed; ``event`` is create, edit or delete."""

    record: str
    record_id: int
    event: str
    stamp: str


class Tx(store.Tx):
    """One open write of this account."""

    @property
    def stamp(self) -> str:
        return clock.stored(self.moment)

    @property
    def at(self) -> str:
        return clock.exact(self.moment)

    def note(self, kind: RecordType, record_id: int, event: str) -> None:
        self.changes.append(Change(kind.name, record_id, event, self.stamp))


class Store(store.Store[Tx]):
    """The data file of one account."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._last = 0
        self._counting = threading.Lock()
        self.schema = Schema(self._writer)

    def _connect(self) -> sqlite3.Connection:
        db = super()._connect()
        # LIKE minds the case, as in Oracle.
        db.execute("PRAGMA case_sensitive_like = ON")
        functions.register(db)
        return db

    def _tx(self, moment: datetime, number: Callable[[], int]) -> Tx:
        return Tx(self._writer, moment, number)

    def _next(self) -> int:
        """The next id, of one series for all records; that of a deleted record is never given again."""
        with self._counting:
            if not self._last:
                tables = {quote(one.table) for one in self.schema.types.values()} | {"_deleted"}
                highest = (self._writer.execute(f"SELECT max(id) FROM {table}").fetchone()[0] for table in tables)
                self._last = max(FIRST_ID - 1, *(one or 0 for one in highest))
            self._last += 1
            return self._last

    @property
    def empty(self) -> bool:
        return not self.schema.types

    @property
    def stopping(self) -> threading.Event:
        """Set when the server stops: waits end then."""
        return self._stopping

    @contextmanager
    def setup(self) -> Iterator[sqlite3.Connection]:
        before = self.schema.types
        try:
            with super().setup() as db:
                yield db
        except BaseException:
            self.schema.restore(before)
            raise
