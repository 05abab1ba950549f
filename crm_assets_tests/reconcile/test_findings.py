"""What a comparison finds, each kind with its likely cause, and what becomes of it."""

from __future__ import annotations

import sqlite3
import uuid
from datetime import UTC, datetime, timedelta

from crm_assets.reconcile.compare import Depth, reconcile
from crm_assets_tests.faults.kit import caught_up
from crm_assets_tests.plugins import hubspot_api as api
from crm_assets_tests.plugins.hubspot import MakeHubspot
from crm_assets_tests.plugins.linked import Link, MakeLink


def as_sync(link: Link, statement: str, *parameters: object) -> None:
    """Change the mirror behind everybody's back."""
    with link.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute(statement, parameters)  # type: ignore[arg-type]


def found(link: Link, state: str) -> set[tuple[str, str, str, str]]:
    return set(link.rows("SELECT id, kind, field, cause FROM crm_assets.drift WHERE state = %s", state))


def test_each_kind_of_difference_is_named_and_repaired(make_link: MakeLink) -> None:
    link = make_link(objects=("Account", "Contact"), rows=100)
    for table in ("account", "contact"):
        link.sync(table)
    contact = link.object("contact")
    missing, stale, plain, reference, *_ = sorted(link.sandbox.alive("Contact"))
    other = link.value(
        "SELECT id FROM salesforce.account WHERE id <> (SELECT account_id FROM salesforce.contact WHERE id = %s)"
        " ORDER BY id LIMIT 1",
        reference,
    )
    as_sync(link, "DELETE FROM salesforce.contact WHERE id = %s", missing)
    as_sync(link, "UPDATE salesforce.contact SET title = 'old', _version = '2001-01-01' WHERE id = %s", stale)
    as_sync(link, "UPDATE salesforce.contact SET phone = 'other' WHERE id = %s", plain)
    as_sync(link, "UPDATE salesforce.contact SET account_id = %s WHERE id = %s", other, reference)
    ghost = "003000000000001AAA"
    as_sync(
        link,
        "INSERT INTO salesforce.contact (id, last_name, _version, _observed_at)"
        " VALUES (%s, 'Ghost', '2020-01-01', '2020-01-01')",
        ghost,
    )
    verdict = reconcile(link.db, link.connector, contact)
    assert (verdict.complete, verdict.repaired) == (True, 5)
    assert found(link, "closed") == {
        (missing, "missing", "", "late commit"),
        (stale, "stale", "", "late commit"),
        (plain, "differs", "phone", "changed without its version"),
        (reference, "wrong_reference", "account_id", "changed without its version"),
        (ghost, "extra", "", "lost event"),
    }

    # A column that came later and is not filled yet.
    as_sync(link, "UPDATE salesforce.contact SET title = NULL, phone = 'again' WHERE id = %s", plain)
    link.rows("INSERT INTO crm_assets.fill (connection, object, \"column\") VALUES ('salesforce', 'contact', 'title')")
    reconcile(link.db, link.connector, contact)
    assert found(link, "closed") >= {(plain, "differs", "title", "schema drift")}
    link.rows("DELETE FROM crm_assets.fill")


def test_what_did_not_arrive_and_what_carries_a_name_twice_stays_until_it_is_settled(make_link: MakeLink) -> None:
    link = make_link(objects=("Contact",), rows=100)
    first, second = sorted(link.sandbox.alive("Contact"))[:2]
    copied = str(uuid.uuid4())
    with sqlite3.connect(link.sandbox.data_dir / "salesforce.sqlite", timeout=60) as db:
        for (index,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'Contact' AND sql LIKE '%Row_Id%'"
        ).fetchall():
            db.execute(f'DROP INDEX "{index}"')
        db.execute('UPDATE "Contact" SET "Crm_Assets_Row_Id__c" = ? WHERE "Id" IN (?, ?)', (copied, first, second))
    db.close()
    link.sync("contact")
    contact = link.object("contact")
    (copy,) = {first, second} - {link.value("SELECT id FROM salesforce.contact WHERE row_id = %s", uuid.UUID(copied))}

    refused, waiting, edited = uuid.uuid4(), uuid.uuid4(), sorted(link.sandbox.alive("Contact"))[5]
    link.rows("INSERT INTO salesforce.contact (row_id, last_name, email) VALUES (%s, 'X', 'no address')", refused)
    link.write_back()
    link.rows("INSERT INTO salesforce.contact (row_id, last_name) VALUES (%s, 'Waits')", waiting)
    link.rows("UPDATE salesforce.contact SET title = 'waits' WHERE id = %s", edited)
    young = reconcile(link.db, link.connector, contact, Depth.COUNTS)
    assert {one.id for one in young.findings} == {str(refused), copy}, "what waits for moments only is under way"
    link.rows("UPDATE crm_assets.outbox SET created_at = created_at - interval '1 hour' WHERE state = 'pending'")
    verdict = reconcile(link.db, link.connector, contact, Depth.COUNTS)
    assert (verdict.complete, verdict.extra, verdict.differing, verdict.duplicates) == (False, 2, 1, 1)
    assert found(link, "open") == {
        (copy, "duplicate_external_id", "crm_assets_row_id_c", "unexplained"),
        (str(refused), "extra", "", "rejected write"),
        (str(waiting), "extra", "", "unsent write"),
        (edited, "differs", "title", "unsent write"),
    }
    assert link.value("SELECT title FROM salesforce.contact WHERE id = %s", edited) == "waits", "never undone"

    link.settle()
    link.value("SELECT crm_assets.discard(seq) FROM crm_assets.outbox WHERE state = 'rejected'")
    link.sandbox.update("Contact", copy, Crm_Assets_Row_Id__c=None)
    caught_up(link)
    assert reconcile(link.db, link.connector, contact, Depth.COUNTS).complete
    assert not found(link, "open")


