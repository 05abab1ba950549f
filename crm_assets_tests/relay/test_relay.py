"""The relay as its users meet it: a process, real HTTP, a real database, and a CRM that changes."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import psycopg
import pyarrow as pa
import pytest

from crm_assets import runtime
from crm_assets.connections import load_connections
from crm_assets.core.errors import ConfigurationError
from crm_assets.core.model import Page, Source
from crm_assets.relay import main
from crm_assets.settings import Settings
from crm_assets.store import activity, catalog, stage
from crm_assets.store.database import Database
from crm_assets_tests.plugins.sandbox import Sandbox, wait_until
from crm_assets_tests.relay.conftest import MakeRelay, Relay

Product = psycopg.Connection[Any]
Define = Callable[..., None]

SOON = 5.0
"""Seconds; a change takes a fraction of one, a busy test machine more."""


def last_name(product: Product, record_id: str) -> str | None:
    row = product.execute("SELECT last_name FROM salesforce.contact WHERE id = %s", (record_id,)).fetchone()
    return row[0] if row else None


def mirrored(product: Product) -> dict[str, str]:
    return dict(product.execute("SELECT id, last_name FROM salesforce.contact WHERE id IS NOT NULL").fetchall())


def outbox(product: Product) -> dict[str, int]:
    return dict(product.execute("SELECT state, count(*) FROM crm_assets.outbox GROUP BY state").fetchall())


def described(product: Product) -> bool:
    row = product.execute("SELECT to_regclass('salesforce.contact') IS NOT NULL").fetchone()
    return bool(row and row[0])


def known(sandbox: Sandbox, product: Product, **fields: str) -> str:
    """A contact that both sides have, made in the CRM."""
    wait_until(lambda: described(product), 4 * SOON)  # the first start describes the objects
    record_id = sandbox.create("Contact", **({"LastName": "Lovelace"} | fields))
    wait_until(lambda: last_name(product, record_id), SOON)
    return record_id


def test_a_change_in_the_crm_appears_in_the_table(relay: Relay, sandbox: Sandbox, product: Product) -> None:
    record_id = known(sandbox, product)
    assert last_name(product, record_id) == "Lovelace"
    sandbox.update("Contact", record_id, LastName="King")
    wait_until(lambda: last_name(product, record_id) == "King", SOON)
    sandbox.delete("Contact", record_id)
    wait_until(lambda: last_name(product, record_id) is None, SOON)
    sandbox.undelete("Contact", record_id)
    wait_until(lambda: last_name(product, record_id) == "King", SOON)


def test_a_write_of_the_product_appears_in_the_crm(relay: Relay, sandbox: Sandbox, product: Product) -> None:
    record_id = known(sandbox, product)
    product.execute("UPDATE salesforce.contact SET last_name = 'Byron' WHERE id = %s", (record_id,))
    wait_until(lambda: sandbox.alive("Contact")[record_id]["LastName"] == "Byron", SOON)
    wait_until(lambda: outbox(product) == {"confirmed": 1}, SOON)

    row = product.execute("INSERT INTO salesforce.contact (last_name) VALUES ('Hopper') RETURNING row_id").fetchone()
    assert row is not None
    made = wait_until(
        lambda: product.execute(
            "SELECT id FROM salesforce.contact WHERE row_id = %s AND id IS NOT NULL", row
        ).fetchone(),
        SOON,
    )[0]
    assert sandbox.alive("Contact")[made]["LastName"] == "Hopper"

    product.execute("DELETE FROM salesforce.contact WHERE id = %s", (record_id,))
    wait_until(lambda: record_id not in sandbox.alive("Contact"), SOON)


def test_an_echo_of_our_own_write_does_not_go_round(relay: Relay, sandbox: Sandbox, product: Product) -> None:
    """F53: an update loop between two systems."""
    record_id = known(sandbox, product)
    product.execute("UPDATE salesforce.contact SET last_name = 'Byron' WHERE id = %s", (record_id,))
    wait_until(lambda: outbox(product) == {"confirmed": 1}, SOON)
    wait_until(lambda: nothing_waits(product), SOON)
    sandbox.reset_calls()
    with pytest.raises(AssertionError):
        wait_until(lambda: sandbox.calls()["total"] > 2, 1.5)
    assert outbox(product) == {"confirmed": 1}
    assert last_name(product, record_id) == "Byron"


def nothing_waits(product: Product) -> bool:
    row = product.execute(
        """SELECT NOT EXISTS (SELECT FROM crm_assets.inbox WHERE state IN ('pending', 'claimed'))
              AND NOT EXISTS (SELECT FROM crm_assets.outbox
                               WHERE state NOT IN ('confirmed', 'superseded', 'discarded'))"""
    ).fetchone()
    return bool(row and row[0])


@pytest.mark.parametrize("fault", ["lose_event", "duplicate_event", "reorder_events"])
def test_imperfect_delivery_ends_right(relay: Relay, sandbox: Sandbox, product: Product, fault: str) -> None:
    """As long as one event arrives after the last change of a record, the mirror has its last state."""
    ids = [known(sandbox, product) for _ in range(5)]
    sandbox.faults({"kind": fault, "times": 25})
    for step in range(5):
        for record_id in ids:
            sandbox.update("Contact", record_id, LastName=f"step {step}")
    sandbox.clear_faults()
    for record_id in ids:
        sandbox.update("Contact", record_id, LastName="last")
    wait_until(lambda: {mirrored(product)[i] for i in ids} == {"last"}, 2 * SOON)


def test_it_tells_what_it_did_and_that_it_lives(relay: Relay, sandbox: Sandbox, product: Product, db: Database) -> None:
    record_id = known(sandbox, product)
    product.execute("UPDATE salesforce.contact SET last_name = 'Byron' WHERE id = %s", (record_id,))

    def told() -> set[tuple[str, str]]:
        with db.transaction() as conn:
            return {(one.kind, name) for one in activity.since(conn, "salesforce", 0) for name in one.counts}

    wait_until(lambda: told() >= {("events", "inserted"), ("writeback", "confirmed")}, SOON)
    wait_until(lambda: activity.relay_alive(db, "salesforce"), SOON)
    assert httpx.get(f"{relay.url}/health", trust_env=False).json()["ok"] is True
    assert relay.stop() == 0
    assert not activity.relay_alive(db)


def test_a_lost_wake_up_only_costs_a_poll(relay: Relay, sandbox: Sandbox, product: Product, db: Database) -> None:
    """The write is put into the outbox without the NOTIFY that capture would send."""
    record_id = known(sandbox, product)
    with db.transaction() as conn:
        made = conn.execute(
            """INSERT INTO crm_assets.outbox (connection, object, op, row_id, id, base, new)
               SELECT 'salesforce', 'contact', 'update', row_id, id, '{"last_name": "Lovelace"}',
                      '{"last_name": "Silent"}' FROM salesforce.contact WHERE id = %s""",
            (record_id,),
        ).rowcount
    assert made == 1
    wait_until(lambda: sandbox.alive("Contact")[record_id]["LastName"] == "Silent", SOON)


def test_what_another_process_staged_is_applied(relay: Relay, sandbox: Sandbox, product: Product, db: Database) -> None:
    """A process that was killed between its commit and its apply leaves rows in the stage."""
    record_id = known(sandbox, product)
    contact = catalog.load(db, "salesforce")["contact"]
    later = {"id": record_id, "_version": db.now() + timedelta(minutes=1), "_deleted": False, "last_name": "Staged"}
    page = Page(pa.Table.from_pylist([later], schema=contact.page_schema()))
    with db.transaction() as conn:
        stage.put(conn, "salesforce", contact, page, Source.LIST, db.now())
    wait_until(lambda: last_name(product, record_id) == "Staged", SOON)


def test_a_field_that_was_described_meanwhile_is_written(
    relay: Relay, sandbox: Sandbox, product: Product, db: Database, tmp_path: Path
) -> None:
    record_id = known(sandbox, product)
    sandbox.schema("Contact", "add", "Nickname__c", type="string")
    spec = load_connections(tmp_path / "defs")["salesforce"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRM_SECRET", "sandbox")
        settings = Settings(database_url=db.url, home=tmp_path / "home")
        runtime.refresh(runtime.open_connection(settings, db, spec, "incremental")).close()
    product.execute("UPDATE salesforce.contact SET nickname_c = 'Ada' WHERE id = %s", (record_id,))
    wait_until(lambda: sandbox.alive("Contact")[record_id].get("Nickname__c") == "Ada", SOON)
    wait_until(lambda: outbox(product) == {"confirmed": 1}, SOON)


def test_a_paused_connection_sends_nothing_until_it_is_resumed(
    relay: Relay, sandbox: Sandbox, product: Product
) -> None:
    record_id = known(sandbox, product)
    product.execute("SELECT crm_assets.pause('salesforce')")
    product.execute("UPDATE salesforce.contact SET last_name = 'Byron' WHERE id = %s", (record_id,))
    other = known(sandbox, product)  # reading goes on
    with pytest.raises(AssertionError):
        wait_until(lambda: sandbox.alive("Contact")[record_id]["LastName"] == "Byron", 1.5)
    assert outbox(product) == {"pending": 1} and last_name(product, other) == "Lovelace"
    product.execute("SELECT crm_assets.resume('salesforce')")
    wait_until(lambda: sandbox.alive("Contact")[record_id]["LastName"] == "Byron", SOON)


def test_it_survives_the_loss_of_every_database_connection(
    relay: Relay, sandbox: Sandbox, product: Product, db: Database
) -> None:
    record_id = known(sandbox, product)
    for round_ in range(3):
        with psycopg.connect(db.url, autocommit=True) as admin:
            admin.execute(
                """SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                    WHERE datname = current_database() AND application_name LIKE 'crm_assets%'"""
            )
        sandbox.update("Contact", record_id, LastName=f"round {round_}")
        wait_until(lambda r=round_: last_name(product, record_id) == f"round {r}", 20)
        product.execute("UPDATE salesforce.contact SET last_name = %s WHERE id = %s", (f"ours {round_}", record_id))
        wait_until(lambda r=round_: sandbox.alive("Contact")[record_id]["LastName"] == f"ours {r}", 20)


def test_a_broken_connection_does_not_stop_the_others(
    make_relay: MakeRelay, define: Define, sandbox: Sandbox, product: Product
) -> None:
    """F59. One CRM is unreachable, the credentials of another are missing; the third works."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        define("unreachable", url=f"http://127.0.0.1:{unused.getsockname()[1]}", timeout=2)
        define("unset", variable="NO_SUCH_VARIABLE")
        define()
        relay = make_relay()
        sandbox.subscribe(relay.webhook)
        known(sandbox, product)
        assert httpx.post(f"{relay.url}/webhooks/nobody", trust_env=False).status_code == 404
        assert "NO_SUCH_VARIABLE" in relay.log


