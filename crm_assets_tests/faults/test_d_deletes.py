"""D. Deletes, archives and merges."""

from __future__ import annotations

import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from crm_assets.connectors.salesforce import reading
from crm_assets.core.model import Window
from crm_assets.store.status import row_count
from crm_assets_tests.faults.kit import caught_up, check, equal, mirror, writes
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import wait_until


def _erase(link: Link, name: str, record_id: str) -> None:
    """Past the recycle bin, as a data loader's hard delete does it."""
    with link.sandbox.api() as api:
        job = api.post("/jobs/ingest", json={"object": name, "operation": "hardDelete", "contentType": "CSV"}).json()
        path = f"/jobs/ingest/{job['id']}"
        api.put(f"{path}/batches", content=f"Id\n{record_id}\n", headers={"Content-Type": "text/csv"})
        api.patch(path, json={"state": "UploadComplete"})
        wait_until(lambda: api.get(path).json()["state"] == "JobComplete")
    assert record_id not in link.sandbox.records(name)


def test_F25_a_deletion_that_no_query_shows_is_seen(link: Link) -> None:
    """Archiving did not move the modified date, so no incremental read saw it. What leaves without a stamp that a
    query can find is asked for in the vendor's own list of deletions."""
    record_id = link.sandbox.create("Contact", LastName="Erased")
    caught_up(link)
    _erase(link, "Contact", record_id)
    caught_up(link)
    assert mirror(link, record_id) is None
    assert (
        link.value("SELECT \"values\" ->> 'last_name' FROM crm_assets.tombstone WHERE id = %s", record_id) == "Erased"
    )
    equal(link)


def test_F26_a_deleted_row_leaves_and_says_who_deleted_it(link: Link) -> None:
    """Deleted rows were never flagged. They leave the mirror; the tombstone keeps row_id, last values and who."""
    record_id = link.sandbox.create("Contact", LastName="Deleted")
    caught_up(link)
    row_id, before = mirror(link, record_id, "row_id"), row_count_of(link)
    link.sandbox.delete("Contact", record_id)
    caught_up(link)
    assert row_count_of(link) == before - 1
    assert link.rows(
        "SELECT row_id, deleted_by, \"values\" ->> 'last_name' FROM crm_assets.tombstone WHERE id = %s", record_id
    ) == [(row_id, "crm", "Deleted")]
    link.sandbox.undelete("Contact", record_id)
    caught_up(link)
    link.settle()
    assert mirror(link, record_id, "row_id") == row_id


def row_count_of(link: Link) -> int:
    with link.db.transaction() as conn:
        return row_count(conn, "salesforce", "contact")


def test_F27_a_deletion_is_told_once(link: Link) -> None:
    """The same archived items were reported as updated on each run."""
    record_id = link.sandbox.create("Contact", LastName="Told once")
    caught_up(link)
    link.sandbox.delete("Contact", record_id)
    caught_up(link)
    before = link.rows("SELECT * FROM crm_assets.tombstone WHERE id = %s", record_id)
    for mode in ("incremental", "incremental", "full"):
        report = link.sync("contact", mode)
        assert report.rows_read > 0
        assert (report.applied, report.deleted, report.waiting) == (0, 0, 0)
    link.settle()
    assert link.rows("SELECT * FROM crm_assets.tombstone WHERE id = %s", record_id) == before


def test_F28_merged_records_leave_no_duplicates_and_break_no_join(fresh_link: Link) -> None:
    """Merged contacts stayed as duplicates and broke joins. The loser leaves, and what referred to it refers to the
    survivor before it is read again."""
    link = fresh_link
    winner, loser = (link.sandbox.create("Account", Name=name) for name in ("Winner", "Loser"))
    child = link.sandbox.create("Contact", LastName="Child", AccountId=loser)
    caught_up(link, "account")
    caught_up(link)
    link.sandbox.merge("Account", winner, [loser])
    caught_up(link, "account")
    assert mirror(link, loser, "id", "account") is None and mirror(link, winner, "id", "account") == winner
    assert mirror(link, child, "account_id") == winner
    caught_up(link)
    equal(link)
    equal(link, "Account")


def test_F29_merged_records_can_be_told_from_others(link: Link) -> None:
    """Merged deals could not even be filtered out. Each loser is named, with the record that stands for it, for those
    who have its row_id or its id elsewhere; and a write of the loser says where the record went."""
    winner, loser = (link.sandbox.create("Contact", LastName=name) for name in ("Winner", "Loser"))
    caught_up(link)
    gone, stays = mirror(link, loser, "row_id"), mirror(link, winner, "row_id")
    link.rows("UPDATE salesforce.contact SET title = 'too late' WHERE id = %s", loser)
    link.sandbox.merge("Contact", winner, [loser])
    caught_up(link)
    link.settle()
    assert link.rows("SELECT row_id, survivor, survivor_id FROM crm_assets.alias WHERE id = %s", loser) == [
        (gone, stays, winner)
    ]
    ((state, reason),) = writes(link, gone, "state", "reason")
    assert state == "rejected" and winner in reason


