"""HubSpot's archive and merges: what leaves no time of change behind."""

from __future__ import annotations

from typing import Any

import pytest

from crm_assets_tests.plugins.hubspot import MakeHubspot
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import wait_until


@pytest.fixture
def link(make_hubspot: MakeHubspot) -> Link:
    made = make_hubspot("contacts", "deals", rows=60)
    for table in ("contacts", "deals"):
        made.sync(table)
    return made


def _ids(link: Link, table: str) -> set[str]:
    return {row[0] for row in link.rows(f"SELECT id FROM hubspot.{table} WHERE _deleted_at IS NULL")}


def _alike(link: Link, table: str) -> None:
    def same() -> bool:
        link.sync(table)
        link.settle()
        return _ids(link, table) == set(link.sandbox.alive(table))

    wait_until(same)


def test_F25_F26_an_archived_record_leaves_although_its_time_did_not_move(link: Link) -> None:
    gone = next(iter(link.sandbox.alive("contacts")))
    row_id = link.value("SELECT row_id FROM hubspot.contacts WHERE id = %s", gone)
    modified = link.sandbox.records("contacts")[gone]["fields"]["lastmodifieddate"]
    link.sandbox.delete("contacts", gone)
    assert link.sandbox.records("contacts")[gone]["fields"]["lastmodifieddate"] == modified
    report = link.sync("contacts")
    assert report.mode == "incremental" and report.deleted == 1
    assert link.value("SELECT row_id FROM crm_assets.tombstone WHERE id = %s", gone) == row_id


def test_F27_archived_records_are_not_news_again(link: Link) -> None:
    for record_id in list(link.sandbox.alive("contacts"))[:3]:
        link.sandbox.delete("contacts", record_id)
    assert link.sync("contacts").deleted == 3
    again = link.sync("contacts")
    assert (again.deleted, again.updated, again.inserted, again.undeleted) == (0, 0, 0, 0)
    # Once the windows have passed them, they are not even read any more.
    link.rows("UPDATE crm_assets.cursor SET cursor = (now() + interval '10 minutes')::text WHERE object = 'contacts'")
    assert link.sync("contacts").rows_read == 0


@pytest.mark.parametrize("table", ["contacts", "deals"])
def test_F28_F29_merged_records_give_way_to_their_survivor(link: Link, table: str) -> None:
    winner, loser = list(link.sandbox.alive(table))[:2]
    rows = dict(link.rows(f"SELECT id, row_id FROM hubspot.{table}"))
    link.sandbox.merge(table, winner, [loser])
    _alike(link, table)
    assert loser not in _ids(link, table)
    assert _survivor(link, table, rows[loser]) in _ids(link, table)


def test_F30_a_chain_of_merges_leads_to_the_last(link: Link) -> None:
    first, second, third = list(link.sandbox.alive("contacts"))[:3]
    rows = dict(link.rows("SELECT id, row_id FROM hubspot.contacts"))
    before = set(link.sandbox.alive("contacts"))
    link.sandbox.merge("contacts", second, [first])
    middle = next(iter(set(link.sandbox.alive("contacts")) - before), second)
    link.sandbox.merge("contacts", third, [middle])
    _alike(link, "contacts")
    last = next(iter(set(link.sandbox.alive("contacts")) - before), third)
    for loser in {first, second, third} - {last}:
        assert _survivor(link, "contacts", rows[loser]) == last


def test_F31_many_merged_records_all_know_their_survivor(link: Link) -> None:
    people = list(link.sandbox.alive("contacts"))
    rows = dict(link.rows("SELECT id, row_id FROM hubspot.contacts"))
    for winner, loser in zip(people[::2], people[1::2], strict=False):
        link.sandbox.merge("contacts", winner, [loser])
    _alike(link, "contacts")
    alive = _ids(link, "contacts")
    assert alive and all(_survivor(link, "contacts", row_id) in alive for i, row_id in rows.items() if i not in alive)


def _survivor(link: Link, table: str, row_id: Any) -> Any:
    return link.value("SELECT survivor_id FROM crm_assets.alias WHERE object = %s AND row_id = %s", table, row_id)
