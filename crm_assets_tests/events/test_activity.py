"""What the relay tells about itself."""

from __future__ import annotations

import threading
from datetime import timedelta

from crm_assets.store import activity
from crm_assets.store.database import Database


def test_activities_are_kept_in_order_without_the_empty_ones(db: Database) -> None:
    with db.transaction() as conn:
        activity.record(conn, "salesforce", "contact", "events", {"updated": 3, "deleted": 0})
        activity.record(conn, "salesforce", "contact", "events", {"updated": 0})
        activity.record(conn, "salesforce", "account", "writeback", {"sent": 1})
        activity.record(conn, "hubspot", "contacts", "events", {"updated": 1})
        kept = activity.since(conn, "salesforce", 0)
        assert [(a.table, a.kind, a.counts) for a in kept] == [
            ("contact", "events", {"updated": 3}),
            ("account", "writeback", {"sent": 1}),
        ]
        assert activity.since(conn, "salesforce", kept[0].seq) == kept[1:]


def test_a_reader_that_goes_on_from_the_last_number_misses_none(db: Database) -> None:
    """Numbers are given before the commit; a slow writer must not slip in behind the reader's back."""
    seen: list[int] = []
    writing = True

    def write() -> None:
        for _ in range(60):
            with db.transaction() as conn:
                activity.record(conn, "salesforce", "contact", "events", {"updated": 1})
                conn.execute("SELECT pg_sleep(random() * 0.004)")

    def read() -> None:
        last = 0
        while True:
            over = not writing
            with db.transaction() as conn:
                for one in activity.since(conn, "salesforce", last):
                    seen.append(one.seq)
                    last = one.seq
            if over:
                return

    writers = [threading.Thread(target=write) for _ in range(4)]
    reader = threading.Thread(target=read)
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join(60)
    writing = False
    reader.join(60)
    assert len(seen) == 240


def test_a_relay_is_alive_by_its_heartbeat(db: Database) -> None:
    assert not activity.relay_alive(db)
    activity.heartbeat(db, "one", "salesforce")
    assert activity.relay_alive(db) and activity.relay_alive(db, "salesforce")
    assert not activity.relay_alive(db, "hubspot")
    activity.heartbeat(db, "up", kind="up")
    with db.transaction() as conn:
        conn.execute("UPDATE crm_assets.heartbeat SET at = at - interval '1 minute' WHERE process = 'one'")
    assert not activity.relay_alive(db)
    activity.heartbeat(db, "one", "salesforce")
    assert activity.relay_alive(db)
    activity.farewell(db, "one")
    assert not activity.relay_alive(db)


def test_old_activities_and_heartbeats_are_forgotten(db: Database) -> None:
    activity.heartbeat(db, "one", "salesforce")
    with db.transaction() as conn:
        activity.record(conn, "salesforce", "contact", "events", {"updated": 1})
        assert activity.purge(conn, timedelta(hours=1)) == 0
    with db.transaction() as conn:
        assert activity.purge(conn, timedelta(0)) == 1
    assert not activity.relay_alive(db)
