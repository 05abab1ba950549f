"""What the vendor last said about its limits, for those who make no call themselves."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from crm_assets.quota.gate import BELIEVED_S
from crm_assets.store.database import Conn


@dataclass(frozen=True, slots=True)
class Usage:
    """``used`` of ``limit`` calls, as the vendor counted them at ``updated_at``."""

    name: str
    used: int
    limit: int
    updated_at: datetime

    @property
    def out(self) -> bool:
        return self.used >= self.limit

    @property
    def until(self) -> datetime:
        """When the vendor is asked again: its window moves meanwhile, and only its own numbers say how far."""
        return self.updated_at + timedelta(seconds=BELIEVED_S)


def usage(conn: Conn, connection: str) -> list[Usage]:
    """All limits of a connection as last seen."""
    rows = conn.execute(
        'SELECT name, used, "limit", updated_at FROM crm_assets.quota WHERE connection = %s ORDER BY name',
        (connection,),
    ).fetchall()
    return [Usage(*row) for row in rows]


def used_up(conn: Conn, connection: str) -> Usage | None:
    """The limit that keeps all calls back now, the longest-lasting one if there are several."""
    row = conn.execute(
        """SELECT name, used, "limit", updated_at FROM crm_assets.quota
            WHERE connection = %s AND used >= "limit" AND updated_at > clock_timestamp() - %s
            ORDER BY updated_at DESC LIMIT 1""",
        (connection, timedelta(seconds=BELIEVED_S)),
    ).fetchone()
    return Usage(*row) if row else None
