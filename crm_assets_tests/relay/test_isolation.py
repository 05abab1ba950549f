"""A dead object and a poison record in the relay: everything beside them moves as quickly as ever, both ways."""

from __future__ import annotations

import sqlite3
import threading
from typing import Any

import psycopg
import pytest

from crm_assets.core.model import Source
from crm_assets.relay import link as relays
from crm_assets.store import stage
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import Sandbox, wait_until
from crm_assets_tests.relay.conftest import Relay
from crm_assets_tests.relay.test_relay import known, last_name

SOON = 10.0
"""Seconds for a change to arrive; a busy test machine needs some of them for itself."""


def test_a_dead_object_and_a_poison_record_delay_nobody(
    relay: Relay, sandbox: Sandbox, product: psycopg.Connection[Any]
) -> None:
    ours, theirs, poison = (known(sandbox, product) for _ in range(3))
    account = sandbox.create("Account", Name="Known")
    wait_until(lambda: _row(product, "SELECT row_id FROM salesforce.account WHERE id = %s", account), SOON)

    # For ever: no call that concerns accounts is answered, neither way.
    sandbox.faults(
        {"kind": "503", "path": "/composite/sobjects/Account", "times": 1_000_000},
        {"kind": "500", "path": r"/query.*FROM(\+|%20)Account\b", "times": 1_000_000},
    )
    product.execute("UPDATE salesforce.account SET name = 'Ours' WHERE id = %s", (account,))
    sandbox.update("Account", account, Phone="theirs")
    # The CRM has a value that no database holds, and the product writes one that the CRM does not take.
    with sqlite3.connect(sandbox.data_dir / "salesforce.sqlite", timeout=30) as crm:
        crm.execute("UPDATE Contact SET Description = ? WHERE Id = ?", ("a\x00b", poison))
    crm.close()
    sandbox.update("Contact", poison, LastName="Poison")
    product.execute("UPDATE salesforce.contact SET email = 'no address' WHERE id = %s", (poison,))

    for step in range(3):
        product.execute("UPDATE salesforce.contact SET last_name = %s WHERE id = %s", (f"ours {step}", ours))
        sandbox.update("Contact", theirs, LastName=f"theirs {step}")
        wait_until(lambda n=step: sandbox.alive("Contact")[ours]["LastName"] == f"ours {n}", SOON)
        wait_until(lambda n=step: last_name(product, theirs) == f"theirs {n}", SOON)

    # What stands still is told.
    wait_until(lambda: _row(product, "SELECT 1 FROM crm_assets.drift WHERE id = %s AND state = 'open'", poison), SOON)
    told = (
        "SELECT reason FROM crm_assets.outbox WHERE object = 'account' AND state IN ('pending', 'sending', 'unknown')"
    )
    assert _row(product, told) is not None
    sandbox.clear_faults()
    wait_until(lambda: sandbox.alive("Account")[account]["Name"] == "Ours", 60)
    wait_until(lambda: _row(product, "SELECT 1 FROM salesforce.account WHERE phone = 'theirs'"), 60)


@pytest.mark.parametrize("broken", ["account", "contact"])
def test_an_object_that_cannot_be_applied_holds_up_no_other(link: Link, broken: str) -> None:
    """Whichever of the two has its turn first."""
    for table, name in (("account", "Account"), ("contact", "Contact")):
        record_id = next(iter(link.sandbox.alive(name)))
        link.sandbox.update(name, record_id, Phone="newer")
        observed_at, obj = link.db.now(), link.object(table)
        with link.db.transaction() as conn:
            stage.put(conn, "salesforce", obj, link.connector.fetch(obj, [record_id]), Source.ID, observed_at)

    def arrived() -> set[str]:
        return {
            table
            for table in ("account", "contact")
            if link.rows(f"SELECT 1 FROM salesforce.{table} m WHERE to_jsonb(m) ->> 'phone' = 'newer'")
        }

    relay = relays.Link(link.settings, link.db, link.spec, threading.Event())
    try:
        link.rows(f"ALTER TABLE salesforce.{broken} RENAME COLUMN phone TO gone")
        with pytest.raises(psycopg.errors.UndefinedColumn):
            relay.apply()
        assert arrived() == {"account", "contact"} - {broken}
        link.rows(f"ALTER TABLE salesforce.{broken} RENAME COLUMN gone TO phone")
        relay.apply()
        assert arrived() == {"account", "contact"}
    finally:
        relay.close()


def _row(product: psycopg.Connection[Any], query: str, *values: Any) -> Any:
    return product.execute(query, values).fetchone()
