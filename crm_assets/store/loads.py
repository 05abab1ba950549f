"""Loads: reads of a window, from the lease to the move of the cursor.

A window is read in one load or in several parts, each a load of its own: its rows count as soon as it has landed, and
it keeps the place behind its last page. A read that stops is gone on with from the place of its last part. The part
without a place is the last one; it moves the cursor.
"""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import cast

import psycopg
from psycopg import sql

from crm_assets.core.errors import Busy, RetriableError
from crm_assets.core.model import Window
from crm_assets.store.database import Conn, Database, statement
from crm_assets.store.ddl import stage_schema

LEASE = timedelta(seconds=30)
"""Short, so that the work of a killed process is taken over soon; ``keeping`` renews it meanwhile."""

GONE_ON_WITH = timedelta(days=2)
"""An older read that stopped is begun anew: the quota of the slowest vendor is back long before."""


@dataclass(frozen=True, slots=True)
class Load:
    """One read of a window. ``observed_at`` is the database's clock before the first request."""

    load_id: int
    connection: str
    table: str
    kind: str
    window: Window | None
    from_cursor: str | None
    owner: str
    observed_at: datetime
    after: str | None = None
    """The connector's place to go on from; None: the window from its beginning."""


@dataclass(frozen=True, slots=True)
class Unfinished:
    """A window that was read in part: ``after`` is the place behind ``part``, the last load of it that landed.

    ``observed_at`` is that of the first part, and stays that of all of them: a place may lie in a result that the
    vendor computed then.
    """

    part: int
    window: Window
    from_cursor: str | None
    observed_at: datetime
    after: str


def read_cursor(db: Database, connection: str, table: str) -> str | None:
    """The high end of what has been read so far (ISO 8601 with offset), or None before the first full read."""
    with db.transaction() as conn:
        row = conn.execute(
            "SELECT cursor FROM crm_assets.cursor WHERE connection = %s AND object = %s", (connection, table)
        ).fetchone()
    return row[0] if row else None


def unfinished(db: Database, connection: str, table: str, kind: str, window: Window | None = None) -> Unfinished | None:
    """The window of this kind (``window``, if given) whose read stopped last, unless it is too old to be gone on
    with, or the cursor has passed it by another way."""
    with db.transaction() as conn:
        row = conn.execute(
            """SELECT load_id, low, high, from_cursor, observed_at, place FROM crm_assets.load
                WHERE connection = %(connection)s AND object = %(table)s AND kind = %(kind)s
                  AND state IN ('landed', 'applied')
                  AND (%(high)s::text IS NULL OR low IS NOT DISTINCT FROM %(low)s AND high = %(high)s)
                ORDER BY load_id DESC LIMIT 1""",
            {
                "connection": connection,
                "table": table,
                "kind": kind,
                "low": window.low.isoformat() if window and window.low else None,
                "high": window.high.isoformat() if window else None,
            },
        ).fetchone()
        if row is None or row[5] is None or row[2] is None:
            return None
        load_id, low, high, from_cursor, observed_at, place = row
        stands = conn.execute(
            """SELECT %s > clock_timestamp() - %s AND (%s <> 'incremental' OR cursor IS NOT DISTINCT FROM %s)
                 FROM crm_assets.cursor WHERE connection = %s AND object = %s""",
            (observed_at, GONE_ON_WITH, kind, from_cursor, connection, table),
        ).fetchone()
    if stands is None or not stands[0]:
        return None
    span = Window(datetime.fromisoformat(low) if low else None, datetime.fromisoformat(high))
    return Unfinished(load_id, span, from_cursor, observed_at, place)


