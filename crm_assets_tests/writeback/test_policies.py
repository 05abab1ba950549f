"""Conflict policies, pre-flight and refused batches, against the sandbox."""

from __future__ import annotations

from typing import Any

import pytest

from crm_assets_tests.plugins.linked import Link, MakeLink


def _two(link: Link) -> str:
    return str(link.value("SELECT min(id) FROM salesforce.contact"))


def _both_change(link: Link, record_id: str) -> None:
    """The product and the CRM change the phone; neither has seen the other's value."""
    link.rows("UPDATE salesforce.contact SET phone = 'ours', title = 'Our title' WHERE id = %s", record_id)
    link.sandbox.update("Contact", record_id, Phone="theirs")


def _contacts(make_link: MakeLink, **options: Any) -> Link:
    made = make_link(objects=("Contact",), rows=40, **options)
    made.sync("contact")
    return made


@pytest.mark.parametrize(
    ("policy", "phone", "resolution"), [("crm_wins", "theirs", "crm"), ("product_wins", "ours", "product")]
)
def test_a_policy_of_one_field_decides_that_field_alone(
    make_link: MakeLink, policy: str, phone: str, resolution: str
) -> None:
    link = _contacts(make_link, settings={"Contact": {"conflict": {"Phone": policy}}})
    record_id = _two(link)
    _both_change(link, record_id)
    link.settle()
    link.sync("contact")
    row = link.rows("SELECT phone, title FROM salesforce.contact WHERE id = %s", record_id)
    fields = link.sandbox.alive("Contact")[record_id]
    assert row == [(phone, "Our title")] == [(fields["Phone"], fields["Title"])]
    assert link.rows("SELECT field, ours, theirs, policy, state, resolution FROM crm_assets.conflict") == [
        ("phone", "ours", "theirs", policy, "resolved", resolution)
    ]
    assert link.value("SELECT count(*) FROM crm_assets.outbox WHERE state = 'conflict'") == 0


def test_the_newest_wins_in_both_directions(make_link: MakeLink) -> None:
    link = _contacts(make_link, conflict="newest_wins")
    first, second = (row[0] for row in link.rows("SELECT id FROM salesforce.contact ORDER BY id LIMIT 2"))
    # Ours is older than theirs: the write is dated back behind the CRM's edit.
    _both_change(link, first)
    link.rows("UPDATE crm_assets.outbox SET created_at = created_at - interval '1 minute'")
    # Ours is newer: the CRM's edit is dated back.
    _both_change(link, second)
    link.rows("UPDATE crm_assets.outbox SET created_at = created_at + interval '1 minute' WHERE id = %s", second)
    link.settle()
    assert link.rows("SELECT phone FROM salesforce.contact WHERE id IN (%s, %s) ORDER BY id", first, second) == [
        ("theirs",),
        ("ours",),
    ]
    alive = link.sandbox.alive("Contact")
    assert (alive[first]["Phone"], alive[second]["Phone"]) == ("theirs", "ours")


def test_an_edit_of_another_field_makes_the_crms_value_no_newer(make_link: MakeLink) -> None:
    link = _contacts(make_link, conflict="newest_wins")
    record_id = _two(link)
    link.rows("UPDATE salesforce.contact SET phone = 'ours' WHERE id = %s", record_id)
    link.sandbox.update("Contact", record_id, Phone="theirs")
    link.rows("SELECT crm_assets.ask_reread('salesforce', 'contact', %s, 'an event')", record_id)
    link.read_events()
    link.rows(
        """UPDATE crm_assets.outbox SET created_at = (theirs_since ->> 'phone')::timestamptz + interval '1 minute'"""
    )
    # The record's version is now later than the write; the phone's is not.
    link.rows("UPDATE crm_assets.outbox SET theirs_version = '2999-01-01 00:00:00+00'")
    link.sandbox.update("Contact", record_id, Title="Later")
    link.settle()
    assert link.sandbox.alive("Contact")[record_id]["Phone"] == "ours"


def test_where_the_product_wins_nothing_is_read_before_it_is_written(make_link: MakeLink) -> None:
    link = _contacts(make_link, conflict="product_wins")
    link.rows("UPDATE salesforce.contact SET phone = 'ours'")
    link.sandbox.reset_calls()
    report = link.write_back()
    count = link.value("SELECT count(*) FROM salesforce.contact")
    assert (report.total("confirmed"), report.api_calls) == (count, 1)


@pytest.mark.parametrize(("policy", "alive"), [("crm_wins", True), ("product_wins", False), ("hold", True)])
def test_a_delete_of_a_record_that_the_crm_changed(make_link: MakeLink, policy: str, alive: bool) -> None:
    link = _contacts(make_link, conflict=policy)
    record_id = _two(link)
    row_id = link.value("SELECT row_id FROM salesforce.contact WHERE id = %s", record_id)
    link.rows("DELETE FROM salesforce.contact WHERE id = %s", record_id)
    link.sandbox.update("Contact", record_id, Phone="theirs")
    link.settle()
    assert (record_id in link.sandbox.alive("Contact")) is alive
    there = link.rows("SELECT row_id, phone FROM salesforce.contact WHERE id = %s", record_id)
    assert there == ([(row_id, "theirs")] if policy == "crm_wins" else [])


def test_what_the_crm_would_refuse_costs_no_call(make_link: MakeLink) -> None:
    link = _contacts(make_link)
    link.rows("UPDATE salesforce.contact SET salutation = 'Grand Vizier'")
    link.rows("INSERT INTO salesforce.contact (first_name) VALUES ('Nameless')")
    link.rows("UPDATE salesforce.contact SET phone = repeat('1', 41) WHERE id = %s", _two(link))
    link.sandbox.reset_calls()
    report = link.write_back()
    count = link.value("SELECT count(*) FROM salesforce.contact")
    assert (report.total("rejected"), report.api_calls, link.sandbox.calls()["total"]) == (count, 0, 0)
    reasons = {row[0] for row in link.rows("SELECT reason FROM crm_assets.outbox WHERE state = 'rejected'")}
    assert any("phone has 41 characters and may have 40" in reason for reason in reasons)
    assert any("last_name is required" in reason for reason in reasons)