_MOST_STEPS = 60


def test_a_kill_in_the_middle_loses_and_doubles_nothing(relay: Relay, sandbox: Sandbox, product: Product) -> None:
    """Killed with kill -9 again and again, while both sides write; in the end both sides agree."""
    ids = [known(sandbox, product) for _ in range(6)]
    sandbox.faults({"kind": "slow", "path": "/composite", "times": 1000})
    enough = threading.Event()
    crm_side, product_side = ids[:3], ids[3:]
    steps = 0

    def change() -> None:
        nonlocal steps
        # A slow machine takes long to start a relay; what waits must not grow without end meanwhile.
        while not enough.is_set() and steps < _MOST_STEPS:
            sandbox.update("Contact", crm_side[steps % 3], LastName=f"theirs {steps}")
            product.execute(
                "UPDATE salesforce.contact SET last_name = %s WHERE id = %s",
                (f"ours {steps}", product_side[steps % 3]),
            )
            product.execute("INSERT INTO salesforce.contact (last_name) VALUES (%s)", (f"made {steps}",))
            steps += 1
            time.sleep(0.05)

    changing = threading.Thread(target=change)
    changing.start()
    for _ in range(6):
        time.sleep(0.4)
        relay.kill()
        relay.start()
    enough.set()
    changing.join(30)
    assert steps > 20
    sandbox.clear_faults()
    for record_id in crm_side:  # what was delivered while nobody listened is Dagster's part; here: look again
        sandbox.update("Contact", record_id, LastName="at last")
    wait_until(lambda: nothing_waits(product), 60)

    there = {i: fields["LastName"] for i, fields in sandbox.alive("Contact").items()}
    made = sorted(name for name in there.values() if name.startswith("made "))
    assert made == sorted(f"made {step}" for step in range(steps)), "each create arrived exactly once"
    wait_until(lambda: {i: mirrored(product)[i] for i in crm_side} == dict.fromkeys(crm_side, "at last"), 30)
    assert [there[i] for i in product_side] == [mirrored(product)[i] for i in product_side]
    assert {there[i] for i in product_side} == {f"ours {steps - back}" for back in (1, 2, 3)}
    row = product.execute("SELECT count(*), count(id) FROM salesforce.contact WHERE last_name LIKE 'made %'").fetchone()
    assert row == (steps, steps)