def open_load(
    db: Database,
    connection: str,
    table: str,
    kind: str,
    window: Window | None,
    owner: str,
    begun: Unfinished | None = None,
) -> Load:
    """Take the object's lease and begin a load, or with ``begun`` go on with one; what a dead owner of the lease left
    behind is cleared.

    Busy while another owner holds a live lease on the object, or has gone on with ``begun`` meanwhile.
    """
    with db.transaction() as conn:
        cursor = _lease(conn, Load(0, connection, table, kind, window, None, owner, _now(conn)))
        _clear(conn, connection, table)
        if begun is not None and not _is_last(conn, connection, table, kind, begun):
            raise Busy(f"{connection}.{table}: another run has gone on with this window", retry_after=timedelta(0))
        return _begin(
            conn,
            Load(
                load_id=0,
                connection=connection,
                table=table,
                kind=kind,
                window=begun.window if begun else window,
                from_cursor=begun.from_cursor if begun else cursor,
                owner=owner,
                observed_at=begun.observed_at if begun else _now(conn),
                after=begun.after if begun else None,
            ),
        )


def _lease(conn: Conn, load: Load) -> str | None:
    """Take the object's lease for the owner of the load. Returns the cursor."""
    conn.execute(
        "INSERT INTO crm_assets.cursor (connection, object) VALUES (%s, %s) ON CONFLICT DO NOTHING",
        (load.connection, load.table),
    )
    row = conn.execute(
        """UPDATE crm_assets.cursor SET lease_owner = %(owner)s, lease_until = clock_timestamp() + %(lease)s
            WHERE connection = %(connection)s AND object = %(table)s
              AND (lease_until IS NULL OR lease_until < clock_timestamp() OR lease_owner = %(owner)s)
        RETURNING cursor""",
        {"owner": load.owner, "lease": LEASE, "connection": load.connection, "table": load.table},
    ).fetchone()
    if row is None:
        raise Busy(
            f"{load.connection}.{load.table} is being read by another run; this one has nothing to do until that one "
            "ends",
            retry_after=LEASE,
        )
    return cast("str | None", row[0])


def _begin(conn: Conn, load: Load) -> Load:
    made = conn.execute(
        """INSERT INTO crm_assets.load (connection, object, kind, low, high, from_cursor, owner, observed_at)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s) RETURNING load_id""",
        (
            load.connection,
            load.table,
            load.kind,
            load.window.low.isoformat() if load.window and load.window.low else None,
            load.window.high.isoformat() if load.window else None,
            load.from_cursor,
            load.owner,
            load.observed_at,
        ),
    ).fetchone()
    assert made is not None
    return replace(load, load_id=made[0])


def _now(conn: Conn) -> datetime:
    row = conn.execute("SELECT clock_timestamp()").fetchone()
    assert row is not None
    return cast(datetime, row[0])


def _is_last(conn: Conn, connection: str, table: str, kind: str, begun: Unfinished) -> bool:
    row = conn.execute(
        """SELECT NOT EXISTS (
               SELECT FROM crm_assets.load l JOIN crm_assets.load b ON b.load_id = %s
                WHERE l.connection = %s AND l.object = %s AND l.kind = %s AND l.state IN ('landed', 'applied')
                  AND l.load_id > b.load_id AND l.low IS NOT DISTINCT FROM b.low AND l.high = b.high)""",
        (begun.part, connection, table, kind),
    ).fetchone()
    return bool(row and row[0])


def renew(db: Database, load: Load) -> None:
    """Keep the lease while pages arrive. RetriableError if it was lost: the load then counts as dead."""
    with db.transaction() as conn:
        if not _renew(conn, load):
            raise RetriableError(f"{load.connection}.{load.table}: the lease of load {load.load_id} was taken over")


@contextmanager
def leased(db: Database, connection: str, table: str) -> Iterator[None]:
    """The object's lease for work that is no load. Busy while another owner holds it."""
    load = Load(0, connection, table, "", None, None, new_owner(), db.now())
    with db.transaction() as conn:
        _lease(conn, load)
    try:
        with keeping(db, load):
            yield
    finally:
        with db.transaction() as conn:
            release(conn, load)


