"""What a day costs: ten objects, 50,000 changes, every decision as it is made in production; only the clock is played.

Calls depend on the number of records in one place, the daily comparison of every field: there pages are made so small
that each object has as many of them as 100,000 records have.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from crm_assets import runtime
from crm_assets.connectors.base import Connector
from crm_assets.connectors.salesforce import reading
from crm_assets.core.model import Change
from crm_assets.core.pace import read_every
from crm_assets.events.drain import drain
from crm_assets.mirror.follow import follow
from crm_assets.quota.state import pace
from crm_assets.reconcile.compare import Depth, reconcile
from crm_assets.store import inbox
from crm_assets.store.database import Database
from crm_assets_tests.plugins.linked import CREDENTIALS, Link, connection_spec
from crm_assets_tests.plugins.sandbox import MakeSandbox

DAY = timedelta(days=1).total_seconds()
MINUTE = 60.0
CHANGES = 50_000
POLLED = 10 * 24 * 60
"""Calls of somebody who asks ten objects once a minute whether there is something."""
OBJECTS = ("Account", "Contact", "Lead", "Opportunity", "Product2", "Campaign", "Task", "Case", "User", "Project__c")
RECORDS = 100_000
"""Of each object."""


class Yesterday:
    """The calls of the day before, as a day like this one had them: they leave the window one after another."""

    def __init__(self, link: Link) -> None:
        self._link, self._left = link, 0
        link.rows(
            """INSERT INTO crm_assets.quota_spent (connection, name, lane, free_at, calls)
               SELECT 'salesforce', 'daily_calls', 'events', now() + interval '10 days' + n * interval '1 second', 10
                 FROM generate_series(1, 144) n"""
        )

    def leaves(self, at: float) -> None:
        gone = int(at / (DAY / 144)) - self._left
        self._left += gone
        self._link.rows(
            """DELETE FROM crm_assets.quota_spent WHERE free_at IN (
                   SELECT free_at FROM crm_assets.quota_spent WHERE free_at > now() + interval '9 days'
                    ORDER BY free_at LIMIT %s)""",
            gone,
        )


class Relay:
    """Its share of the day: hints gather for as long as the pace says, then all of them are read."""

    def __init__(self, link: Link, connector: Connector, chance: random.Random) -> None:
        self._link, self._connector, self._chance = link, connector, chance
        self._ids = {name: sorted(link.sandbox.alive(name)) for name in OBJECTS}
        self._events = 0
        self.longest = 0.0

    def turn(self, at: float, every: float) -> float:
        """One turn, which begins with the change at this moment. When the next change comes."""
        with self._link.db.transaction() as conn:
            waits = pace(conn, "salesforce", self._link.spec.quota.single_changes).gather
            changes = [self._change() for _ in range(1 + int(waits / every))]
            inbox.add(conn, "salesforce", changes)
        self.longest = max(self.longest, waits)
        drain(self._link.db, self._connector, self._link.connection.objects)
        return at + len(changes) * every

    def _change(self) -> Change:
        self._events += 1
        name = self._chance.choice([one for one in OBJECTS if self._ids[one]])
        return Change(f"event {self._events}", name, self._chance.choice(self._ids[name]), "UPDATE")


@pytest.fixture
def link(db: Database, home: Path, make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Link]:
    for variable in CREDENTIALS.values():
        monkeypatch.setenv(variable, "sandbox")
    sandbox = make_sandbox(rows=2_000)
    sandbox.schema("Project__c", "add", "Stage__c", type="string")
    for n in range(50):
        sandbox.create("Project__c", Name=f"P{n}")
        sandbox.create("Case", Subject=f"C{n}")
    made = Link(sandbox, db, home, connection_spec(sandbox.url, OBJECTS, call_timeout=60.0))
    assert len(made.connection.objects) == len(OBJECTS)
    for table in made.connection.objects:
        made.sync(table)
    yield made
    made.connection.close()


def _swept(link: Link, table: str) -> None:
    """As an hour later: the describe is as old as that."""
    link.age()
    assert not follow(link.db, link.home, link.connector, link.spec, link.object(table)).report.partial


def _compared(link: Link, connector: Connector, monkeypatch: pytest.MonkeyPatch) -> None:
    connector.config.options["bulk_threshold"] = 0  # type: ignore[index]
    for table, obj in link.connection.objects.items():
        rows = link.value(f"SELECT count(*) FROM salesforce.{table}")
        monkeypatch.setattr(reading, "BULK_ROWS", max(1, -(-rows * reading.BULK_ROWS // RECORDS)))
        reconcile(link.db, connector, obj, Depth.FIELDS)
        monkeypatch.undo()


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_a_day_of_a_crm_that_changes_all_the_time(link: Link) -> None:
    lanes = {lane: runtime.open_connector(link.db, link.spec, lane) for lane in ("events", "reconcile")}
    chance = random.Random(1)
    relay = Relay(link, lanes["events"], chance)
    yesterday = Yesterday(link)
    read_at = {table: -chance.uniform(0, 3600) for table in link.connection.objects}
    link.sandbox.reset_calls()
    now = minute = 0.0
    while now < DAY:
        yesterday.leaves(now)
        now = relay.turn(now, DAY / CHANGES)
        while minute <= now:
            minute += MINUTE
            for table, at in read_at.items():
                quiet = timedelta(seconds=minute - at)
                if quiet >= read_every(quiet, pushed=True, sparing=False):
                    _swept(link, table)
                    read_at[table] = minute
    by_reads = link.sandbox.calls()["total"]
    with pytest.MonkeyPatch.context() as patch:
        _compared(link, lanes["reconcile"], patch)
    calls = link.sandbox.calls()
    print(f"{calls['total']} calls, {by_reads} without the comparison, waited at most {relay.longest:.0f} s: {calls}")
    for connector in lanes.values():
        runtime.close_connector(connector)
    assert calls["limit_violations"] == 0
    assert 5 * calls["total"] <= POLLED
