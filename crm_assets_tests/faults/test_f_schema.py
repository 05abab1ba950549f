"""F. Schema change, and a source that fails while everything is read anew."""

from __future__ import annotations

import uuid
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from crm_assets import runtime
from crm_assets.connectors.salesforce import reading, wide
from crm_assets.connectors.salesforce.describe import to_object
from crm_assets.core.model import Object
from crm_assets.mirror.sync import sync
from crm_assets.store import ddl, inbox, loads
from crm_assets_tests.faults.dying import Killed
from crm_assets_tests.faults.kit import caught_up, equal, mirror, writes
from crm_assets_tests.plugins.linked import Link, MakeLink


def _physical(link: Link, table: str, but: str) -> dict[str, Any]:
    """Where each row is stored: a row that is written moves. Without those that a column has a value for."""
    return dict(link.rows(f"SELECT id, (row_id, ctid, xmin)::text FROM salesforce.{table} WHERE {but} IS NULL"))


def test_F37_a_new_column_loses_no_record_and_no_value(link: Link) -> None:
    """An incremental stream lost data on a new column. Records that were read before it came get their values, those
    that change while it comes are read with it, and what was read without it empties nothing."""
    old, busy = (link.sandbox.create("Lead", LastName=name, Company="X") for name in ("Old", "Busy"))
    caught_up(link, "lead")
    link.sandbox.schema("Lead", "add", "Coat__c", type="string")
    for record_id in (old, busy):
        link.sandbox.update("Lead", record_id, Coat__c="red")
    caught_up(link, "lead")
    assert "coat_c" not in link.object("lead").by_column, "read in the old shape: their stamps have been passed"
    new = link.sandbox.create("Lead", LastName="New", Company="X", Coat__c="blue")
    link.sandbox.update("Lead", busy, Company="Changed meanwhile")
    link.age()
    link.follow("lead")
    assert not link.follow("lead").filling
    caught_up(link, "lead")
    assert [mirror(link, one, "coat_c", "lead") for one in (old, busy, new)] == ["red", "red", "blue"]
    assert mirror(link, busy, "company", "lead") == "Changed meanwhile"
    link.settle()
    equal(link, "Lead")


def test_F38_a_change_of_the_schema_resets_nothing(link: Link) -> None:
    """Asked for for years: a schema change without resetting data. Fields come, change their type and go; rows without
    a value of theirs are not even written, the cursor only moves on, and the product's unsent write is still there."""
    some = link.sandbox.create("Lead", LastName="Some", Company="X")
    caught_up(link, "lead")
    cursor = "SELECT cursor::timestamptz FROM crm_assets.cursor WHERE object = 'lead'"
    begun, row_id = link.value(cursor), mirror(link, some, "row_id", "lead")
    link.rows("UPDATE salesforce.lead SET title = 'unsent' WHERE id = %s", some)
    link.sandbox.reset_calls()

    def reshaped(action: str, field: str, **more: str) -> None:
        link.sandbox.schema("Lead", action, field, **more)
        link.age()
        report = link.follow("lead")
        assert (report.mode, report.partial, report.filling) == ("incremental", False, ())

    reshaped("add", "Feet__c", type="double")
    link.sandbox.update("Lead", some, Feet__c=7)
    before = _physical(link, "lead", "feet_c")
    caught_up(link, "lead")
    reshaped("retype", "Feet__c", type="string")
    assert link.rows("SELECT feet_c, feet_c_2 FROM salesforce.lead WHERE id = %s", some) == [(7, "7")]
    reshaped("drop", "Feet__c")
    assert link.rows("SELECT feet_c, feet_c_2 FROM salesforce.lead WHERE id = %s", some) == [(7, "7")]
    after = _physical(link, "lead", "feet_c")
    del before[some]
    assert after == before and len(after) > 5
    assert link.value(cursor) >= begun and mirror(link, some, "row_id", "lead") == row_id
    assert writes(link, row_id, "state", "new") == [("pending", {"title": "unsent"})]
    link.settle()
    assert link.sandbox.alive("Lead")[some]["Title"] == "unsent"
    equal(link, "Lead")


def test_F39_a_connection_that_was_paused_goes_on_where_it_stood(link: Link) -> None:
    """Re-enabling a paused connection cleared the destination. Pausing keeps every row and every write; resuming
    sends what has waited, and reading goes on from its cursor."""
    record_id = link.sandbox.create("Contact", LastName="Paused")
    caught_up(link)
    cursor = loads.read_cursor(link.db, "salesforce", "contact")
    assert cursor is not None
    rows = link.rows("SELECT row_id, id FROM salesforce.contact ORDER BY id")
    link.rows("SELECT crm_assets.pause('salesforce')")
    link.rows("UPDATE salesforce.contact SET title = 'waits' WHERE id = %s", record_id)
    assert "paused" in (link.write_back().stopped or "")
    assert link.sandbox.alive("Contact")[record_id]["Title"] is None
    link.rows("SELECT crm_assets.resume('salesforce')")
    link.connection = runtime.refresh(link.connection)
    report = link.sync("contact")
    assert (report.mode, report.low) == ("incremental", datetime.fromisoformat(cursor) - link.connector.overlap)
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
    described = link.object("account")
    obj = replace(described, version_field=none)
    ddl.ensure_object(link.db, "salesforce", obj, write=True)
    report = sync(link.db, link.home, link.connector, obj)
    ddl.ensure_object(link.db, "salesforce", described, write=True)
    assert report.mode == "full" and not report.partial
    assert report.rows_read >= len(link.sandbox.alive("Account"))


