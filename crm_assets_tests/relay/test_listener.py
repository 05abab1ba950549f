"""NOTIFY reaches the worker it is meant for, also after the connection was lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest

from crm_assets.relay.listener import Listener
from crm_assets.store.database import Database
from crm_assets_tests.plugins.sandbox import wait_until


class Sleeper:
    """Stands for a worker; counts how often it is woken."""

    def __init__(self) -> None:
        self.woken = 0

    def wake(self) -> None:
        self.woken += 1


def link() -> Any:
    return SimpleNamespace(workers={kind: Sleeper() for kind in ("events", "writeback", "apply")})


@pytest.fixture
def links(db: Database) -> Iterator[dict[str, Any]]:
    stop = threading.Event()
    links = {"salesforce": link(), "hubspot": link()}
    listener = Listener(db.url, links, stop)
    listener.start()
    wait_until(lambda: links["hubspot"].workers["apply"].woken == 1)  # each connect wakes everybody
    yield links
    stop.set()
    listener.join(5)
    assert not listener.is_alive()


@pytest.mark.parametrize(
    ("channel", "kind"),
    [("crm_assets_inbox", "events"), ("crm_assets_outbox", "writeback"), ("crm_assets_stage", "apply")],
)
def test_each_channel_wakes_its_worker(db: Database, links: dict[str, Any], channel: str, kind: str) -> None:
    with db.transaction() as conn:
        conn.execute("SELECT pg_notify(%s, 'salesforce'), pg_notify(%s, 'nobody')", (channel, channel))
    wait_until(lambda: links["salesforce"].workers[kind].woken == 2)
    woken = {name: {k: w.woken for k, w in one.workers.items()} for name, one in links.items()}
    quiet = {"events": 1, "writeback": 1, "apply": 1}
    assert woken == {"salesforce": quiet | {kind: 2}, "hubspot": quiet}


def test_a_lost_connection_is_made_again_and_everybody_is_woken(db: Database, links: dict[str, Any]) -> None:
    with psycopg.connect(db.url, autocommit=True) as admin:
        ended = admin.execute(
            """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'crm_assets listener'"""
        ).fetchall()
    assert ended == [(True,)]
    wait_until(lambda: all(w.woken == 2 for one in links.values() for w in one.workers.values()))
    with db.transaction() as conn:
        conn.execute("SELECT pg_notify('crm_assets_inbox', 'salesforce')")
    wait_until(lambda: links["salesforce"].workers["events"].woken == 3)
