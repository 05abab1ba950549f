"""The ledger: one budget of a connection, shared by every process, kept in Postgres.

Calls are leased in blocks. A block counts in full while it is out; when its owner hands it in, what was used counts
until one window after the reply, what was not is free again. A process that dies hands nothing in: its block counts
until the last of its calls must have ended, and one window longer.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from crm_assets.core.budget import Account, Lane, block, foreign, grant
from crm_assets.core.model import Budget, Limit
from crm_assets.store.database import Conn, Database

_STEPS = 400
"""Parts of a window to which returning calls are rounded up, so that the ledger stays small."""
_ASKED_LATELY = timedelta(seconds=2)
_SHORTEST_WAIT = timedelta(milliseconds=2)
_LONGEST_LIFE = timedelta(seconds=5)
_SLOT_POLL = timedelta(milliseconds=20)
BELIEVED = timedelta(seconds=60)
"""How long the vendor's word that nothing is left keeps our calls back before one of them asks again."""


@dataclass(frozen=True, slots=True)
class Leased:
    """``calls`` of a budget that may leave until ``life`` has passed; the rest is handed in with ``block``. ``limit``
    is what the budget was thought to be."""

    block: int
    calls: int
    life: timedelta
    limit: int


@dataclass(frozen=True, slots=True)
class Refused:
    """Nothing is left now; it is worth asking again after ``wait``, which is ``until`` by the database's clock."""

    wait: timedelta
    until: datetime


@dataclass(frozen=True, slots=True)
class _State:
    """The budget's row, locked. ``believed``: the vendor's numbers are recent enough to keep calls back.
    ``may_probe``: no call has been let through lately only to hear new ones."""

    limit: int
    period: timedelta | None
    reserve: int
    others: int
    believed: bool
    blocked: timedelta
    may_probe: bool

    @property
    def life(self) -> timedelta:
        """How long a block may be out: short against its window, so that what is not used soon returns."""
        return _LONGEST_LIFE if self.period is None else min(self.period / 4, _LONGEST_LIFE)

    @property
    def poll(self) -> timedelta:
        return _SLOT_POLL if self.period is None else self.period / 100


