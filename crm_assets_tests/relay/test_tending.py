"""A relay without Dagster: what no schedule reads any more is read by it."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import datetime

import pytest

from crm_assets.relay import link as relays
from crm_assets.relay import tending
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import wait_until


@pytest.fixture
def relay(link: Link, monkeypatch: pytest.MonkeyPatch) -> Iterator[relays.Link]:
    monkeypatch.setattr(tending, "_ASK_EVERY", 0.0)
    made = relays.Link(link.settings, link.db, link.spec, threading.Event())
    yield made
    made.close()


def _pass_a_day(link: Link, table: str) -> None:
    link.rows("UPDATE crm_assets.cursor SET moved_at = moved_at - interval '24 hours' WHERE object = %s", table)
    link.age()


def test_what_nobody_has_read_for_a_day_is_read_and_filled(link: Link, relay: relays.Link) -> None:
    some, other, *_ = sorted(link.sandbox.alive("Contact"))
    link.sandbox.schema("Contact", "add", "Shout__c", type="string", formula="Title")
    link.sandbox.update("Contact", some, Title="no event tells")
    assert not relay.sweep()
    assert link.value("SELECT title FROM salesforce.contact WHERE id = %s", some) != "no event tells"
    changed = datetime.fromisoformat(link.sandbox.records("Contact")[some]["modified_at"])
    wait_until(lambda: link.connector.bound(link.object("contact"), None).high > changed)
    _pass_a_day(link, "contact")
    assert relay.sweep()
    shown = dict(link.rows("SELECT id, shout_c FROM salesforce.contact"))
    assert shown == {record_id: one["Title"] for record_id, one in link.sandbox.alive("Contact").items()}
    assert shown[some] == "no event tells" and other in shown
    assert not relay.sweep(), "once"


def test_an_object_that_fails_keeps_no_other_from_its_turn(link: Link, relay: relays.Link) -> None:
    record_id = link.sandbox.create("Account", Name="Unheard")
    for table in ("account", "contact"):
        _pass_a_day(link, table)
    link.rows("UPDATE crm_assets.cursor SET moved_at = moved_at - interval '1 minute' WHERE object = 'contact'")
    link.sandbox.faults({"kind": "503", "path": "Contact", "times": 1_000})
    assert not relay.sweep() and relay.sweep()
    assert link.value("SELECT name FROM salesforce.account WHERE id = %s", record_id) == "Unheard"
    assert not relay.sweep(), "it is not tried again at once"
