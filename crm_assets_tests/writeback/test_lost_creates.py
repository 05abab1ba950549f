"""Creates without an external id whose reply was lost, against the sandbox: at most once."""

from __future__ import annotations

import pytest

from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.sandbox import wait_until

_INSERT = "INSERT INTO salesforce.contact (last_name, email) VALUES ('Once', 'once@example.com')"


@pytest.fixture
def plain(make_link: MakeLink) -> Link:
    """Contacts whose creates carry no row_id."""
    made = make_link(objects=("Contact",), settings={"Contact": {"external_id": None}}, rows=40, longest_call=0.5)
    made.sync("contact")
    return made


def _alike(link: Link) -> list[str]:
    return [key for key, fields in link.sandbox.alive("Contact").items() if fields["LastName"] == "Once"]


def _given_up(link: Link) -> str | None:
    link.write_back()
    reason = link.value("SELECT reason FROM crm_assets.outbox WHERE waiting_for = 'a person'")
    return None if reason is None else str(reason)


def test_a_create_that_arrived_is_found_by_its_values(plain: Link) -> None:
    plain.rows(_INSERT)
    plain.sandbox.faults({"kind": "timeout_after", "path": "/composite/sobjects"})
    plain.settle()
    (record_id,) = _alike(plain)
    row_id = plain.value("SELECT row_id FROM crm_assets.outbox")
    plain.sync("contact")
    assert plain.rows("SELECT id, row_id FROM salesforce.contact WHERE last_name = 'Once'") == [(record_id, row_id)]
    assert plain.states() == {"confirmed": 1}


def test_a_create_that_did_not_arrive_waits_for_a_person_and_is_not_sent_again(plain: Link) -> None:
    plain.rows(_INSERT)
    plain.sandbox.faults({"kind": "timeout_before", "path": "/composite/sobjects"})
    reason = wait_until(lambda: _given_up(plain), 15)
    assert "no record like it" in reason and _alike(plain) == []
    plain.sandbox.reset_calls()
    plain.write_back()
    assert plain.sandbox.calls()["total"] == 0, "nobody looks again"
    plain.rows("SELECT crm_assets.retry(seq) FROM crm_assets.outbox")
    plain.settle()
    assert len(_alike(plain)) == 1 and plain.states() == {"confirmed": 1}


def test_two_records_that_it_may_have_made_are_for_a_person_to_tell_apart(plain: Link) -> None:
    plain.rows(_INSERT)
    plain.sandbox.create("Contact", LastName="Once", Email="once@example.com")
    plain.sandbox.faults({"kind": "timeout_after", "path": "/composite/sobjects"})
    reason = wait_until(lambda: _given_up(plain), 15)
    assert "2 records like it" in reason and plain.states() == {"unknown": 1}


def test_of_two_equal_creates_each_gets_a_record_of_its_own(plain: Link) -> None:
    """One was answered, the other was not: what the first made is not taken for the second's."""
    plain.rows(_INSERT)
    plain.settle()
    plain.rows(_INSERT)
    plain.sandbox.faults({"kind": "timeout_after", "path": "/composite/sobjects"})
    plain.settle()
    assert sorted(_alike(plain)) == sorted(
        row[0] for row in plain.rows("SELECT id FROM crm_assets.outbox WHERE state = 'confirmed'")
    )
