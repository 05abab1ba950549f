"""The account's records: a table for each object, one for their associations, one for what the search index lags."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from crm_assets.sandbox import store
from crm_assets.sandbox.calls import Amount

from . import clock
from .kinds import KINDS, Kind
from .schema import Schema

Props = dict[str, str]
COLUMNS = "id, props, updated, archived, merged"


class Row(NamedTuple):
    """A record as it is stored. ``props`` is JSON with what is set; ``archived`` is when, in milliseconds; ``merged``
    is the record that this one became part of."""

    id: int
    props: bytes
    updated: int
    archived: int | None
    merged: int | None

    @property
    def live(self) -> bool:
        return self.archived is None and self.merged is None

    def values(self) -> Props:
        values: Props = orjson.loads(self.props)
        return values


@dataclass(frozen=True, slots=True)
class Told:
    """A committed change, as the webhooks tell it: an object's name, what happened, and the facts of that event."""

    kind: Kind
    what: str
    facts: dict[str, Any]
    at: int
    source: tuple[str, str]


API = ("INTEGRATION", "1160452")
PERSON = ("CRM_UI", "userId:7001")


@dataclass
class Tx(store.Tx):
    """An open write of the account; ``source`` is who writes."""

    source: tuple[str, str] = API

    @property
    def ms(self) -> int:
        return clock.millis(self.moment)

    def tell(self, kind: Kind, what: str, **facts: Any) -> None:
        self.changes.append(Told(kind, what, facts, self.ms, self.source))


class Store(store.Store[Tx]):
    """The tables, and the schema that says what is in them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.index_lag = Amount(300)
        with super().setup() as db:
            _create(db)
            self.schema = Schema(db)

    def _connect(self) -> sqlite3.Connection:
        db = super()._connect()
        db.create_function("has_token", 2, _has_token, deterministic=True)
        return db

    def _tx(self, moment: datetime, number: Callable[[], int]) -> Tx:
        return Tx(self._writer, moment, number)

    @contextmanager
    def setup(self) -> Iterator[sqlite3.Connection]:
        """A change of properties, or a first load: nobody is told, no stamp moves."""
        with self._lock:
            try:
                with super().setup() as db:
                    yield db
            except BaseException:
                self.schema.load()
                raise

    def lag(self, tx: Tx, kind: Kind, rows: list[tuple[int, bytes | None, int]]) -> None:
        """Lets the search index show these states, (id, props, updated), until it has caught up; None is no record."""
        now = clock.now()
        if self.index_lag.most:
            tx.db.executemany(
                "INSERT INTO lagging VALUES (?, ?, ?, ?, ?)",
                [(kind.name, key, now, props, updated) for key, props, updated in rows],
            )
        tx.db.execute("DELETE FROM lagging WHERE at < ?", (now - self.index_lag.most,))


def _create(db: sqlite3.Connection) -> None:
    for kind in KINDS:
        create_table(db, kind)
    for statement in (
        "CREATE TABLE IF NOT EXISTS owner (id INTEGER PRIMARY KEY, body TEXT, updated INTEGER, archived INTEGER)",
        "CREATE TABLE IF NOT EXISTS holder (kind TEXT, name TEXT, value TEXT, id INTEGER, live INTEGER,"
        " PRIMARY KEY (kind, name, value, live, id)) WITHOUT ROWID",
        "CREATE INDEX IF NOT EXISTS holder_id ON holder (kind, id)",
        "CREATE TABLE IF NOT EXISTS edge (kind TEXT, id INTEGER, to_kind TEXT, to_id INTEGER, type INTEGER,"
        " PRIMARY KEY (kind, id, to_kind, to_id, type)) WITHOUT ROWID",
        "CREATE TABLE IF NOT EXISTS label (kind TEXT, to_kind TEXT, type INTEGER, inverse INTEGER, name TEXT,"
        " text TEXT, PRIMARY KEY (kind, to_kind, type))",
        "CREATE TABLE IF NOT EXISTS history (kind TEXT, id INTEGER, name TEXT, value TEXT, until INTEGER, source TEXT)",
        "CREATE INDEX IF NOT EXISTS history_id ON history (kind, id)",
        "CREATE TABLE IF NOT EXISTS lagging (kind TEXT, id INTEGER, at INTEGER, props BLOB, updated INTEGER)",
        "CREATE INDEX IF NOT EXISTS lagging_at ON lagging (kind, at)",
    ):
        db.execute(statement)


def create_table(db: sqlite3.Connection, kind: Kind) -> None:
    db.execute(
        f"CREATE TABLE IF NOT EXISTS {kind.name}"
        " (id INTEGER PRIMARY KEY, props BLOB, updated INTEGER, archived INTEGER, merged INTEGER)"
    )


def create_indexes(db: sqlite3.Connection, kinds: Iterable[Kind] = KINDS) -> None:
    """Made after the first load, which is faster; again harmless."""
    for kind in kinds:
        live = "archived IS NULL AND merged IS NULL"
        db.execute(f"CREATE INDEX IF NOT EXISTS {kind.name}_updated ON {kind.name} (updated, id) WHERE {live}")
        db.execute(f"CREATE INDEX IF NOT EXISTS {kind.name}_archived ON {kind.name} (id) WHERE archived NOTNULL")


_TOKEN = re.compile(r"[^\W_]+")


def _has_token(text: str | None, pattern: str) -> bool:
    """Whether a text, or one of its words, fits a pattern with ``*``."""
    if text is None:
        return False
    wanted = re.compile(".*".join(map(re.escape, pattern.lower().split("*"))))
    lower = text.lower()
    return bool(wanted.fullmatch(lower)) or any(wanted.fullmatch(word) for word in _TOKEN.findall(lower))
