"""Old history goes, in portions; heartbeats name each connection."""

from __future__ import annotations

import threading
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

from crm_assets.relay.keeper import Keeper
from crm_assets.store import activity
from crm_assets.store.database import Database
from crm_assets_tests.plugins.sandbox import wait_until


def test_more_than_one_portion_of_old_history_is_forgotten(db: Database) -> None:
    with db.transaction() as conn:
        conn.execute(
            """INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, state, done_at)
               SELECT 'salesforce', 'e' || n, 'contact', n::text, 'update', 'done',
                      clock_timestamp() - CASE WHEN n > 25000 THEN interval '1 day' ELSE interval '8 days' END
                 FROM generate_series(1, 25100) n"""
        )
    stop = threading.Event()
    alive: Any = SimpleNamespace(workers={"events": threading.current_thread()})
    keeper = Keeper(db, {"salesforce": alive}, stop, timedelta(days=90))
    keeper.start()

    def left() -> int:
        with db.transaction() as conn:
            row = conn.execute("SELECT count(*) FROM crm_assets.inbox").fetchone()
        assert row is not None
        return int(row[0])

    wait_until(lambda: left() == 100)
    assert activity.relay_alive(db, "salesforce")
    stop.set()
    keeper.join(5)
    keeper.farewell()
    assert not activity.relay_alive(db)


def test_a_connection_with_a_dead_worker_does_not_count_as_alive(db: Database) -> None:
    stop = threading.Event()
    dead: Any = SimpleNamespace(workers={"events": threading.Thread()})
    alive: Any = SimpleNamespace(workers={"events": threading.current_thread()})
    keeper = Keeper(db, {"dead": dead, "well": alive}, stop, timedelta(days=90))
    keeper.start()
    wait_until(lambda: activity.relay_alive(db, "well"))
    assert not activity.relay_alive(db, "dead")
    stop.set()
    keeper.join(5)
