"""I. Stalls and isolation: one thing that does not move must not stop another, and must be seen."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from crm_assets import runtime
from crm_assets.connectors.base import Connector
from crm_assets.connectors.salesforce import reading
from crm_assets.core.errors import FatalError
from crm_assets.core.model import Change, Object, Page, Window
from crm_assets.events.health import health
from crm_assets.mirror import sync as mirroring
from crm_assets.store import inbox, loads
from crm_assets.store.status import status
from crm_assets_tests.faults.dying import Killed
from crm_assets_tests.faults.kit import caught_up, equal, mirror, writes
from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.sandbox import wait_until
from crm_assets_tests.store.kit import in_thread


def _hint(link: Link, name: str, record_id: str) -> None:
    with link.db.transaction() as conn:
        inbox.add(conn, "salesforce", [Change(f"test-{time.monotonic_ns()}", name, record_id, "update")])


@contextmanager
def _impatient(link: Link) -> Iterator[Connector]:
    """The connection with a short deadline for each of its calls."""
    spec = link.spec.model_copy(update={"call_timeout_seconds": 0.3})
    connection = runtime.open_connection(link.settings, link.db, spec, "incremental")
    with closing(connection):
        yield connection.connector


def test_F58_an_outage_ends_without_anybodys_help(link: Link) -> None:
    """A pipeline stalled at a fault and never recovered, its slot holding the log. While the CRM is away both
    directions wait in tables; when it is back the next ordinary drain moves them."""
    ours, theirs, unheard = (link.sandbox.create("Contact", LastName=name) for name in ("Ours", "Theirs", "Unheard"))
    caught_up(link)
    for record_id in (theirs, unheard):
        link.sandbox.update("Contact", record_id, Title="theirs")
    link.sandbox.kill()
    try:
        link.rows("UPDATE salesforce.contact SET title = 'ours' WHERE id = %s", ours)
        _hint(link, "Contact", theirs)
        assert link.write_back().stopped
        link.read_events()
        assert link.sync("contact").partial
    finally:
        link.sandbox.start()
    link.settle()
    assert link.sandbox.alive("Contact")[ours]["Title"] == "ours"
    assert mirror(link, theirs, "title") == "theirs" and mirror(link, unheard, "title") is None
    caught_up(link)
    assert mirror(link, unheard, "title") == "theirs"
    assert link.value("SELECT count(*) FROM pg_replication_slots") == 0


def test_F59_one_object_that_fails_stops_no_other_and_is_seen(link: Link) -> None:
    """One bad sink stopped all six for hours, while everything looked ready. Each object drains by itself, and
    health is progress."""
    link.rows("INSERT INTO salesforce.account (name) VALUES ('Stuck')")
    link.rows("INSERT INTO salesforce.contact (last_name) VALUES ('Moves')")
    link.sandbox.faults({"kind": "503", "path": "/composite/sobjects/Account", "times": 500})
    report = link.write_back()
    assert report.objects["contact"].confirmed == 1 and "503" in (report.stopped or "")
    row_id = link.value("SELECT row_id FROM salesforce.account WHERE name = 'Stuck'")
    ((state, reason),) = writes(link, row_id, "state", "reason")
    assert state == "pending" and "503" in reason
    link.rows("UPDATE crm_assets.outbox SET created_at = created_at - interval '20 minutes' WHERE row_id = %s", row_id)
    assert health(link.db, ["salesforce"])["ok"] is False
    told = status(link.db)["connections"]["salesforce"]["objects"]
    assert told["account"]["oldest_unsynced_seconds"] > 500 and told["lead"]["oldest_unsynced_seconds"] is None
    link.sandbox.clear_faults()
    link.settle()
    equal(link, "Account")


def test_F59_a_look_up_that_fails_stops_no_other_object(link: Link) -> None:
    """The same where the CRM is only asked what became of a write: the other objects are sent all the same."""
    account, contact = uuid.uuid4(), uuid.uuid4()
    link.rows("INSERT INTO salesforce.account (row_id, name) VALUES (%s, 'Unsure')", account)
    link.sandbox.faults({"kind": "500", "path": "/composite/sobjects/Account"})
    link.write_back()
    assert writes(link, account, "state") == [("unknown",)]
    link.rows("INSERT INTO salesforce.contact (row_id, last_name) VALUES (%s, 'Sure')", contact)
    link.sandbox.faults({"kind": "503", "path": "/query.*Account", "times": 50})
    assert "503" in (link.write_back().stopped or "")
    assert writes(link, contact, "state") == [("confirmed",)]
    link.sandbox.clear_faults()
    link.settle()
    assert writes(link, account, "state") == [("confirmed",)]


def test_F60_a_change_during_the_first_load_is_not_undone_by_it(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the hand-over from backfill to stream one system crashed in a loop. Here both write to the same stage: a
    change that an event brings while a full read runs is newer than the read's page, whichever is applied first."""
    record_id = link.sandbox.create("Contact", LastName="Handed over", Title="old")
    gone = link.sandbox.create("Contact", LastName="Deleted meanwhile")
    caught_up(link)
    plain = type(link.connector).read
    happened: list[str] = []

    def read(self: Any, obj: Object, window: Window | None) -> Iterator[Page]:
        for page in plain(self, obj, window):
            if not happened:
                happened.append(record_id)
                link.sandbox.update("Contact", record_id, Title="new")
                link.sandbox.delete("Contact", gone)
                _hint(link, "Contact", record_id)
                _hint(link, "Contact", gone)
                link.read_events()
                assert mirror(link, record_id, "title") == "new" and mirror(link, gone) is None
            yield page

    monkeypatch.setattr(type(link.connector), "read", read)
    assert not link.sync("contact", "full").partial
    assert mirror(link, record_id, "title") == "new"
    assert mirror(link, gone) is None
    link.settle()
    monkeypatch.undo()
    equal(link)


