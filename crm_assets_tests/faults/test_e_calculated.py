"""E. Formula and calculated fields."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from typing import Any

import pytest

from crm_assets.orchestration.metadata import table_metadata
from crm_assets.reconcile import fields
from crm_assets.store import followers, inbox
from crm_assets_tests.faults.kit import caught_up, check, equal, mirror, next_second
from crm_assets_tests.plugins.linked import Link, MakeLink


def _calculating(make_link: MakeLink, between: Callable[[Link], object] = lambda _: None) -> Link:
    """Accounts and contacts, each with fields that are calculated from the other. Contacts are read first, then
    something happens ``between``."""
    link = make_link(objects=("Account", "Contact"), rows=20, call_timeout=20)
    link.sandbox.schema("Account", "add", "Heads__c", type="double", rollup={"object": "Contact", "field": "AccountId"})
    for name, kind, formula in (
        ("Tier__c", "string", "Account.Rating"),
        ("Peers__c", "double", "Account.Heads__c - 1"),
        ("Keeper__c", "string", "Account.Owner.LastName"),
    ):
        link.sandbox.schema("Contact", "add", name, type=kind, formula=formula)
    link.age()
    link.follow("contact")
    between(link)
    link.follow("account")
    return link


def _told(link: Link, table: str, *ids: str) -> None:
    """An event names these records; then all that follows is done."""
    with link.db.transaction() as conn:
        inbox.reread(conn, "salesforce", table, ids, "told by an event")
    link.settle()


def test_F34_formulas_and_roll_ups_reach_the_mirror(make_link: MakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    """Formula and roll-up fields do not reach Heroku Postgres: their values change, and no stamp moves."""
    link = _calculating(make_link)
    sandbox = link.sandbox
    here, there = (sandbox.create("Account", Name=name, Rating="Cold") for name in ("Here", "There"))
    one, other = (sandbox.create("Contact", LastName=name, AccountId=here) for name in ("One", "Other"))

    def shown(*columns: str) -> list[Any]:
        return [mirror(link, record_id, column) for record_id in (one, other) for column in columns]

    def heads() -> list[Any]:
        return [mirror(link, record_id, "heads_c", "account") for record_id in (here, there)]

    _told(link, "account", here, there)
    _told(link, "contact", one, other)
    assert (heads(), shown("tier_c", "peers_c")) == ([2, 0], ["Cold", 1, "Cold", 1])
    stamps = shown("_version")
    sandbox.update("Account", here, Rating="Warm")
    _told(link, "account", here)
    assert shown("tier_c") == ["Warm", "Warm"], "a parent's field, changed in the CRM"
    link.rows("UPDATE salesforce.account SET rating = 'Hot' WHERE id = %s", here)
    link.settle()
    assert shown("tier_c") == ["Hot", "Hot"], "and by the product"
    assert shown("_version") == stamps
    sandbox.update("Contact", other, AccountId=there)
    _told(link, "contact", other)
    assert (heads(), shown("peers_c", "tier_c")) == ([1, 1], [0, "Hot", 0, "Cold"]), "both parents, and what shows them"
    link.rows("INSERT INTO salesforce.contact (last_name, account_id) VALUES ('Made here', %s)", there)
    link.settle()
    assert (heads(), shown("peers_c")) == ([1, 2], [0, 1])
    sandbox.delete("Contact", one)
    _told(link, "contact", one)
    assert heads() == [0, 2]
    sandbox.undelete("Contact", one)
    _told(link, "contact", one)
    assert heads() == [1, 2]

    # Followers in such numbers that they are not read one by one, and what nothing leads to: a field two parents away.
    with monkeypatch.context() as patch:
        patch.setattr(followers, "MOST", 0)
        sandbox.update("Account", here, Rating="Cold")
        _told(link, "account", here)
    assert shown("tier_c") == ["Hot", "Cold"]
    link.follow("contact")
    assert shown("tier_c") == ["Cold", "Cold"]
    seeded = {key: one for key, one in sandbox.alive("Contact").items() if one["AccountId"] not in (here, there, None)}
    kept, before = next((key, mirror(link, key, "_version")) for key in seeded)
    owner = sandbox.alive("Account")[seeded[kept]["AccountId"]]["OwnerId"]
    sandbox.update("User", owner, LastName="Renamed")
    link.follow("contact")
    was = mirror(link, kept, "keeper_c")
    assert was != "Renamed"
    link.rows("UPDATE crm_assets.fill SET begun_at = begun_at - interval '24 hours'")
    assert link.follow("contact").filled > 0
    assert (mirror(link, kept, "keeper_c"), mirror(link, kept, "_version")) == ("Renamed", before)
    noted = "SELECT old, new FROM crm_assets.change WHERE id = %s ORDER BY change_id DESC LIMIT 1"
    assert link.rows(noted, kept) == [({"keeper_c": was}, {"keeper_c": "Renamed"})]
    for table in ("account", "contact"):
        found = check(link, table)
        assert found.complete and not found.repaired, found
    # A comparison that finds very many of them repairs none one by one: the next run reads the columns.
    monkeypatch.setattr(fields, "_SUSPECTED", 0)
    sandbox.update("User", owner, LastName="Once more")
    found = check(link)
    assert found.complete and not found.repaired and mirror(link, kept, "keeper_c") == "Renamed"
    link.follow("contact")
    assert mirror(link, kept, "keeper_c") == "Once more"

    # A parent that changed after its child was read, and before it was read itself; and one that did not.
    asked = "SELECT count(*) FROM crm_assets.inbox WHERE reason = 'calculated from Account'"
    for rating, read in (("Warm", 1), (None, 0)):
        parent = sandbox.create("Account", Name="Read later", Rating="Cold")
        next_second()
        child = sandbox.create("Contact", LastName="Read first", AccountId=parent)
        _told(link, "contact", child)
        if rating:
            sandbox.update("Account", parent, Rating=rating)
        before = link.value(asked)
        _told(link, "account", parent)
        assert (mirror(link, child, "tier_c"), link.value(asked) - before) == (rating or "Cold", read)

    told = table_metadata(link.spec, link.object("contact"))["calculated_columns"].records
    assert {record.data["column"]: record.data["staleness"] for record in told} == {
        "tier_c": "at most 24 h old; read again as soon as a change of AccountId.Rating is in the mirror",
        "peers_c": "at most 24 h old; read again as soon as a change of AccountId.Heads__c is in the mirror",
        "keeper_c": "at most 24 h old; read again as soon as a change of AccountId.OwnerId is in the mirror",
    }
    (sums,) = table_metadata(link.spec, link.object("account"))["calculated_columns"].records
    assert "mirrored records that refer to Account" in str(sums.data["staleness"])


def test_F34_a_change_between_two_first_loads_is_shown(make_link: MakeLink) -> None:
    """The same at the very beginning: no change of a single record is told of a first load."""
    changed: list[str] = []

    def between(link: Link) -> None:
        some = next(one for one in link.sandbox.alive("Contact").values() if one["AccountId"])
        changed.extend((some["Id"], "Cold" if mirror(link, some["Id"], "tier_c") != "Cold" else "Hot"))
        link.sandbox.update("Account", some["AccountId"], Rating=changed[1])

    link = _calculating(make_link, between)
    link.follow("contact")
    assert mirror(link, changed[0], "tier_c") == changed[1]


def test_F34_a_formula_brings_the_reference_that_it_goes_by(make_link: MakeLink) -> None:
    """Chosen alone, a formula would follow nothing: what it shows is another record's, which its reference names."""
    link = _calculating(make_link)
    link.choose("Contact", fields=["LastName", "Tier__c"])
    link.follow("contact")
    some = next(one for one in link.sandbox.alive("Contact").values() if one["AccountId"])
    assert mirror(link, some["Id"], "account_id") == some["AccountId"]
    described = link.value("SELECT described_at FROM crm_assets.object WHERE object = 'contact'")
    link.follow("contact")
    again = link.value("SELECT described_at FROM crm_assets.object WHERE object = 'contact'")
    assert described == again, "it is as it was chosen"
    grade = "Cold" if mirror(link, some["Id"], "tier_c") != "Cold" else "Hot"
    link.sandbox.update("Account", some["AccountId"], Rating=grade)
    _told(link, "account", some["AccountId"])
    assert mirror(link, some["Id"], "tier_c") == grade