def test_F42_many_columns_and_odd_types_fit(
    make_link: MakeLink, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Objects with many columns or odd types fitted neither Bulk nor REST. Whole reads and windows go through Bulk,
    where the statement is no part of a URL; reads by id go in parts; what no column can hold is left out by name."""
    names = [f"A_Name_That_Is_As_Long_As_They_Can_Be_{n:03d}__c" for n in range(340)]
    seeded = [[f"00Q{n:012d}", "L", "X", *["text"] * len(names)] for n in range(3)]
    file = tmp_path / "seed" / "salesforce" / "Lead.csv"
    file.parent.mkdir(parents=True)
    file.write_text("\n".join(map(",".join, [["Id", "LastName", "Company", *names], *seeded])), encoding="utf-8")
    link = make_link(objects=("Lead",), seed_dir=tmp_path / "seed", call_timeout=20)
    link.follow("lead")
    assert link.sandbox.calls()["by_api"]["bulk_query"] > 0, "few records, and yet no URL"
    some, other, *_ = sorted(link.sandbox.alive("Lead"))
    link.sandbox.update("Lead", some, **{name: name[-6:-3] for name in names})
    link.sandbox.update("Lead", other, **{names[0]: "a\x00b", "Company": "Set aside"})

    def told() -> None:
        with link.db.transaction() as conn:
            inbox.reread(conn, "salesforce", "lead", [some, other], "told by an event")
        link.read_events()

    with monkeypatch.context() as patch:
        patch.setattr(wide, "_LONGEST", 100_000)
        told()
        assert link.rows("SELECT state, reason ~ '414' FROM crm_assets.inbox") == [("failed", True)] * 2
    told()
    columns = [link.object("lead").by_name[name].column for name in names]
    assert link.rows(f"SELECT {', '.join(columns)} FROM salesforce.lead WHERE id = %s", some) == [
        tuple(name[-6:-3] for name in names)
    ]
    assert link.rows("SELECT id, field FROM crm_assets.drift WHERE state = 'open'") == [(other, names[0])]
    link.sandbox.update("Lead", other, **{names[0]: "fine"})
    told()
    equal(link, "Lead")

    odd = ("address", "location", "base64", "anyType", "complexvalue", "time", "encryptedstring", "combobox", "long")
    with link.sandbox.api() as api:
        body = api.get("/sobjects/Lead/describe").json()
    plain = next(f for f in body["fields"] if f["name"] == "Title")
    more = [{**plain, "name": f"Odd_{kind}__c", "type": kind} for kind in odd]
    obj = to_object({**body, "fields": [*body["fields"], *more]}, {})
    kinds = {fld.vendor_type: fld.type.value for fld in obj.fields if fld.name.startswith("Odd_")}
    assert kinds == {"time": "time", "encryptedstring": "text", "combobox": "text", "long": "integer"}
    assert {kind for name, kind in obj.left_out if name.startswith("Odd_")} == set(odd) - kinds.keys()


def test_F57_a_load_whose_later_page_fails_leaves_no_orphans(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Are bulk syncs idempotent if a later page fails? The rows of the failed load leave the stage with it, and the
    same pages come again once. So do those of a process that died when its pages were there and not yet counted."""
    assert not link.sync("account").partial, "a first load would keep its pages"
    monkeypatch.setattr(reading, "BULK_ROWS", 5)
    monkeypatch.setitem(link.connector.config.options, "bulk_threshold", 0)  # type: ignore[arg-type]
    name = uuid.uuid4().hex
    made = [link.sandbox.create("Account", Name=f"{name} {n}") for n in range(12)]
    # What was read before the fault counts: a page of accounts that are older than these.
    link.sandbox.faults({"kind": "503", "path": "/results", "nth": 2, "times": 20})
    assert link.sync("account", "full").partial
    assert link.value("SELECT count(*) FROM salesforce_stage.account") == 0
    assert link.value("SELECT count(*) FROM salesforce.account WHERE name LIKE %s", f"{name}%") == 0
    link.sandbox.clear_faults()

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as dead, pytest.raises(Killed):
        dead.setattr(loads, "land", die)
        dead.setattr(loads, "abandon", lambda *_: None)
        link.sync("account", "full")
    assert link.value("SELECT count(*) FROM salesforce_stage.account") >= len(made)
    # As if the time of the dead one's lease had passed.
    link.rows("UPDATE crm_assets.cursor SET lease_until = clock_timestamp()")
    for _ in range(2):
        assert not link.sync("account", "full").partial
    assert link.value("SELECT count(*) FROM salesforce_stage.account") == 0
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