def test_associations_are_read_once_and_their_drift_is_repaired(make_hubspot: MakeHubspot) -> None:
    table = "contacts_to_companies"
    link = make_hubspot("contacts", "companies", table, rows=60)
    for name in link.connection.objects:
        link.sync(name)
    edge = link.object(table)
    lost, kept = link.rows(f"SELECT id, from_id FROM hubspot.{table} ORDER BY id LIMIT 2")
    as_sync(link, f"DELETE FROM hubspot.{table} WHERE id = %s", lost[0])
    parted = link.rows(f"SELECT id, from_id, to_id FROM hubspot.{table} WHERE from_id <> %s ORDER BY id", kept[1])[-1]
    api.part(link.sandbox, "contacts", parted[1], "companies", parted[2])
    link.sandbox.reset_calls()
    verdict = reconcile(link.db, link.connector, edge, Depth.COUNTS)
    assert verdict.complete and verdict.depth is Depth.FIELDS and verdict.repaired >= 2
    kinds = {(one, kind) for one, kind, *_ in found(link, "closed")}
    assert {(lost[0], "association_missing"), (parted[0], "association_extra")} <= kinds
    assert verdict.remote_rows == verdict.local_rows == link.value(f"SELECT count(*) FROM hubspot.{table}")
    contacts = len(link.sandbox.alive("contacts"))
    # A list of the contacts, one read of what they are associated with, and one of those that differed.
    assert link.sandbox.calls()["total"] <= -(-contacts // 100) + 2 == verdict.api_calls


def test_updates_that_were_lost_show_in_counts_of_what_is_new(make_link: MakeLink) -> None:
    link = make_link(objects=("Contact",), rows=300)
    link.sync("contact")
    contact = link.object("contact")
    assert reconcile(link.db, link.connector, contact, Depth.COUNTS).api_calls == 2, "the safe bound and one count"
    rows = dict(link.rows("SELECT id, row(title, _version)::text FROM salesforce.contact"))
    changed = sorted(rows)[:40]
    before = link.rows("SELECT id, title, _version FROM salesforce.contact WHERE id = ANY (%s)", changed)
    for record_id in changed:
        link.sandbox.update("Contact", record_id, Title="Lost")
    busy = reconcile(link.db, link.connector, contact, Depth.COUNTS)
    # What changed since the last read has left its old window: that is no difference, and costs one list of ids.
    assert busy.complete and not busy.repaired and busy.api_calls <= 5

    caught_up(link)
    for record_id, title, version in before:
        as_sync(
            link, "UPDATE salesforce.contact SET title = %s, _version = %s WHERE id = %s", title, version, record_id
        )
    verdict = reconcile(link.db, link.connector, contact, Depth.COUNTS)
    assert verdict.complete and verdict.repaired == len(changed)
    assert verdict.api_calls <= 3 + 1 + 1 + 1, "counts, what moved, ids of the new window, and the records"
    assert {kind for _, kind, _, _ in found(link, "closed")} == {"stale"}
    assert link.value("SELECT count(*) FROM salesforce.contact WHERE title = 'Lost'") == len(changed)
    low = datetime.now(UTC) - timedelta(minutes=5)
    assert link.value("SELECT equal_to > %s FROM crm_assets.cursor", low) is True
