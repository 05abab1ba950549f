"""The relay on a stream: whatever breaks on the way, the mirror ends in the CRM's state."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pytest

from crm_assets import runtime
from crm_assets.connections import load_connections
from crm_assets.mirror.sync import sync
from crm_assets.settings import Settings
from crm_assets.store.database import Database
from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until
from crm_assets_tests.relay.conftest import MakeRelay, Relay

Product = psycopg.Connection[Any]
SOON = 15.0


@pytest.fixture
def sandbox(make_sandbox: MakeSandbox) -> Sandbox:
    return make_sandbox(rows=40, streams=True, keep_alive_seconds=0.5)


@pytest.fixture
def stream(define: Callable[..., None], sandbox: Sandbox, db: Database, tmp_path: Path, request: Any) -> Iterator[None]:
    """A connection that hears of changes by its stream alone; its objects have been read once."""
    define(options={"pubsub_topics": "/data/ChangeEvents", "pubsub_endpoint": sandbox.pubsub})
    home = tmp_path / "reader"
    home.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRM_SECRET", "sandbox")
        spec = load_connections(tmp_path / "defs")["salesforce"]
        connection = runtime.open_connection(Settings(database_url=db.url, home=home), db, spec, "incremental")
        for obj in connection.objects.values():
            sync(db, home, connection.connector, obj)
        connection.close()
    yield


def mirrored(product: Product) -> dict[str, str]:
    return dict(product.execute("SELECT id, last_name FROM salesforce.contact WHERE id IS NOT NULL").fetchall())


def truth(sandbox: Sandbox) -> dict[str, str]:
    return {key: fields["LastName"] for key, fields in sandbox.alive("Contact").items()}


def place(product: Product) -> bytes | None:
    row = product.execute("SELECT place FROM crm_assets.stream WHERE trouble IS NULL").fetchone()
    return row[0] if row else None


def waiting(product: Product) -> int:
    row = product.execute(
        """SELECT (SELECT count(*) FROM crm_assets.sweep)
                + (SELECT count(*) FROM crm_assets.inbox WHERE state IN ('pending', 'claimed'))"""
    ).fetchone()
    assert row is not None
    return int(row[0])


def equal(product: Product, sandbox: Sandbox) -> bool:
    return mirrored(product) == truth(sandbox)


def test_a_change_comes_by_the_stream(stream: None, make_relay: MakeRelay, sandbox: Sandbox, product: Product) -> None:
    relay = make_relay()
    wait_until(lambda: place(product) and not waiting(product), 2 * SOON)
    sandbox.reset_calls()
    made = sandbox.create("Contact", LastName="Lovelace")
    wait_until(lambda: mirrored(product).get(made) == "Lovelace", SOON)
    sandbox.update("Contact", made, LastName="King")
    wait_until(lambda: mirrored(product).get(made) == "King", SOON)
    sandbox.delete("Contact", made)
    wait_until(lambda: made not in mirrored(product), SOON)
    sandbox.undelete("Contact", made)
    wait_until(lambda: mirrored(product).get(made) == "King", SOON)
    assert set(sandbox.calls()["by_api"]) == {"query"}, "each change is one read by id, and nothing else is asked"
    told = httpx.get(f"{relay.url}/health", trust_env=False).json()["connections"]["salesforce"]["streams"]
    assert told["/data/ChangeEvents"]["heard_seconds_ago"] < SOON and told["/data/ChangeEvents"]["trouble"] is None
    assert relay.stop() == 0


def test_nothing_is_lost_when_relays_are_killed(
    stream: None, make_relay: MakeRelay, sandbox: Sandbox, product: Product
) -> None:
    """Killed while events arrive: another relay goes on; and when none is left, the next one that is started."""
    first = make_relay()
    wait_until(lambda: place(product) and not waiting(product), 2 * SOON)
    second = make_relay()
    sandbox.reset_calls()
    ids = list(truth(sandbox))

    def change(step: str, relay: Relay) -> None:
        for number, record_id in enumerate(ids):
            sandbox.update("Contact", record_id, LastName=step)
            if number == len(ids) // 2:
                relay.kill()
        sandbox.create("Contact", LastName=f"created: {step}")

    change("to the second", first)
    wait_until(lambda: equal(product, sandbox), 2 * SOON)
    change("to nobody", second)
    first.start()
    wait_until(lambda: equal(product, sandbox), 2 * SOON)
    events = product.execute("SELECT count(*) FROM crm_assets.inbox WHERE change <> 'reread'").fetchone()
    assert events is not None and events[0] >= 2 * len(ids), "it was the stream that told"
    assert "updated" not in sandbox.calls()["by_api"], "and no object was read for what changed"


def test_a_place_that_is_no_longer_kept(
    stream: None, make_relay: MakeRelay, sandbox: Sandbox, product: Product
) -> None:
    """The events since then are gone; the objects are read for what they would have told."""
    relay = make_relay()
    wait_until(lambda: place(product) and not waiting(product), 2 * SOON)
    relay.kill()
    missed = sandbox.create("Contact", LastName="missed")
    gone = next(iter(truth(sandbox)))
    sandbox.delete("Contact", gone)
    sandbox.control("DELETE", "/events")
    kept = sandbox.create("Contact", LastName="kept")
    relay.start()
    wait_until(lambda: {missed, kept} <= set(mirrored(product)) and gone not in mirrored(product), 2 * SOON)
    wait_until(lambda: not waiting(product), SOON)
    assert equal(product, sandbox)
    sandbox.update("Contact", kept, LastName="and on it goes")
    wait_until(lambda: mirrored(product)[kept] == "and on it goes", SOON)


def test_events_that_do_not_say_what_changed(
    stream: None, make_relay: MakeRelay, sandbox: Sandbox, product: Product
) -> None:
    """Ids of a gap are read; after an overflow or a range of ids, the object; what cannot be read is set aside."""
    make_relay()
    wait_until(lambda: place(product) and not waiting(product), 2 * SOON)
    ids = sorted(truth(sandbox))

    def unheard(name: str, **event: Any) -> None:
        sandbox.faults({"kind": "lose_event", "path": "Contact"})
        sandbox.update("Contact", ids[0], LastName=name)
        sandbox.clear_faults()
        sandbox.control("POST", "/events", {"object": "Contact", **event})
        wait_until(lambda: mirrored(product)[ids[0]] == name, 2 * SOON)
        wait_until(lambda: not waiting(product), SOON)

    unheard("gap", change="GAP_UPDATE", ids=[ids[0]])
    unheard("overflow", change="GAP_OVERFLOW")
    unheard("range", change="GAP_UPDATE", ids=["003*"])
    unheard("unreadable", unreadable=True)
    row = product.execute("SELECT object, state, reason FROM crm_assets.inbox WHERE change = 'unreadable'").fetchone()
    assert row is not None and row[:2] == ("contact", "failed") and "does not fit its schema" in row[2]
    sandbox.update("Contact", ids[0], LastName="and on it goes")
    wait_until(lambda: mirrored(product)[ids[0]] == "and on it goes", SOON)


def test_sessions_end_and_servers_stop(
    define: Callable[..., None], make_sandbox: MakeSandbox, make_relay: MakeRelay, product: Product
) -> None:
    """A new token is taken and the stream goes on where it was; so it does after the server was away."""
    sandbox = make_sandbox(rows=10, streams=True, keep_alive_seconds=0.3, session_seconds=1.5)
    define(url=sandbox.url, options={"pubsub_topics": "/data/ChangeEvents", "pubsub_endpoint": sandbox.pubsub})
    make_relay()
    wait_until(lambda: place(product), 2 * SOON)
    before = sandbox.calls()["by_api"].get("token", 0)
    wait_until(lambda: sandbox.calls()["by_api"].get("token", 0) > before, SOON)
    made = sandbox.create("Contact", LastName="after the session")
    wait_until(lambda: made in mirrored(product), SOON)
    sandbox.kill()
    time.sleep(0.5)  # long enough for the relay to try in vain
    sandbox.start()
    made = sandbox.create("Contact", LastName="after the restart")
    wait_until(lambda: made in mirrored(product), 2 * SOON)
