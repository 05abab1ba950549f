"""How the budgets stand, for those who make no call themselves: schedules, checks, the status."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from crm_assets.core.budget import LONG, Account, Lane, ends
from crm_assets.core.pace import LINGER, gather, linger
from crm_assets.quota.ledger import BELIEVED
from crm_assets.store.database import Conn

_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Usage:
    """``used`` of ``limit`` calls: as the vendor counted them at ``updated_at``, or as we do where it tells nothing."""

    name: str
    used: int
    limit: int
    updated_at: datetime
    long: bool
    """Whether its window is one that is planned; a short one is waited for."""

    @property
    def out(self) -> bool:
        return self.used >= self.limit


@dataclass(frozen=True, slots=True)
class UsedUp:
    """A long window has nothing left for a lane; ``until`` is when it is asked for again."""

    name: str
    used: int
    limit: int
    until: datetime


def usage(conn: Conn, connection: str) -> list[Usage]:
    """All budgets of a connection as they stand now."""
    rows = conn.execute(
        """SELECT name, u.used, u."limit", u.updated_at, coalesce(q.period >= %s, false)
             FROM crm_assets.quota_usage u JOIN crm_assets.quota q USING (connection, name)
            WHERE connection = %s ORDER BY name""",
        (LONG, connection),
    ).fetchall()
    return [Usage(*row) for row in rows]


def used_up(conn: Conn, connection: str, lane: Lane = Lane.INCREMENTAL) -> UsedUp | None:
    """The long window that keeps the lane's calls back now, the longest-lasting one if there are several."""
    row = conn.execute(
        """SELECT q.name, u.used, u."limit",
                  greatest(l.denied_until, CASE WHEN q.used >= q."limit" THEN q.updated_at + %(believed)s END) AS until
             FROM crm_assets.quota q
             JOIN crm_assets.quota_usage u USING (connection, name)
             LEFT JOIN crm_assets.quota_lane l
                    ON l.connection = q.connection AND l.name = q.name AND l.lane = %(lane)s
            WHERE q.connection = %(c)s AND coalesce(q.period, %(long)s) >= %(long)s
              AND (l.denied_until > clock_timestamp()
                   OR q.used >= q."limit" AND q.updated_at > clock_timestamp() - %(believed)s)
            ORDER BY until DESC LIMIT 1""",
        {"c": connection, "lane": lane, "believed": BELIEVED, "long": LONG},
    ).fetchone()
    return UsedUp(*row) if row else None


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds that a single change waits for company: any (``linger``), and one that the CRM told of (``gather``)."""

    linger: float
    gather: float


def pace(conn: Conn, connection: str, single_changes: float) -> Pace:
    """What the long window allows that is nearest to its end; a short one is waited for, not spared."""
    found = Pace(LINGER, LINGER)
    for used, limit, spent in conn.execute(
        """SELECT u.used, u."limit", coalesce((SELECT sum(s.calls) FROM crm_assets.quota_spent s
                                                WHERE s.connection = q.connection AND s.name = q.name
                                                  AND s.lane = %s AND s.free_at > clock_timestamp()), 0)::bigint
             FROM crm_assets.quota_usage u JOIN crm_assets.quota q USING (connection, name)
            WHERE connection = %s AND q.period >= %s""",
        (Lane.EVENTS, connection, LONG),
    ).fetchall():
        waits = linger(used, limit)
        gathers = max(waits, gather(spent, limit, single_changes))
        found = Pace(max(found.linger, waits), max(found.gather, gathers))
    return found


def forecast(conn: Conn, connection: str) -> dict[str, datetime]:
    """When each long window will be used up if calls go on as in the last hour; without those that will not."""
    found: dict[str, datetime] = {}
    for name, limit, period, reserve, used, now, recent in conn.execute(
        """SELECT q.name, q."limit", q.period, q.kept, u.used, clock_timestamp(),
                  coalesce((SELECT sum(s.calls) FROM crm_assets.quota_spent s
                             WHERE s.connection = q.connection AND s.name = q.name
                               AND s.free_at > clock_timestamp() + q.period - %(hour)s), 0)::float8
             FROM crm_assets.quota q JOIN crm_assets.quota_usage u USING (connection, name)
            WHERE q.connection = %(c)s AND q.period >= %(long)s""",
        {"c": connection, "long": LONG, "hour": _HOUR},
    ).fetchall():
        returning = {
            int(hour): int(calls)
            for hour, calls in conn.execute(
                """SELECT ceil(extract(epoch FROM free_at - %(now)s) / 3600), sum(calls) FROM crm_assets.quota_spent
                    WHERE connection = %(c)s AND name = %(n)s AND free_at > %(now)s GROUP BY 1""",
                {"c": connection, "n": name, "now": now},
            )
        }
        after = ends(Account(limit, period, reserve=reserve), used, recent, returning, _HOUR)
        if after is not None:
            found[name] = now + after
    return found
