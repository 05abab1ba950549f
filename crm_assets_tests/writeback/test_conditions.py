"""A lone update is sent under the vendor's own condition; then no read is spent on looking for conflicts."""

from __future__ import annotations

import pytest

from crm_assets.connectors.base import Conditional
from crm_assets_tests.plugins.linked import Link


@pytest.fixture
def record(link: Link) -> str:
    """The id of a record that was last changed long before it was read."""
    assert isinstance(link.connector, Conditional)
    link.connector.count(link.object("contact"))  # the login
    return str(
        link.value(
            "SELECT min(id) FROM salesforce.contact WHERE _observed_at > _version + %s", link.connector.condition_blind
        )
    )


def _drain(link: Link) -> dict[str, int]:
    """What was called, by the kind of call."""
    link.sandbox.reset_calls()
    link.write_back()
    return dict(link.sandbox.calls()["by_api"])


def test_one_call_and_no_read(link: Link, record: str) -> None:
    link.rows("UPDATE salesforce.contact SET phone = '0815' WHERE id = %s", record)
    calls = _drain(link)
    assert sum(calls.values()) == 1, calls
    assert link.sandbox.alive("Contact")[record]["Phone"] == "0815"
    assert link.states() == {"confirmed": 1}


def test_an_edit_between_the_read_and_the_send_is_a_conflict(link: Link, record: str) -> None:
    link.rows("UPDATE salesforce.contact SET phone = 'ours' WHERE id = %s", record)
    link.sandbox.update("Contact", record, Phone="theirs")
    assert sum(_drain(link).values()) == 2, "the refused call, and the read that it asks for, in one turn"
    assert link.sandbox.alive("Contact")[record]["Phone"] == "theirs"
    assert link.states() == {"conflict": 1}
    assert link.rows("SELECT field, ours, theirs, state FROM crm_assets.conflict") == [
        ("phone", "ours", "theirs", "open")
    ]


def test_an_edit_of_another_field_is_none(link: Link, record: str) -> None:
    link.rows("UPDATE salesforce.contact SET phone = 'ours' WHERE id = %s", record)
    link.sandbox.update("Contact", record, Title="Theirs")
    assert sum(_drain(link).values()) == 3
    alive = link.sandbox.alive("Contact")[record]
    assert (alive["Phone"], alive["Title"]) == ("ours", "Theirs")
    assert link.states() == {"confirmed": 1}


def test_a_version_of_the_second_of_its_read_is_compared(link: Link, record: str) -> None:
    """An edit later in that second has the same version: the condition would let it be overwritten."""
    link.rows("UPDATE salesforce.contact SET phone = 'ours' WHERE id = %s", record)
    link.settle()
    link.rows("UPDATE salesforce.contact SET phone = 'ours again' WHERE id = %s", record)
    link.sandbox.update("Contact", record, Phone="theirs")
    _drain(link)
    assert link.sandbox.alive("Contact")[record]["Phone"] == "theirs"
    assert link.states() == {"confirmed": 1, "conflict": 1}


def test_several_updates_share_a_read_and_a_call(link: Link) -> None:
    link.rows("UPDATE salesforce.contact SET phone = '0815' WHERE id IN (SELECT id FROM salesforce.contact LIMIT 5)")
    assert sum(_drain(link).values()) <= 3
    assert link.states() == {"confirmed": 5}


def test_a_record_that_is_gone_is_told_as_such(link: Link, record: str) -> None:
    link.rows("UPDATE salesforce.contact SET phone = 'ours' WHERE id = %s", record)
    link.sandbox.delete("Contact", record)
    assert sum(_drain(link).values()) == 1
    assert link.rows("SELECT state, reason FROM crm_assets.outbox") == [
        ("rejected", "the record is deleted in the CRM")
    ]


def test_a_value_that_the_crm_refuses_is_rejected_with_its_reason(link: Link, record: str) -> None:
    link.rows("UPDATE salesforce.contact SET email = 'no address' WHERE id = %s", record)
    _drain(link)
    ((state, reason),) = link.rows("SELECT state, reason FROM crm_assets.outbox")
    assert state == "rejected" and "INVALID_EMAIL_ADDRESS" in reason


def test_a_lost_reply_is_unknown(link: Link, record: str) -> None:
    link.sandbox.faults({"method": "PATCH", "path": "/sobjects/Contact/", "kind": "timeout_after"})
    link.rows("UPDATE salesforce.contact SET phone = '0815' WHERE id = %s", record)
    _drain(link)
    assert link.states() == {"unknown": 1}
