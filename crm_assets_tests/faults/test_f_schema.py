"""F. Schema change, and a source that fails while everything is read anew."""

from __future__ import annotations

import uuid
from dataclasses import replace

import pytest

from crm_assets.connectors.salesforce.describe import to_object
from crm_assets.core.model import Object
from crm_assets.mirror.sync import sync
from crm_assets_tests.faults.kit import caught_up, equal, mirror, writes
from crm_assets_tests.plugins.linked import Link


def test_F39_a_connection_that_was_paused_goes_on_where_it_stood(link: Link) -> None:
    """Re-enabling a paused connection cleared the destination. Pausing keeps every row and every write; resuming
    sends what has waited."""
    record_id = link.sandbox.create("Contact", LastName="Paused")
    caught_up(link)
    rows = link.rows("SELECT row_id, id FROM salesforce.contact ORDER BY id")
    link.rows("SELECT crm_assets.pause('salesforce')")
    link.rows("UPDATE salesforce.contact SET title = 'waits' WHERE id = %s", record_id)
    assert "paused" in (link.write_back().stopped or "")
    assert link.sandbox.alive("Contact")[record_id]["Title"] is None
    link.rows("SELECT crm_assets.resume('salesforce')")
    link.settle()
    assert link.sandbox.alive("Contact")[record_id]["Title"] == "waits"
    assert link.rows("SELECT row_id, id FROM salesforce.contact ORDER BY id") == rows


@pytest.mark.parametrize("kind", ["503", "truncate", "500"])
def test_F40_a_full_read_of_a_failing_source_wipes_nothing(link: Link, kind: str) -> None:
    """A full refresh wiped good data when the source failed. A read that does not end well changes nothing at all."""
    before = link.rows("SELECT row_id, id, xmin::text FROM salesforce.account ORDER BY id")
    assert before
    link.sandbox.faults({"kind": kind, "path": r"/query(All)?\b", "times": 50})
    assert link.sync("account", "full").partial
    assert link.rows("SELECT row_id, id, xmin::text FROM salesforce.account ORDER BY id") == before


def test_F41_a_stamp_that_cannot_be_filtered_by_is_no_cursor(link: Link) -> None:
    """A cursor field that cannot be filtered by gave windows of zero rows that looked complete. Another stamp is
    taken; an object without any is read in full each time."""
    with link.sandbox.api() as api:
        body = api.get("/sobjects/Account/describe").json()

    def without(*stamps: str) -> Object:
        fields = [{**f, "filterable": f["name"] not in stamps} for f in body["fields"]]
        return to_object({**body, "fields": fields}, {})

    assert without().version_field == "SystemModstamp"
    assert without("SystemModstamp").version_field == "LastModifiedDate"
    none = without("SystemModstamp", "LastModifiedDate", "CreatedDate").version_field
    assert none is None
    obj = replace(link.object("account"), version_field=none)
    report = sync(link.db, link.home, link.connector, obj)
    assert report.mode == "full" and not report.partial
    assert report.rows_read >= len(link.sandbox.alive("Account"))


def test_F57_a_load_whose_later_page_fails_leaves_no_orphans(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are bulk syncs idempotent if a later page fails? The rows of the failed load leave the stage with it, and the
    same pages come again once."""
    from crm_assets.connectors.salesforce import reading

    monkeypatch.setattr(reading, "BULK_ROWS", 5)
    monkeypatch.setitem(link.connector.config.options, "bulk_threshold", 0)  # type: ignore[arg-type]
    name = uuid.uuid4().hex
    made = [link.sandbox.create("Account", Name=f"{name} {n}") for n in range(12)]
    link.sandbox.faults({"kind": "503", "path": "/results", "nth": 3, "times": 20})
    assert link.sync("account", "full").partial
    assert link.value("SELECT count(*) FROM salesforce_stage.account") == 0
    assert link.value("SELECT count(*) FROM salesforce.account WHERE name LIKE %s", f"{name}%") == 0
    link.sandbox.clear_faults()
    for _ in range(2):
        assert not link.sync("account", "full").partial
    found = link.rows("SELECT id FROM salesforce.account WHERE name LIKE %s ORDER BY id", f"{name}%")
    assert [row[0] for row in found] == sorted(made)
    equal(link, "Account")


def test_F57_a_write_back_whose_later_records_fail_sends_only_those_again(link: Link) -> None:
    """The same outward: of a batch in which every second record fails, the others are not sent twice."""
    made = [uuid.uuid4() for _ in range(8)]
    for row_id in made:
        link.rows("INSERT INTO salesforce.contact (row_id, last_name) VALUES (%s, 'Half')", row_id)
    link.sandbox.faults({"kind": "partial_batch", "path": "/composite/sobjects"})
    report = link.write_back()
    assert (report.objects["contact"].confirmed, report.objects["contact"].retried) == (4, 4)
    link.settle()
    attempts = sorted(writes(link, row_id, "state", "attempts")[0] for row_id in made)
    assert attempts == [("confirmed", 1)] * 4 + [("confirmed", 2)] * 4
    carried = [one["Crm_Assets_Row_Id__c"] for one in link.sandbox.alive("Contact").values()]
    assert all(carried.count(str(row_id)) == 1 for row_id in made)
    assert all(mirror(link, link.value("SELECT id FROM salesforce.contact WHERE row_id = %s", one)) for one in made)