def new_owner() -> str:
    """A name for one piece of work."""
    return f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"


@contextmanager
def keeping(db: Database, load: Load) -> Iterator[None]:
    """Renew the lease from a thread while the body runs. The body learns of a lost lease when it lands."""
    done = threading.Event()

    def beat() -> None:
        while not done.wait(LEASE.total_seconds() / 3):
            try:
                renew(db, load)
            except RetriableError:
                return
            except psycopg.Error:
                continue  # the database may be back before the lease ends

    thread = threading.Thread(target=beat, name=f"lease-{load.load_id}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


def land(db: Database, load: Load, rows: int) -> None:
    """All pages of the load are in the stage: from now on ``apply`` sees them."""
    with db.transaction() as conn:
        _land(conn, load, rows, None)


def land_part(db: Database, load: Load, rows: int, place: str) -> Load:
    """The pages of the window up to ``place`` are in the stage, and count. Returns the load of the next part."""
    with db.transaction() as conn:
        _land(conn, load, rows, place)
        return _begin(conn, replace(load, after=place))


def _land(conn: Conn, load: Load, rows: int, place: str | None) -> None:
    if not _renew(conn, load):
        raise RetriableError(f"{load.connection}.{load.table}: the lease of load {load.load_id} was taken over")
    landed = conn.execute(
        """UPDATE crm_assets.load SET state = 'landed', rows = %s, place = %s, landed_at = clock_timestamp()
            WHERE load_id = %s AND state = 'landing'""",
        (rows, place, load.load_id),
    ).rowcount
    if not landed:
        raise RetriableError(f"{load.connection}.{load.table}: load {load.load_id} was given up meanwhile")


def abandon(db: Database, load: Load) -> None:
    """Give the load up: its rows leave the stage, the cursor stays, the lease is free. Parts that landed stay."""
    with db.transaction() as conn:
        if _renew(conn, load):
            _clear(conn, load.connection, load.table)
        release(conn, load)


def release(conn: Conn, load: Load) -> None:
    """End the lease."""
    conn.execute(
        """UPDATE crm_assets.cursor SET lease_owner = NULL, lease_until = NULL
            WHERE connection = %s AND object = %s AND lease_owner = %s""",
        (load.connection, load.table, load.owner),
    )


def changed(db: Database, connection: str, table: str) -> None:
    """A read has brought a change: the object is not a quiet one."""
    with db.transaction() as conn:
        conn.execute(
            "UPDATE crm_assets.cursor SET changed_at = clock_timestamp() WHERE connection = %s AND object = %s",
            (connection, table),
        )


def close(db: Database, load: Load) -> str | None:
    """After apply: free the lease. Returns the cursor as it is now."""
    with db.transaction() as conn:
        release(conn, load)
    return read_cursor(db, load.connection, load.table)


def _renew(conn: Conn, load: Load) -> bool:
    return (
        conn.execute(
            """UPDATE crm_assets.cursor SET lease_until = clock_timestamp() + %s
                WHERE connection = %s AND object = %s AND lease_owner = %s""",
            (LEASE, load.connection, load.table, load.owner),
        ).rowcount
        == 1
    )


def _clear(conn: Conn, connection: str, table: str) -> None:
    """Remove the rows of loads that never landed. The lease says that nobody is landing them any more."""
    dead = [
        row[0]
        for row in conn.execute(
            """UPDATE crm_assets.load SET state = 'abandoned'
                WHERE connection = %s AND object = %s AND state = 'landing' RETURNING load_id""",
            (connection, table),
        )
    ]
    # Also rows of a load abandoned earlier whose last page was committed after the clearing.
    conn.execute(
        statement(
            """DELETE FROM {t} s USING crm_assets.load l
                WHERE s._load = l.load_id AND (l.state = 'abandoned' OR l.load_id = ANY (%s))""",
            t=sql.Identifier(stage_schema(connection), table),
        ),
        (dead,),
    )
