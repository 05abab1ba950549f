"""Connections to Postgres: one pool per process, transactions as context managers."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time
from decimal import Decimal
from functools import cached_property
from time import monotonic
from typing import Any, LiteralString, cast
from weakref import WeakKeyDictionary

import simplejson
from psycopg import Connection, OperationalError, sql
from psycopg.abc import AdaptContext
from psycopg.types.json import set_json_dumps, set_json_loads
from psycopg_pool import ConnectionPool, PoolTimeout

from crm_assets.core.errors import ConfigurationError

Conn = Connection[tuple[Any, ...]]

_PATIENCE_S = 10.0

SYNC_ROLE = "crm_assets_sync"
"""The role that writes mirror tables on behalf of the CRM; capture does not fire for it."""


class Statement(sql.Composed):
    """A statement that is put together once, however often it is executed."""

    _bytes: bytes | None = None

    def as_bytes(self, context: AdaptContext | None = None) -> bytes:
        if self._bytes is None:
            self._bytes = super().as_bytes(context)
        return self._bytes


def statement(text: LiteralString, **names: sql.Composable) -> Statement:
    """A statement whose ``{name}`` places are identifiers or fragments; values are always parameters."""
    return Statement(list(sql.SQL(text).format(**names)))


def array(numbers: Iterable[int]) -> str:
    """Whole numbers as the text of an array, to be cast: the driver's own way costs ten times as much for each."""
    return f"{{{','.join(map(str, numbers))}}}"


def plain_url(url: str) -> str:
    """The URL as libpq reads it: SQLAlchemy's driver suffix (``postgresql+psycopg://``) removed."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in ("postgresql", "postgres"):
        raise ConfigurationError(
            "CRM_ASSETS_DATABASE_URL is not a PostgreSQL URL; write postgresql://user:password@host:port/database"
        )
    return f"postgresql://{rest}"


class Database:
    """A pool of connections to one database. Safe to use from several threads.

    Rows come as tuples; JSON numbers come as Decimal, so that no digit is lost on the way through Python.
    """

    def __init__(self, url: str, *, max_size: int = 10, trusted: float = 0.0) -> None:
        self._trusted = trusted
        self.url = plain_url(url)
        self.pool: ConnectionPool[Conn] = ConnectionPool(
            self.url,
            connection_class=Connection[tuple[Any, ...]],
            min_size=0,
            max_size=max_size,
            open=False,
            timeout=_PATIENCE_S,
            # Else the pauses between attempts double for five minutes, and a server that is back waits as long for us.
            reconnect_timeout=_PATIENCE_S,
            kwargs={"application_name": "crm_assets", "options": "-c timezone=UTC"},
            configure=_configure,
            check=self._check,
        )
        self._checked: WeakKeyDictionary[Conn, float] = WeakKeyDictionary()
        self.pool.open()

    @contextmanager
    def transaction(self) -> Iterator[Conn]:
        """One transaction, READ COMMITTED; committed at the end, rolled back on an exception."""
        try:
            with self.pool.connection() as conn:
                yield conn
        except PoolTimeout as error:
            raise OperationalError(f"no connection to Postgres within {self.pool.timeout:g} s: {error}") from error

    def separate(self, trusted: float = 0.0) -> Database:
        """Another pool of the same database, for one who works all the time: its statements stay prepared.

        A connection that lived ``trusted`` seconds ago is not asked whether it still does: the question is as dear as a
        small statement. For work that is simply done again when its connection fails.
        """
        return Database(self.url, max_size=self.pool.max_size, trusted=trusted)

    def now(self) -> datetime:
        """The database's clock, which orders observations; never a process's own."""
        with self.transaction() as conn:
            row = conn.execute("SELECT clock_timestamp()").fetchone()
        assert row is not None
        return cast(datetime, row[0])

    @cached_property
    def server_version(self) -> int:
        """As ``server_version_num``: 180000 is PostgreSQL 18.0."""
        with self.transaction() as conn:
            return conn.info.server_version

    def close(self) -> None:
        self.pool.close()

    def _check(self, conn: Conn) -> None:
        """Whether a pooled connection still lives."""
        now = monotonic()
        if now - self._checked.get(conn, float("-inf")) >= self._trusted:
            ConnectionPool.check_connection(conn)
            self._checked[conn] = now


def as_sync_role(conn: Conn) -> None:
    """Act as the role of ``apply`` until the end of the transaction."""
    conn.execute(statement("SET LOCAL ROLE {role}", role=sql.Identifier(SYNC_ROLE)))


def _configure(conn: Conn) -> None:
    set_json_loads(_loads, conn)
    set_json_dumps(_dumps, conn)


def _json_value(value: object) -> str:
    if isinstance(value, date | time):
        return value.isoformat()
    return str(value)


# Made once: the functions of the module make a new one for each document.
_dumps = simplejson.JSONEncoder(use_decimal=True, default=_json_value).encode
_scan = simplejson.JSONDecoder(parse_float=Decimal).scan_once


def _loads(document: str | bytes) -> Any:
    """A document as Postgres writes it: whole, valid, and without space around it."""
    return _scan(document if isinstance(document, str) else document.decode(), 0)[0]
