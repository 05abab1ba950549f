"""What is due in either direction and waits for somebody to do it; and how old the reads are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from crm_assets.store.database import Conn
from crm_assets.store.sweeps import DUE


@dataclass(frozen=True, slots=True)
class Backlog:
    """Rows that are due. ``first`` and ``last`` tell two backlogs apart; ``seconds`` is how long the oldest is due."""

    count: int
    seconds: float
    first: int
    last: int
    tables: tuple[str, ...]

    def __bool__(self) -> bool:
        return self.count > 0


def due_hints(conn: Conn, connection: str) -> Backlog:
    """Hints of the inbox to be read by id, those of dead workers included."""
    return _backlog(
        conn.execute(
            """SELECT count(*), extract(epoch FROM clock_timestamp() - min(next_try_at))::float8, min(seq), max(seq),
                      array_agg(DISTINCT object)
                 FROM crm_assets.inbox
                WHERE connection = %s AND state IN ('pending', 'claimed') AND next_try_at <= clock_timestamp()""",
            (connection,),
        ).fetchone()
    )


def due_writes(conn: Conn, connection: str) -> Backlog:
    """Writes of the outbox to be sent or looked up, those of dead workers included; none while it is paused."""
    return _backlog(
        conn.execute(
            """SELECT count(*), extract(epoch FROM clock_timestamp() - min(due_at))::float8, min(seq), max(seq),
                      array_agg(DISTINCT object)
                 FROM (SELECT seq, object,
                              CASE state WHEN 'sending' THEN lease_until ELSE next_try_at END AS due_at
                         FROM crm_assets.unarrived
                        WHERE connection = %(c)s AND state IN ('pending', 'unknown', 'sending')
                          AND guard_id IS NULL) o
                WHERE due_at <= clock_timestamp()
                  AND NOT EXISTS (SELECT FROM crm_assets.connection_state WHERE connection = %(c)s AND paused)""",
            {"c": connection},
        ).fetchone()
    )


def due_sweeps(conn: Conn, connection: str, *, whole: bool) -> Backlog:
    """Objects to be read again (``whole``: all of them), unless somebody is reading them now."""
    return _backlog(
        conn.execute(
            f"""SELECT count(*), extract(epoch FROM clock_timestamp() - min(asked_at))::float8,
                       min(extract(epoch FROM asked_at))::bigint, max(extract(epoch FROM asked_at))::bigint,
                       array_agg(DISTINCT object)
                  FROM crm_assets.sweep WHERE connection = %s AND whole = %s AND {DUE}""",
            (connection, whole),
        ).fetchone()
    )


@dataclass(frozen=True, slots=True)
class Swept:
    """The last read of an object: how old it is, and for how long no read has brought a change."""

    age: timedelta
    quiet: timedelta


def swept(conn: Conn, connection: str) -> dict[str, Swept]:
    """The last read of each object up to its safe bound, by table name; objects never read are absent."""
    rows = conn.execute(
        """SELECT object, clock_timestamp() - moved_at, coalesce(clock_timestamp() - changed_at, interval '1 day')
             FROM crm_assets.cursor WHERE connection = %s AND moved_at IS NOT NULL""",
        (connection,),
    ).fetchall()
    return {table: Swept(age, quiet) for table, age, quiet in rows}


def unread(conn: Conn, connection: str, longer: timedelta) -> list[str]:
    """Objects whose last read is older than ``longer`` and that nobody reads now, the oldest first. One that was never
    read waits for its first load."""
    rows = conn.execute(
        """SELECT object FROM crm_assets.cursor
            WHERE connection = %s AND moved_at < clock_timestamp() - %s
              AND (lease_until IS NULL OR lease_until < clock_timestamp()) ORDER BY moved_at""",
        (connection, longer),
    ).fetchall()
    return [row[0] for row in rows]


def _backlog(row: tuple[int, float, int, int, list[str]] | None) -> Backlog:
    if row is None or not row[0]:
        return Backlog(0, 0.0, 0, 0, ())
    count, seconds, first, last, tables = row
    return Backlog(count, seconds, first, last, tuple(sorted(tables)))
