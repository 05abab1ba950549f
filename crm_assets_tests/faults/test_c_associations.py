"""Associations that are made later, on records that do not seem to have changed."""

from __future__ import annotations

import pytest

from crm_assets_tests.plugins import hubspot_api as api
from crm_assets_tests.plugins.hubspot import MakeHubspot
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import wait_until

EDGES = ("contacts_to_companies", "notes_to_contacts")


@pytest.fixture
def link(make_hubspot: MakeHubspot) -> Link:
    made = make_hubspot("contacts", "companies", "notes", *EDGES, rows=60)
    for table in made.connection.objects:
        made.sync(table)
    return made


def _mirror(link: Link, table: str, parent: str) -> set[tuple[str, str]]:
    return set(link.rows(f"SELECT to_id, type FROM hubspot.{table} WHERE from_id = %s", parent))


def _unlike(link: Link, start: str, end: str) -> str:
    """A record of ``end`` that the first record of ``start`` is not associated with."""
    has = {other for other, _ in api.pairs(link.sandbox, start, _first(link, start), end)}
    return next(other for other in link.sandbox.alive(end) if other not in has)


def _first(link: Link, name: str) -> str:
    return next(iter(link.sandbox.alive(name)))


def _truth(link: Link, start: str, end: str) -> set[tuple[str, str, str]]:
    return {
        (one, other, number)
        for one in link.sandbox.alive(start)
        for other, number in api.pairs(link.sandbox, start, one, end)
    }


@pytest.mark.parametrize(("start", "end"), [("contacts", "companies"), ("notes", "contacts")])
def test_F21_F22_an_association_made_later_arrives_without_its_record_changing(
    link: Link, start: str, end: str
) -> None:
    table = f"{start}_to_{end}"
    one, other = _first(link, start), _unlike(link, start, end)
    api.associate(link.sandbox, start, one, end, other)
    assert other not in {to for to, _ in _mirror(link, table, one)}
    # No event tells of it and no time moves: the daily whole read finds it.
    link.rows("UPDATE crm_assets.load SET observed_at = observed_at - interval '2 days' WHERE object = %s", table)
    report = link.sync(table)
    assert report.mode == "full"
    assert _mirror(link, table, one) == api.pairs(link.sandbox, start, one, end)
    api.part(link.sandbox, start, one, end, other)
    link.rows("UPDATE crm_assets.load SET observed_at = observed_at - interval '2 days' WHERE object = %s", table)
    link.sync(table)
    assert set(link.rows(f"SELECT from_id, to_id, type FROM hubspot.{table}")) == _truth(link, start, end)


def test_F21_an_event_brings_it_at_once(link: Link) -> None:
    one, other = _first(link, "contacts"), _unlike(link, "contacts", "companies")
    api.associate(link.sandbox, "contacts", one, "companies", other)
    link.rows(
        """INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change)
           VALUES ('hubspot', 'e1', 'contacts_to_companies', %s, 'associationChange')""",
        one,
    )
    link.read_events()
    assert _mirror(link, "contacts_to_companies", one) == api.pairs(link.sandbox, "contacts", one, "companies")


def test_F23_a_window_brings_the_associations_of_what_changed(link: Link) -> None:
    one, other = _first(link, "contacts"), _unlike(link, "contacts", "companies")
    api.associate(link.sandbox, "contacts", one, "companies", other)
    link.sandbox.update("contacts", one, jobtitle="moved")

    def arrived() -> bool:
        report = link.sync("contacts_to_companies")
        assert report.mode == "incremental"
        return other in {to for to, _ in _mirror(link, "contacts_to_companies", one)}

    wait_until(arrived)
    assert _mirror(link, "contacts_to_companies", one) == api.pairs(link.sandbox, "contacts", one, "companies")


def test_F24_a_token_that_ends_in_the_middle_leaves_nothing_out(link: Link) -> None:
    link.sandbox.faults({"kind": "expired_token", "path": "/associations"}, {"kind": "503", "path": "/contacts"})
    assert not link.sync("contacts_to_companies", "full").partial
    assert set(link.rows("SELECT from_id, to_id, type FROM hubspot.contacts_to_companies")) == _truth(
        link, "contacts", "companies"
    )


def test_an_archived_record_takes_its_associations_along(link: Link) -> None:
    one = _first(link, "contacts")
    assert _mirror(link, "contacts_to_companies", one)
    link.sandbox.delete("contacts", one)
    link.sync("contacts")
    link.settle()
    assert not _mirror(link, "contacts_to_companies", one)
    assert not link.value("SELECT count(*) FROM hubspot.notes_to_contacts WHERE to_id = %s", one)