def test_F35_a_field_that_changes_without_moving_the_stamp_is_found(link: Link) -> None:
    """A standard field behaved like a formula though its metadata did not say so: its changes move no stamp, and no
    incremental read sees them. Reconciliation compares values, not stamps."""
    record_id = link.sandbox.create("Contact", LastName="Quiet", Title="before")
    caught_up(link)
    with sqlite3.connect(link.sandbox.data_dir / "salesforce.sqlite", timeout=60) as db:
        db.execute('UPDATE "Contact" SET "Title" = ? WHERE "Id" = ?', ("after", record_id))
    db.close()
    found = check(link)
    assert found.complete and found.repaired == 1
    assert mirror(link, record_id, "title") == "after"
    equal(link)


def test_F36_deleted_records_keep_what_their_formulas_showed(make_link: MakeLink) -> None:
    """Formula views could not include deleted rows. The tombstone keeps what the columns showed at last, whatever
    becomes of the parent; of a record that was never here, what the CRM shows; and what returns is calculated anew."""
    link = _calculating(make_link)
    sandbox = link.sandbox
    parent = sandbox.create("Account", Name="Parent", Rating="Warm")
    one, unseen = (sandbox.create("Contact", LastName=name, AccountId=parent) for name in ("One", "Unseen"))
    _told(link, "account", parent)
    _told(link, "contact", one)
    assert mirror(link, one, "tier_c") == "Warm"
    for record_id in (one, unseen):
        sandbox.delete("Contact", record_id)
    _told(link, "contact", one, unseen)
    sandbox.update("Account", parent, Rating="Cold")
    _told(link, "account", parent)
    link.follow("contact")
    kept = """SELECT id, "values" ->> 'tier_c' FROM crm_assets.tombstone"""
    assert dict(link.rows(kept)) == {one: "Warm", unseen: "Warm"}
    assert link.value("SELECT count(*) FROM salesforce.contact WHERE id IN (%s, %s)", one, unseen) == 0
    sandbox.undelete("Contact", one)
    _told(link, "contact", one)
    assert mirror(link, one, "tier_c") == "Cold"