def test_F30_a_chain_of_merges_leads_to_its_end(link: Link) -> None:
    """Chained merges lost an id. Whatever order the links become known in, every loser leads to the last survivor."""
    a, b, c = (link.sandbox.create("Contact", LastName=name) for name in "ABC")
    caught_up(link)
    row_ids = {one: mirror(link, one, "row_id") for one in (a, b, c)}
    link.sandbox.merge("Contact", c, [b])
    caught_up(link)
    link.sandbox.undelete("Contact", b)
    link.sandbox.merge("Contact", b, [a])
    link.sandbox.merge("Contact", c, [b])
    caught_up(link)
    link.settle()
    assert dict(link.rows("SELECT row_id, survivor FROM crm_assets.alias WHERE id IN (%s, %s)", a, b)) == {
        row_ids[a]: row_ids[c],
        row_ids[b]: row_ids[c],
    }


def test_F31_many_merges_at_once_are_all_followed(link: Link) -> None:
    """Of 3,000 merged contacts the canonical id was never updated."""
    with link.sandbox.api() as api:
        records = [{"attributes": {"type": "Lead"}, "LastName": f"Many {n}", "Company": "Many"} for n in range(200)]
        ids = [one["id"] for one in api.post("/composite/sobjects", json={"records": records}).json()]
    caught_up(link, "lead")
    link.sandbox.merge("Lead", ids[0], ids[1:])
    caught_up(link, "lead")
    assert link.rows("SELECT id FROM salesforce.lead WHERE company = 'Many'") == [(ids[0],)]
    assert link.rows(
        "SELECT DISTINCT survivor_id, count(*) OVER () FROM crm_assets.alias WHERE id = ANY (%s)", ids
    ) == [(ids[0], 199)]


def test_F32_a_failed_run_deletes_nothing(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deletes were applied after a run that had failed half way: what it had not come to looked deleted."""
    monkeypatch.setattr(reading, "BULK_ROWS", 8)
    monkeypatch.setitem(link.connector.config.options, "bulk_threshold", 0)  # type: ignore[arg-type]
    ghost = link.sandbox.create("Contact", LastName="Really gone")
    caught_up(link)
    _erase(link, "Contact", ghost)
    before = link.rows("SELECT id FROM salesforce.contact ORDER BY id")
    link.sandbox.faults({"kind": "503", "path": "/results", "nth": 2, "times": 20})
    assert link.sync("contact", "full").partial
    assert link.rows("SELECT id FROM salesforce.contact ORDER BY id") == before
    link.sandbox.clear_faults()
    report = link.sync("contact", "full")
    assert not report.partial and report.deleted == 1 and mirror(link, ghost) is None


def test_F33_more_deletions_than_the_vendor_lists_at_once(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """700,000 deletions in a day exceed the 600,000 ids that one getDeleted lists. The span is asked for in halves."""
    monkeypatch.setattr(link.connector._client._http, "timeout", 60)  # type: ignore[attr-defined]
    now = datetime.now(UTC).replace(microsecond=0)
    low = now - timedelta(hours=10)
    most, step = 600_000, timedelta(hours=8) / 600_001
    erased = [f"00Q{n:012d}AAA" for n in range(most + 1)]
    with sqlite3.connect(link.sandbox.data_dir / "salesforce.sqlite", timeout=60) as db:
        db.executemany(
            "INSERT INTO _erased VALUES ('Lead', ?, ?)",
            ((record_id, f"{low + n * step:%Y-%m-%dT%H:%M:%SZ}") for n, record_id in enumerate(erased)),
        )
    try:
        listed = {one.id for one in link.connector.deletes(link.object("lead"), Window(low, now))}
        assert listed.issuperset(erased)
    finally:
        with sqlite3.connect(link.sandbox.data_dir / "salesforce.sqlite", timeout=60) as db:
            db.execute("DELETE FROM _erased WHERE object = 'Lead'")
        db.close()


def test_a_deletion_older_than_the_vendors_list_is_found_by_a_full_read(link: Link) -> None:
    """F25 again, behind the fifteen days that the vendor keeps: ids that are missing are read one by one."""
    record_id = link.sandbox.create("Lead", LastName="Long gone", Company="X")
    caught_up(link, "lead")
    _erase(link, "Lead", record_id)
    with sqlite3.connect(link.sandbox.data_dir / "salesforce.sqlite", timeout=60) as db:
        db.execute("DELETE FROM _erased WHERE id = ?", (record_id,))
    db.close()
    caught_up(link, "lead")
    assert mirror(link, record_id, table="lead") == "Long gone"
    assert link.sync("lead", "full").deleted == 1
    assert mirror(link, record_id, table="lead") is None
    assert check(link, "lead").complete
