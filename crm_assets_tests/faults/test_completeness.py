"""Groups A and B from end to end: whatever the reads lost, the next comparison finds, repairs and tells."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from crm_assets.reconcile.compare import Depth, reconcile
from crm_assets_tests.plugins.hubspot import MakeHubspot
from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.sandbox import wait_until

MASS = 240
MONTH_END = datetime(2026, 3, 31, 22, 0, tzinfo=UTC)


def _passed_by(link: Link, table: str) -> None:
    """The reads have passed this moment of the CRM without seeing what happened before it."""
    now = datetime.now(UTC)
    bound = wait_until(lambda: (high := link.connector.bound(link.object(table), None).high) > now and high, 20)
    moved = bound.replace(microsecond=0).isoformat()
    link.rows("UPDATE crm_assets.cursor SET cursor = %s WHERE object = %s", moved, table)


def test_an_hour_without_events_and_reads_is_repaired_by_the_next_comparison(make_link: MakeLink) -> None:
    """F01 to F15, F25: updates, creates and deletions that nobody told of, many records with one time, and a
    transaction that was committed after the reads had passed its time."""
    link = make_link(objects=("Contact",), rows=1500)
    link.sync("contact")
    contact = link.object("contact")
    assert reconcile(link.db, link.connector, contact, Depth.COUNTS).complete
    ids = sorted(link.sandbox.alive("Contact"))
    updated, deleted, mass, late = ids[:30], ids[30:40], ids[40 : 40 + MASS], ids[-1]
    for record_id in updated:
        link.sandbox.update("Contact", record_id, Title="Untold")
    created = [link.sandbox.create("Contact", LastName=f"Untold {n}") for n in range(5)]
    for record_id in deleted:
        link.sandbox.delete("Contact", record_id)
    with link.sandbox.api() as api:
        for start in range(0, MASS, 200):
            some = [{"attributes": {"type": "Contact"}, "id": i, "Title": "Mass"} for i in mass[start : start + 200]]
            assert api.patch("/composite/sobjects", json={"records": some}).is_success
    link.sandbox.faults({"kind": "late_commit", "method": "PATCH", "path": "Contact"})
    link.sandbox.update("Contact", late, Title="Late")
    wait_until(lambda: link.sandbox.alive("Contact")[late]["Title"] == "Late", 20)
    _passed_by(link, "contact")

    verdict = reconcile(link.db, link.connector, contact, Depth.COUNTS)
    lost = len(updated) + len(created) + len(deleted) + MASS + 1
    assert verdict.complete and verdict.repaired == len({one.id for one in verdict.mended}) == lost
    there = link.sandbox.alive("Contact")
    here = dict(link.rows("SELECT id, title FROM salesforce.contact WHERE _deleted_at IS NULL"))
    assert here == {record_id: fields["Title"] for record_id, fields in there.items()}
    told = dict(
        link.rows("SELECT kind || ': ' || cause, count(*) FROM crm_assets.drift WHERE state = 'closed' GROUP BY 1")
    )
    assert told == {
        "stale: late commit": len(updated) + MASS + 1,
        "missing: late commit": len(created),
        "extra: lost event": len(deleted),
    }
    assert verdict.api_calls <= 30
    assert not reconcile(link.db, link.connector, contact, Depth.COUNTS).repaired


def test_a_month_end_batch_with_one_time_that_was_lost_is_repaired(make_hubspot: MakeHubspot, tmp_path: Path) -> None:
    """F16 to F18: more records with one time than a search shows at once, half of them lost on the way."""
    stamp = f"{MONTH_END:%Y-%m-%dT%H:%M:%S}.000Z"
    rows = [f"{100_000 + n},b{n}@example.com,Mass,{stamp}" for n in range(2 * MASS)]
    (tmp_path / "hubspot").mkdir()
    (tmp_path / "hubspot" / "contacts.csv").write_text(
        "\n".join(["id,email,jobtitle,lastmodifieddate", *rows]) + "\n", encoding="utf-8"
    )
    link = make_hubspot("contacts", seed_dir=tmp_path, settings={"contacts": {"fields": ["email", "jobtitle"]}})
    link.sync("contacts")
    contacts = link.object("contacts")
    with link.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute("UPDATE hubspot.contacts SET jobtitle = 'Old', _version = '2026-01-01' WHERE id::int % 2 = 0")
        conn.execute("DELETE FROM hubspot.contacts WHERE id = '100001'")
    link.rows(
        "UPDATE crm_assets.cursor SET equal_to = %s, cursor = %s",
        MONTH_END - timedelta(days=1),
        datetime.now(UTC).isoformat(),
    )
    verdict = reconcile(link.db, link.connector, contacts, Depth.COUNTS)
    assert verdict.complete and verdict.repaired == MASS + 1
    assert link.value("SELECT count(*) FROM hubspot.contacts WHERE jobtitle = 'Mass'") == 2 * MASS
    # Counts, ids 200 a call, and the records 100 a call.
    assert verdict.api_calls <= 3 + 2 + -(-2 * MASS // 200) + -(-MASS // 100) + 1