class Ledger:
    """One budget of one connection."""

    def __init__(self, db: Database, connection: str, name: str) -> None:
        self._db = db
        self._key = {"c": connection, "n": name}
        self.connection = connection
        self.name = name

    def declare(self, budget: Budget, reserve: float) -> None:
        """Make it known. The vendor's own limit, once seen, outranks this one.

        ``reserve`` is what a long window leaves to the account's people and other apps: a share below 1, or a number.
        """
        kept = reserve if Account(0, budget.period).long else 0.0
        with self._db.transaction() as conn:
            conn.execute(
                """INSERT INTO crm_assets.quota AS q (connection, name, used, "limit", period, reserve)
                   VALUES (%(c)s, %(n)s, 0, %(limit)s, %(period)s, %(reserve)s)
                   ON CONFLICT (connection, name) DO UPDATE
                       SET period = excluded.period, reserve = excluded.reserve,
                           "limit" = CASE WHEN q.seen_at IS NULL THEN excluded."limit" ELSE q."limit" END
                     WHERE (q.period, q.reserve) IS DISTINCT FROM (excluded.period, excluded.reserve)
                        OR q.seen_at IS NULL AND q."limit" <> excluded."limit" """,
                self._key | {"limit": budget.limit, "period": budget.period, "reserve": kept},
            )

    def take(
        self, lane: Lane, owner: str, longest_call: timedelta, cost: int = 1, *, first: bool = False
    ) -> Leased | Refused:
        """Lease at least ``cost`` calls, or say when to ask again.

        A long window that seems used up may have been widened, and only a call's reply tells: now and then one is let
        through, the ``first`` of a process or when the vendor's word is old.
        """
        with self._db.transaction() as conn:
            state = self._locked(conn)
            self._sweep(conn, state)
            asking = self._ask(conn, lane)
            settled, out = self._ours(conn)
            account = self._account(state, settled + out)
            if state.blocked > timedelta(0):
                return self._refused(conn, state, account, lane, state.blocked)
            got = grant(account, lane, max(cost, block(account)), asking)
            # What other apps have used up is not found widened so soon.
            asks = not state.believed or (first and state.others <= 0)
            if got < cost and account.long and state.may_probe and asks:
                conn.execute(
                    """UPDATE crm_assets.quota SET probed_at = clock_timestamp()
                        WHERE connection = %(c)s AND name = %(n)s""",
                    self._key,
                )
                got = cost
            if got < cost:
                return self._refused(conn, state, account, lane, None)
            made = conn.execute(
                """INSERT INTO crm_assets.quota_block (connection, name, lane, owner, calls, gone_at)
                   VALUES (%(c)s, %(n)s, %(lane)s, %(owner)s, %(calls)s, clock_timestamp() + %(gone)s)
                   RETURNING block_id""",
                self._key | {"lane": lane, "owner": owner, "calls": got, "gone": state.life + longest_call},
            ).fetchone()
            assert made is not None
            return Leased(int(made[0]), got, state.life, state.limit)

    def hand_in(self, lane: Lane, leased: Leased, ages: Iterable[float], under_way: int) -> None:
        """Calls of a block that ended ``ages`` seconds ago; those ``under_way`` still count, the rest is free again."""
        with self._db.transaction() as conn:
            state = self._locked(conn)
            if under_way:
                conn.execute(
                    "UPDATE crm_assets.quota_block SET calls = %s WHERE block_id = %s", (under_way, leased.block)
                )
            else:
                conn.execute("DELETE FROM crm_assets.quota_block WHERE block_id = %s", (leased.block,))
            if state.period is not None:
                self._spend(conn, state.period, Counter((lane, age) for age in ages))

    def observe(self, limit: Limit) -> None:
        """The vendor's own numbers, as a reply told them just now."""
        with self._db.transaction() as conn:
            conn.execute(
                """INSERT INTO crm_assets.quota (connection, name, used, "limit") VALUES (%(c)s, %(n)s, 0, 0)
                   ON CONFLICT DO NOTHING""",
                self._key,
            )
            state = self._locked(conn)
            self._sweep(conn, state)
            settled, out = self._ours(conn)
            conn.execute(
                """UPDATE crm_assets.quota
                      SET used = %(used)s, "limit" = %(limit)s, others = %(others)s, updated_at = clock_timestamp(),
                          seen_at = clock_timestamp()
                    WHERE connection = %(c)s AND name = %(n)s""",
                self._key
                | {
                    "used": limit.used,
                    "limit": limit.limit,
                    "others": foreign(Account(limit.limit, state.period), limit.used, settled.total(), out.total()),
                },
            )

    def refuse(self, after: timedelta) -> None:
        """The vendor refused a call for this budget: nobody calls before ``after`` has passed.

        What others hold of a limit on calls at once shows only here: all but one less than we had out is theirs.
        """
        with self._db.transaction() as conn:
            state = self._locked(conn)
            _, out = self._ours(conn)
            theirs = state.others if state.period is not None else max(0, state.limit - max(1, out.total() - 1))
            conn.execute(
                """UPDATE crm_assets.quota
                      SET blocked_until = greatest(blocked_until, clock_timestamp() + %(after)s), others = %(others)s,
                          seen_at = CASE WHEN period IS NULL THEN clock_timestamp() ELSE seen_at END
                    WHERE connection = %(c)s AND name = %(n)s""",
                self._key | {"after": after, "others": theirs},
            )

    def _locked(self, conn: Conn) -> _State:
        row = conn.execute(
            """SELECT "limit", period, kept, others,
                      coalesce(seen_at > clock_timestamp() - least(period, %(believed)s), false),
                      greatest(blocked_until - clock_timestamp(), interval '0'),
                      seen_at IS NOT NULL AND coalesce(probed_at < clock_timestamp() - %(believed)s, true)
                 FROM crm_assets.quota WHERE connection = %(c)s AND name = %(n)s FOR UPDATE""",
            self._key | {"believed": BELIEVED},
        ).fetchone()
        assert row is not None, f"{self.connection}: the budget {self.name} was never declared"
        return _State(*row)

    def _sweep(self, conn: Conn, state: _State) -> None:
        """Calls return one window after they ended; those of a dead process after they must have ended."""
        conn.execute(
            """DELETE FROM crm_assets.quota_spent
                WHERE connection = %(c)s AND name = %(n)s AND free_at <= clock_timestamp()""",
            self._key,
        )
        for lane, calls, age in conn.execute(
            """DELETE FROM crm_assets.quota_block
                WHERE connection = %(c)s AND name = %(n)s AND gone_at <= clock_timestamp()
            RETURNING lane, calls, extract(epoch FROM clock_timestamp() - gone_at)::float8""",
            self._key,
        ).fetchall():
            if state.period is not None:
                self._spend(conn, state.period, {(Lane(lane), age): calls})

    def _spend(self, conn: Conn, period: timedelta, ended: Mapping[tuple[Lane, float], int]) -> None:
        step = period.total_seconds() / _STEPS
        rounded: Counter[tuple[Lane, int]] = Counter()
        for (lane, age), calls in ended.items():
            rounded[lane, int(age / step)] += calls
        conn.cursor().executemany(
            """INSERT INTO crm_assets.quota_spent AS s (connection, name, lane, free_at, calls)
               VALUES (%(c)s, %(n)s, %(lane)s,
                       date_bin(%(step)s, clock_timestamp() - %(age)s + %(period)s, 'epoch') + %(step)s, %(calls)s)
               ON CONFLICT (connection, name, lane, free_at) DO UPDATE SET calls = s.calls + excluded.calls""",
            [
                self._key
                | {
                    "lane": lane,
                    "step": timedelta(seconds=step),
                    "age": timedelta(seconds=steps * step),
                    "period": period,
                    "calls": calls,
                }
                for (lane, steps), calls in rounded.items()
            ],
        )

    def _ask(self, conn: Conn, lane: Lane) -> set[Lane]:
        """Note that the lane asks; the lanes that have asked lately."""
        conn.execute(
            """INSERT INTO crm_assets.quota_lane (connection, name, lane) VALUES (%(c)s, %(n)s, %(lane)s)
               ON CONFLICT (connection, name, lane) DO UPDATE SET asked_at = clock_timestamp(), denied_until = NULL""",
            self._key | {"lane": lane},
        )
        return {
            Lane(row[0])
            for row in conn.execute(
                """SELECT lane FROM crm_assets.quota_lane
                    WHERE connection = %(c)s AND name = %(n)s AND asked_at > clock_timestamp() - %(lately)s""",
                self._key | {"lately": _ASKED_LATELY},
            )
        }

    def _ours(self, conn: Conn) -> tuple[Counter[Lane], Counter[Lane]]:
        """Our calls that count now by lane: those that ended, and those leased."""
        settled: Counter[Lane] = Counter()
        out: Counter[Lane] = Counter()
        for lane, ended, leased in conn.execute(
            """SELECT lane, sum(ended)::bigint, sum(leased)::bigint FROM (
                   SELECT lane, calls AS ended, 0 AS leased FROM crm_assets.quota_spent
                    WHERE connection = %(c)s AND name = %(n)s
                   UNION ALL
                   SELECT lane, 0, calls FROM crm_assets.quota_block WHERE connection = %(c)s AND name = %(n)s) x
                GROUP BY lane""",
            self._key,
        ):
            settled[Lane(lane)] += ended
            out[Lane(lane)] += leased
        return settled, out

    def _account(self, state: _State, spent: Counter[Lane]) -> Account:
        others = state.others
        if not state.believed:
            # Old news. In a short window nothing of it counts any more; of a long one, one call may find out.
            room = state.limit - state.reserve - spent.total() - 1
            others = min(others, max(0, room)) if Account(0, state.period).long else 0
        return Account(state.limit, state.period, spent, others, state.reserve)

    def _refused(self, conn: Conn, state: _State, account: Account, lane: Lane, wait: timedelta | None) -> Refused:
        """When the next of our calls returns, or the vendor's word is old. That the lane waits is remembered."""
        row = conn.execute(
            """WITH next AS (
                   SELECT least(
                       (SELECT min(free_at) FROM crm_assets.quota_spent WHERE connection = %(c)s AND name = %(n)s),
                       (SELECT min(least(gone_at, clock_timestamp() + %(poll)s)) FROM crm_assets.quota_block
                         WHERE connection = %(c)s AND name = %(n)s),
                       CASE WHEN %(others)s > 0 THEN clock_timestamp() + %(believed)s END) AS at)
               SELECT greatest(coalesce(%(wait)s, at - clock_timestamp(), %(poll)s), %(shortest)s), clock_timestamp()
                 FROM next""",
            self._key
            | {
                "others": account.foreign,
                "believed": BELIEVED,
                "wait": wait,
                "shortest": _SHORTEST_WAIT,
                # A block that is out may be handed in at any moment.
                "poll": state.poll,
            },
        ).fetchone()
        assert row is not None
        refused = Refused(row[0], row[1] + row[0])
        # Of a short window the lane is kept in mind until it asks again: what returns meanwhile is not all lent out.
        conn.execute(
            f"""UPDATE crm_assets.quota_lane SET {"denied_until" if account.long else "asked_at"} = %(until)s
                WHERE connection = %(c)s AND name = %(n)s AND lane = %(lane)s""",
            self._key | {"lane": lane, "until": refused.until},
        )
        return refused
