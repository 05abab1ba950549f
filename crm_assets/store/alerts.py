"""Alerts: what needs a person, told once when it begins and once when it ends, however often it is looked at."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime

from crm_assets.store.database import Conn
from crm_assets.store.status import oldest_unsynced_seconds

WAITS_TOO_LONG_SECONDS = 900.0


@dataclass(frozen=True, slots=True)
class Alert:
    """One change of state; ``key`` names what it is about. ``raised`` false: it is over."""

    connection: str
    key: str
    message: str
    raised: bool
    at: datetime


def conditions(conn: Conn, connection: str) -> dict[str, str]:
    """What needs a person now, in words, by key."""
    found: dict[str, str] = {}
    for table, state, count in conn.execute(
        """SELECT object, state, count(*) FROM crm_assets.unarrived
            WHERE connection = %s AND state IN ('rejected', 'unknown', 'conflict') GROUP BY object, state""",
        (connection,),
    ):
        found[f"{table}:writes:{state}"] = f"{table}: {count} writes are {state}; see crm_assets.outbox"
    for table, kind, count in conn.execute(
        """SELECT object, kind, count(*) FROM crm_assets.drift
            WHERE connection = %s AND state = 'open' GROUP BY object, kind""",
        (connection,),
    ):
        found[f"{table}:drift:{kind}"] = f"{table}: {count} times {kind}; see crm_assets.drift"
    for guard_id, table, rows in conn.execute(
        "SELECT guard_id, object, rows FROM crm_assets.guard WHERE connection = %s AND state = 'open'", (connection,)
    ):
        found[f"{table}:guard:{guard_id}"] = f"{table}: {rows} records wait for crm_assets.approve({guard_id})"
    for table, count in conn.execute(
        """SELECT object, count(*) FROM crm_assets.inbox
            WHERE connection = %s AND state = 'failed' GROUP BY object""",
        (connection,),
    ):
        found[f"{table}:events"] = f"{table}: {count} events cannot be read; see crm_assets.inbox"
    for table, complete in conn.execute(
        "SELECT object, complete FROM crm_assets.cursor WHERE connection = %s ORDER BY object", (connection,)
    ).fetchall():
        if complete is False:
            found[f"{table}:complete"] = f"{table}: both ends differ"
        known = conn.execute(
            "SELECT 1 FROM crm_assets.object WHERE connection = %s AND object = %s", (connection, table)
        ).fetchone()
        waits = oldest_unsynced_seconds(conn, connection, table) if known else None
        if waits is not None and waits > WAITS_TOO_LONG_SECONDS:
            found[f"{table}:waits"] = f"{table}: a change has been waiting for more than {waits // 60:.0f} minutes"
    return found


def record(conn: Conn, connection: str, now: Mapping[str, str]) -> None:
    """Note what has begun and what is over since the last look."""
    conn.cursor().executemany(
        """INSERT INTO crm_assets.alert (connection, key, message) VALUES (%s, %s, %s)
           ON CONFLICT (connection, key) WHERE cleared_at IS NULL DO NOTHING""",
        [(connection, key, message) for key, message in now.items()],
    )
    conn.execute(
        """UPDATE crm_assets.alert SET cleared_at = clock_timestamp()
            WHERE connection = %s AND cleared_at IS NULL AND key <> ALL (%s)""",
        (connection, list(now)),
    )


def untold(conn: Conn, connection: str) -> list[Alert]:
    """Changes of state that nobody was told of yet, oldest first. What began and ended meanwhile is told as both."""
    rows = conn.execute(
        """SELECT key, message, true, raised_at AS at FROM crm_assets.alert
            WHERE connection = %(c)s AND told_at IS NULL
           UNION ALL
           SELECT key, message, false, cleared_at FROM crm_assets.alert
            WHERE connection = %(c)s AND cleared_at IS NOT NULL AND clear_told_at IS NULL
            ORDER BY at""",
        {"c": connection},
    ).fetchall()
    return [Alert(connection, *row) for row in rows]


def told(conn: Conn, alerts: Iterable[Alert]) -> None:
    """They have arrived; they are not told again."""
    for alert in alerts:
        column = "told_at" if alert.raised else "clear_told_at"
        conn.execute(
            f"""UPDATE crm_assets.alert SET {column} = clock_timestamp()
                 WHERE connection = %s AND key = %s AND {"raised_at" if alert.raised else "cleared_at"} = %s""",
            (alert.connection, alert.key, alert.at),
        )