def test_F61_a_call_that_hangs_holds_nobody(link: Link, writer: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker hung after an error, a slow group kept all others from moving. A call has a deadline and holds no
    lock: meanwhile the product writes the same record and another drain sends other records."""
    hangs, moves = (link.sandbox.create("Contact", LastName=name) for name in ("Hangs", "Moves"))
    caught_up(link)
    link.rows("UPDATE salesforce.contact SET title = '1' WHERE id = %s", hangs)
    link.sandbox.faults({"kind": "timeout_before", "method": "PATCH", "path": "/composite/sobjects"})
    row_id = mirror(link, hangs, "row_id")
    with in_thread(link.write_back) as first:
        wait_until(lambda: writes(link, row_id, "state") == [("sending",)])
        with psycopg.connect(writer, options="-c statement_timeout=1000") as product:
            product.execute("UPDATE salesforce.contact SET title = '2' WHERE id = %s", (hangs,))
        link.rows("UPDATE salesforce.contact SET title = 'moved' WHERE id = %s", moves)
        wait_until(lambda: link.write_back() and link.sandbox.alive("Contact")[moves]["Title"] == "moved", 1.5)
        assert writes(link, row_id, "state")[0] == ("sending",), "it still hangs"
        first.result(30)
    link.settle()
    assert link.sandbox.alive("Contact")[hangs]["Title"] == "2"


def test_F61_a_read_that_hangs_ends_as_partial(link: Link) -> None:
    """The same of reads: the run ends at its deadline, keeps its place, and says so."""
    cursor = loads.read_cursor(link.db, "salesforce", "contact")
    link.sandbox.faults({"kind": "timeout_before", "path": "/updated", "times": 9})
    with _impatient(link) as connector:
        report = mirroring.sync(link.db, link.home, connector, link.object("contact"))
    assert report.partial and "no reply" in (report.reason or "") and report.cursor == cursor


def test_F62_changes_that_no_event_told_are_read(link: Link) -> None:
    """When a slot was created anew, everything in between was lost in silence. Events are hints only: what happened
    while nobody listened lies in the next window."""
    changed, gone = (link.sandbox.create("Contact", LastName=name) for name in ("Changed", "Gone"))
    caught_up(link)
    assert link.value("SELECT count(*) FROM crm_assets.inbox WHERE change <> 'reread' AND record_id = %s", gone) == 0
    link.sandbox.update("Contact", changed, Title="unheard")
    link.sandbox.delete("Contact", gone)
    made = link.sandbox.create("Contact", LastName="Made unheard")
    caught_up(link)
    assert mirror(link, changed, "title") == "unheard"
    assert mirror(link, gone) is None and mirror(link, made) == "Made unheard"


def test_F64_a_table_that_does_not_fit_is_no_green_run(link: Link) -> None:
    """A table was skipped with a warning when its schema did not fit. Here the run fails and names the column, and
    the other objects go on."""
    link.rows("ALTER TABLE salesforce_stage.lead ALTER COLUMN title TYPE integer USING NULL")
    try:
        with pytest.raises(FatalError, match=r"salesforce_stage\.lead\.title is integer"):
            link.sync("lead", "full")
        assert not link.sync("account", "full").partial
    finally:
        link.rows("ALTER TABLE salesforce_stage.lead ALTER COLUMN title TYPE text")
    assert not link.sync("lead", "full").partial


_READER = """
import sys
from pathlib import Path
from crm_assets import runtime
from crm_assets.connections import ConnectionSpec
from crm_assets.connectors.salesforce import reading
from crm_assets.mirror import sync as mirror
from crm_assets.settings import Settings
from crm_assets.store.database import Database
url, home, spec = sys.argv[1:]
reading.BULK_ROWS, mirror.PART_ROWS = 20, 40
db = Database(url)
spec = ConnectionSpec.model_validate_json(spec)
connection = runtime.open_connection(Settings(database_url=url, home=Path(home)), db, spec, "incremental")
mirror.sync(db, Path(home), connection.connector, connection.objects["contact"])
"""


def test_F63_a_snapshot_that_is_killed_goes_on_where_it_stopped(
    make_link: MakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A resumable snapshot was wanted. A first load and a backfill that are killed in the middle go on behind the last
    part that landed, in the same window; nothing is read twice, and nothing is left out."""
    monkeypatch.setattr(reading, "BULK_ROWS", 20)
    monkeypatch.setattr(mirroring, "PART_ROWS", 40)
    link = make_link(objects=("Contact",), rows=300, call_timeout=20)
    link.connector.config.options["bulk_threshold"] = 0  # type: ignore[index]
    everything = set(link.sandbox.alive("Contact"))
    here = "SELECT id, _observed_at FROM salesforce.contact"
    # As if the time of the dead one's lease had passed.
    passed = "UPDATE crm_assets.cursor SET lease_until = clock_timestamp()"

    link.sandbox.faults({"kind": "slow", "path": "/results", "nth": 4, "times": 9})
    spec = link.spec.model_copy(update={"options": {"bulk_threshold": 0}}).model_dump_json()
    child = subprocess.Popen([sys.executable, "-c", _READER, link.db.url, str(link.home), spec])
    try:
        wait_until(lambda: link.value("SELECT count(*) FROM crm_assets.load WHERE place IS NOT NULL"), 60)
    finally:
        os.kill(child.pid, signal.SIGKILL)
        child.wait()
    link.sandbox.clear_faults()
    link.rows(passed)
    before = dict(link.rows(here))
    report = link.sync("contact")
    assert report.resumed and (report.rows_read, report.inserted) == (len(everything) - len(before),) * 2
    after = dict(link.rows(here))
    assert len(before) == 40 and after.keys() == everything and {one: after[one] for one in before} == before

    now, cursor = datetime.now(UTC), loads.read_cursor(link.db, "salesforce", "contact")
    slice_ = Window(now - timedelta(days=4000), now)

    def die(rows: int) -> None:
        if rows > 60:
            raise Killed

    with monkeypatch.context() as dead, pytest.raises(Killed):
        dead.setattr(loads, "abandon", lambda *_: None)
        link.sync("contact", "backfill", window=slice_, progress=die)
    link.rows(passed)
    report = link.sync("contact", "backfill", window=slice_)
    assert report.resumed and report.rows_read == len(everything) - 40
    assert loads.read_cursor(link.db, "salesforce", "contact") == cursor, "the way forward is not a backfill's"
    assert {row[0] for row in link.rows(here)} == everything


def test_F65_quiet_tables_hold_and_write_no_log(link: Link) -> None:
    """The log grew on quiet tables until a heartbeat moved the slot. Capture is by triggers: there is no slot, and
    drains that find nothing write nothing."""
    link.settle()
    assert link.value("SELECT count(*) FROM pg_replication_slots") == 0
    transactions = "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
    before = link.value(transactions)
    for _ in range(20):
        link.write_back()
        link.read_events()
    # A few of the server's own (autovacuum) may fall into the time.
    assert link.value(transactions) - before < 10


def test_leases_of_killed_processes_end_soon() -> None:
    """What a dead process held is free again in less time than anybody would notice."""
    assert max(loads.LEASE, inbox.LEASE) <= timedelta(seconds=30)
