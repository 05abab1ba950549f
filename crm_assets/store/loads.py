"""Loads: one read of a window each, from its lease to the move of the cursor."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta

import psycopg
from psycopg import sql

from crm_assets.core.errors import Busy, RetriableError
from crm_assets.core.model import Window
from crm_assets.store.database import Conn, Database, statement
from crm_assets.store.ddl import stage_schema

LEASE = timedelta(seconds=30)
"""Short, so that the work of a killed process is taken over soon; ``keeping`` renews it meanwhile."""


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


def read_cursor(db: Database, connection: str, table: str) -> str | None:
    """The high end of what has been read so far (ISO 8601 with offset), or None before the first full read."""
    with db.transaction() as conn:
        row = conn.execute(
            "SELECT cursor FROM crm_assets.cursor WHERE connection = %s AND object = %s", (connection, table)
        ).fetchone()
    return row[0] if row else None


def open_load(db: Database, connection: str, table: str, kind: str, window: Window | None, owner: str) -> Load:
    """Take the object's lease and begin a load; what a dead owner of the lease left behind is cleared.

    Busy while another owner holds a live lease on the object.
    """
    with db.transaction() as conn:
        conn.execute(
            "INSERT INTO crm_assets.cursor (connection, object) VALUES (%s, %s) ON CONFLICT DO NOTHING",
            (connection, table),
        )
        row = conn.execute(
            """UPDATE crm_assets.cursor SET lease_owner = %(owner)s, lease_until = clock_timestamp() + %(lease)s
                WHERE connection = %(connection)s AND object = %(table)s
                  AND (lease_until IS NULL OR lease_until < clock_timestamp() OR lease_owner = %(owner)s)
            RETURNING cursor""",
            {"owner": owner, "lease": LEASE, "connection": connection, "table": table},
        ).fetchone()
        if row is None:
            raise Busy(
                f"{connection}.{table} is being read by another run; this one has nothing to do until that one ends",
                retry_after=LEASE,
            )
        _clear(conn, connection, table)
        made = conn.execute(
            """INSERT INTO crm_assets.load (connection, object, kind, low, high, from_cursor, owner)
               VALUES (%s, %s, %s, %s, %s, %s, %s) RETURNING load_id, observed_at""",
            (
                connection,
                table,
                kind,
                window.low.isoformat() if window and window.low else None,
                window.high.isoformat() if window else None,
                row[0],
                owner,
            ),
        ).fetchone()
        assert made is not None
    return Load(made[0], connection, table, kind, window, row[0], owner, made[1])


def renew(db: Database, load: Load) -> None:
    """Keep the lease while pages arrive. RetriableError if it was lost: the load then counts as dead."""
    with db.transaction() as conn:
        if not _renew(conn, load):
            raise RetriableError(f"{load.connection}.{load.table}: the lease of load {load.load_id} was taken over")


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
        if not _renew(conn, load):
            raise RetriableError(f"{load.connection}.{load.table}: the lease of load {load.load_id} was taken over")
        landed = conn.execute(
            """UPDATE crm_assets.load SET state = 'landed', rows = %s, landed_at = clock_timestamp()
                WHERE load_id = %s AND state = 'landing'""",
            (rows, load.load_id),
        ).rowcount
        if not landed:
            raise RetriableError(f"{load.connection}.{load.table}: load {load.load_id} was given up meanwhile")


def abandon(db: Database, load: Load) -> None:
    """Give the load up: its rows leave the stage, the cursor stays, the lease is free."""
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
