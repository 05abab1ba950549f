"""A dead object and a poison record in the relay: everything beside them moves as quickly as ever, both ways."""

from __future__ import annotations

import sqlite3
from typing import Any

import psycopg

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


def _row(product: psycopg.Connection[Any], query: str, *values: Any) -> Any:
    return product.execute(query, values).fetchone()