def test_two_relays_share_the_work(relay: Relay, make_relay: MakeRelay, sandbox: Sandbox, product: Product) -> None:
    other = make_relay()
    sandbox.subscribe(other.webhook)  # each event arrives twice
    ids = [known(sandbox, product) for _ in range(10)]
    for step in range(10):
        for record_id in ids[:5]:
            product.execute("UPDATE salesforce.contact SET last_name = %s WHERE id = %s", (f"ours {step}", record_id))
        for record_id in ids[5:]:
            sandbox.update("Contact", record_id, LastName=f"theirs {step}")
        product.execute("INSERT INTO salesforce.contact (last_name) VALUES (%s)", (f"made {step}",))
    wait_until(lambda: nothing_waits(product), 30)
    there = sandbox.alive("Contact")
    assert {there[i]["LastName"] for i in ids[:5]} == {"ours 9"}
    wait_until(lambda: {mirrored(product)[i] for i in ids[5:]} == {"theirs 9"}, SOON)
    assert sorted(f["LastName"] for f in there.values() if f["LastName"].startswith("made ")) == [
        f"made {step}" for step in range(10)
    ]


def test_a_stop_finishes_the_call_under_way(relay: Relay, sandbox: Sandbox, product: Product) -> None:
    record_id = known(sandbox, product)
    sandbox.faults({"kind": "slow", "path": "/composite", "times": 1})
    product.execute("UPDATE salesforce.contact SET last_name = 'Byron' WHERE id = %s", (record_id,))
    wait_until(lambda: outbox(product).get("sending"), SOON)
    assert relay.stop() == 0
    assert outbox(product) in ({"confirmed": 1}, {"pending": 1})
    assert "relay stopped" in relay.log


def test_a_busy_port_is_one_clear_error() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=f"port {port} .*--port"):
            main(port)
