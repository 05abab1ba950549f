"""H. The write path."""

from __future__ import annotations

import sqlite3
import uuid
from base64 import b64decode, b64encode
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from crm_assets import runtime
from crm_assets.core.errors import ConfigurationError
from crm_assets.core.model import Change, Mutation, Object, Outcome
from crm_assets.orchestration.metadata import table_metadata
from crm_assets.store import inbox
from crm_assets.store.embedded import EmbeddedPostgres
from crm_assets.store.status import status
from crm_assets_tests.faults.kit import caught_up, equal, mirror, writes
from crm_assets_tests.plugins.linked import Link, MakeLink


def _row(link: Link, record_id: str) -> uuid.UUID:
    found = mirror(link, record_id, "row_id")
    assert isinstance(found, uuid.UUID)
    return found


def _during_a_write(link: Link, patch: pytest.MonkeyPatch, *then: Callable[[], object]) -> None:
    """Do something while a call is under way: the first call the first thing, and so on."""
    plain, waiting = type(link.connector).write, list(then)

    def write(self: Any, obj: Object, mutations: Sequence[Mutation]) -> Sequence[Outcome]:
        outcomes = plain(self, obj, mutations)
        if waiting:
            waiting.pop(0)()
        return outcomes

    patch.setattr(type(link.connector), "write", write)


def _sent(link: Link) -> int:
    """Calls that wrote to the CRM."""
    by_api = link.sandbox.calls()["by_api"]
    return sum(count for api, count in by_api.items() if api in ("collections", "sobject_write", "bulk_ingest"))


def test_F47_values_do_not_flip_flop(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rapid updates of one record flipped back and forth, which its makers call expected. While a write is on its
    way and is read back, the product goes on writing; the mirror never shows anything but its newest value."""
    record_id = link.sandbox.create("Contact", LastName="Rapid", Title="0")
    caught_up(link)
    newest = 0

    def write_and_look() -> None:
        nonlocal newest
        newest += 1
        link.rows("UPDATE salesforce.contact SET title = %s WHERE id = %s", str(newest), record_id)
        link.read_events()
        assert mirror(link, record_id, "title") == str(newest)

    _during_a_write(link, monkeypatch, *[write_and_look] * 3)
    write_and_look()
    for _ in range(4):
        link.write_back()
        assert mirror(link, record_id, "title") == str(newest)
        link.read_events()
        link.sync("contact")
        assert mirror(link, record_id, "title") == str(newest)
    monkeypatch.undo()
    link.settle()
    assert newest == 4 and link.sandbox.alive("Contact")[record_id]["Title"] == str(newest)
    equal(link)


def test_F47_deleted_rows_stay_deleted(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deleted rows came back to life, and rows deleted while their insert was under way stayed in the CRM."""
    record_id = link.sandbox.create("Contact", LastName="Doomed")
    caught_up(link)
    row_id, other = _row(link, record_id), uuid.uuid4()
    link.rows("UPDATE salesforce.contact SET title = 'last words' WHERE id = %s", record_id)
    link.rows("INSERT INTO salesforce.contact (row_id, last_name) VALUES (%s, 'Unborn')", other)
    _during_a_write(
        link, monkeypatch, lambda: link.rows("DELETE FROM salesforce.contact WHERE row_id IN (%s, %s)", row_id, other)
    )
    link.write_back()
    monkeypatch.undo()
    for _ in range(2):
        link.sync("contact")
        link.settle()
        assert link.value("SELECT count(*) FROM salesforce.contact WHERE row_id IN (%s, %s)", row_id, other) == 0
    alive = link.sandbox.alive("Contact")
    assert record_id not in alive
    assert str(other) not in {one["Crm_Assets_Row_Id__c"] for one in alive.values()}
    equal(link)


def test_F48_only_the_rows_asked_for_are_read(make_link: MakeLink) -> None:
    """Which rows sync could not be chosen, so cost grew without control. ``where`` is part of every question asked."""
    link = make_link(objects=("Contact",), rows=20, settings={"Contact": {"where": "LastName LIKE 'Keep%'"}})
    kept = link.sandbox.create("Contact", LastName="Keep me")
    link.sync("contact")
    left = link.sandbox.create("Contact", LastName="Leave me")
    also = link.sandbox.create("Contact", LastName="Keep me too")
    caught_up(link)
    with link.db.transaction() as conn:
        inbox.add(conn, "salesforce", [Change(uuid.uuid4().hex, "Contact", one, "update") for one in (left, also)])
    link.read_events()
    assert {row[0] for row in link.rows("SELECT id FROM salesforce.contact")} == {kept, also}
    assert link.connector.count(link.object("contact")) == 2


def test_F49_every_object_is_as_quick_as_any_other(link: Link) -> None:
    """Accelerated polling was for some objects only. Whatever object an event names is read at once."""
    for name, fields in (("Account", {"Name": "Q"}), ("Contact", {"LastName": "Q"}), ("Lead", {"LastName": "Q"})):
        record_id = link.sandbox.create(name, **fields, **({"Company": "Q"} if name == "Lead" else {}))
        with link.db.transaction() as conn:
            inbox.add(conn, "salesforce", [Change(uuid.uuid4().hex, name, record_id, "create")])
        link.read_events()
        assert mirror(link, record_id, "id", name.lower()) == record_id


def test_F50_attachments_sync_with_all_but_their_bytes(make_link: MakeLink) -> None:
    """Attachments and content could not sync at all. They do, in both directions, by REST and by Bulk. A file is no
    value of a row: it is left out, which the asset says by name, and the run too if defs.yaml chooses it."""
    link = make_link(objects=("Contact",), rows=5, settings={"Contact": {"write": False}}, call_timeout=20)
    spec = link.spec.objects["Contact"].model_copy(update={"write": True, "external_id": "Crm_Assets_Row_Id__c"})
    link.spec = link.spec.model_copy(update={"objects": {"Attachment": spec}})
    parent = min(link.sandbox.alive("Contact"))
    made = [
        link.sandbox.create("Attachment", Name=f"{n}.txt", ParentId=parent, Body=b64encode(b"x" * n).decode())
        for n in range(1, 4)
    ]
    link.connection = runtime.refresh(replace(link.connection, spec=link.spec))
    for threshold in (0, 10**9):
        link.connector.config.options["bulk_threshold"] = threshold  # type: ignore[index]
        report = link.follow("attachment", "full")
        assert (report.partial, report.rows_read, report.set_aside) == (False, 3, 0)
    rows = "SELECT id, name, parent_id, body_length FROM salesforce.attachment ORDER BY body_length"
    assert link.rows(rows) == [(one, f"{n}.txt", parent, n) for n, one in enumerate(made, 1)]
    obj = link.object("attachment")
    assert "body" not in obj.by_column
    assert table_metadata(link.spec, obj)["fields_left_out"] == "Body (base64)"
    link.rows("UPDATE salesforce.attachment SET description = 'ours' WHERE id = %s", made[0])
    link.rows("INSERT INTO salesforce.attachment (name, parent_id) VALUES ('no bytes', %s)", parent)
    link.settle()
    there = link.sandbox.alive("Attachment")
    assert there[made[0]]["Description"] == "ours" and b64decode(there[made[0]]["Body"]) == b"x"
    (refused,) = link.rows("SELECT reason FROM crm_assets.outbox WHERE state = 'rejected'")
    assert "Required fields are missing: [Body]" in refused[0], "a row cannot bring a file"
    link.choose("Attachment", fields=["Name", "Body"])
    with pytest.raises(ConfigurationError, match=r"no column can hold: Body \(base64\)"):
        link.follow("attachment")


def test_F51_every_failed_write_can_be_corrected_and_sent_again_by_sql(link: Link) -> None:
    """Users wrote an error-fix layer of their own over the trigger log, and retry differed by algorithm. A rejected
    update and a rejected create say why, and one function sends either again."""
    record_id = link.sandbox.create("Lead", LastName="Update", Company="X")
    caught_up(link, "lead")
    made, changed = uuid.uuid4(), _lead(link, record_id)
    link.rows("UPDATE salesforce.lead SET salutation = 'Sir' WHERE id = %s", record_id)
    link.rows("INSERT INTO salesforce.lead (row_id, last_name, company, salutation) VALUES (%s, 'C', 'X', 'Sir')", made)
    link.settle()
    for row_id in (made, changed):
        ((state, reason),) = writes(link, row_id, "state", "reason")
        assert state == "rejected" and "salutation must be one of" in reason
    link.sandbox.schema("Lead", "picklist", "Salutation", to="Sir")
    link.connection = runtime.refresh(link.connection)
    for row_id in (made, changed):
        link.rows("SELECT crm_assets.retry(seq) FROM crm_assets.outbox WHERE row_id = %s", row_id)
    link.settle()
    assert [writes(link, one, "state") for one in (made, changed)] == [[("confirmed",)]] * 2
    alive = link.sandbox.alive("Lead")
    assert alive[record_id]["Salutation"] == "Sir"
    assert [one["Salutation"] for one in alive.values() if one["Crm_Assets_Row_Id__c"] == str(made)] == ["Sir"]


def _lead(link: Link, record_id: str) -> uuid.UUID:
    found = mirror(link, record_id, "row_id", "lead")
    assert isinstance(found, uuid.UUID)
    return found


def test_F52_ten_of_ten_failed_is_no_success(link: Link) -> None:
    """The first run showed success with 10 of 10 rows failed, later runs skipped them, and no reason was shown."""
    made = [uuid.uuid4() for _ in range(10)]
    for row_id in made:
        link.rows("INSERT INTO salesforce.contact (row_id, first_name) VALUES (%s, 'Nameless')", row_id)
    report = link.write_back()
    assert (report.objects["contact"].rejected, report.objects["contact"].confirmed) == (10, 0)
    link.settle()
    for row_id in made:
        ((state, reason),) = writes(link, row_id, "state", "reason")
        assert state == "rejected" and "last_name is required" in reason
    told = status(link.db)
    assert told["ok"] is False and told["connections"]["salesforce"]["outbox"]["rejected"] >= 10
    link.rows("UPDATE salesforce.contact SET last_name = 'Named' WHERE row_id = ANY (%s)", made)
    link.settle()
    assert link.value("SELECT count(*) FROM salesforce.contact WHERE row_id = ANY (%s) AND id IS NOT NULL", made) == 10


def test_F53_no_write_is_echoed(link: Link) -> None:
    """Two systems answered each other's updates for ever. What came from one side is never sent back to it."""
    record_id = link.sandbox.create("Contact", LastName="Echo")
    caught_up(link)
    link.rows("UPDATE salesforce.contact SET title = 'ours' WHERE id = %s", record_id)
    link.sandbox.update("Contact", record_id, Phone="theirs")
    link.settle()
    stamp, rows = link.sandbox.records("Contact")[record_id], link.value("SELECT count(*) FROM crm_assets.outbox")
    link.sandbox.reset_calls()
    for _ in range(3):
        with link.db.transaction() as conn:
            inbox.add(conn, "salesforce", [Change(uuid.uuid4().hex, "Contact", record_id, "update")])
        link.settle()
        link.sync("contact")
    assert _sent(link) == 0
    assert link.value("SELECT count(*) FROM crm_assets.outbox") == rows
    assert link.sandbox.records("Contact")[record_id] == stamp


def test_F54_one_record_for_two_rows_ends_as_one_row_or_is_reported(link: Link) -> None:
    """One CRM record mapped to two rows never stopped updating. The product's row stands for both; where a foreign key
    holds the other one, the second row gets no id and the duplicate is listed. In either case nothing more is sent."""
    taken, held = (link.sandbox.create("Contact", LastName=name) for name in ("Taken", "Held"))
    caught_up(link)
    first = {i: link.value("SELECT row_id FROM salesforce.contact WHERE id = %s", i) for i in (taken, held)}
    link.rows("CREATE TABLE public.deal (contact uuid REFERENCES salesforce.contact)")
    link.rows("INSERT INTO public.deal VALUES (%s)", first[held])
    second = {taken: uuid.uuid4(), held: uuid.uuid4()}
    for record_id, row_id in second.items():
        link.rows("INSERT INTO salesforce.contact (row_id, last_name) VALUES (%s, 'Two')", row_id)
        link.sandbox.update("Contact", record_id, Crm_Assets_Row_Id__c=str(row_id))
    link.settle()
    kinds = "SELECT kind FROM crm_assets.drift WHERE id = %s AND state = 'open'"
    assert link.value(kinds, taken) is None and link.value(kinds, held) == "duplicate"
    assert link.value("SELECT survivor FROM crm_assets.alias WHERE row_id = %s", first[taken]) == second[taken]
    link.sandbox.reset_calls()
    for _ in range(2):
        link.sync("contact")
        link.settle()
    assert _sent(link) == 0
    rows = dict(link.rows("SELECT id, row_id FROM salesforce.contact WHERE id = ANY (%s)", [taken, held]))
    assert rows == {taken: second[taken], held: first[held]}
    link.rows("DROP TABLE public.deal")
    for record_id in second:
        link.sandbox.delete("Contact", record_id)
    caught_up(link)
    link.settle()


def test_F55_an_external_id_that_matches_two_records_fails_alone(link: Link) -> None:
    """An upsert failed with "external ID matches more than one record" and took its batch with it."""
    twins = [link.sandbox.create("Lead", LastName=f"Twin {n}", Company="X") for n in range(2)]
    row_id, other = uuid.uuid4(), uuid.uuid4()
    with sqlite3.connect(link.sandbox.data_dir / "salesforce.sqlite", timeout=60) as db:
        for (index,) in db.execute(
            "SELECT name FROM sqlite_master WHERE type = 'index' AND tbl_name = 'Lead' AND sql LIKE '%Row_Id%'"
        ).fetchall():
            db.execute(f'DROP INDEX "{index}"')
        db.execute('UPDATE "Lead" SET "Crm_Assets_Row_Id__c" = ? WHERE "Id" IN (?, ?)', (str(row_id), *twins))
    db.close()
    for one, name in ((row_id, "Ambiguous"), (other, "Plain")):
        link.rows("INSERT INTO salesforce.lead (row_id, last_name, company) VALUES (%s, %s, 'X')", one, name)
    link.write_back()
    ((state, reason),) = writes(link, row_id, "state", "reason")
    assert state == "rejected" and "DUPLICATE_EXTERNAL_ID" in reason
    assert writes(link, other, "state") == [("confirmed",)]
    with sqlite3.connect(link.sandbox.data_dir / "salesforce.sqlite", timeout=60) as db:
        db.execute('UPDATE "Lead" SET "Crm_Assets_Row_Id__c" = NULL WHERE "Id" IN (?, ?)', twins)
    db.close()
    link.settle()


def test_F56_the_product_reads_the_log_of_its_writes_by_sql(link: Link, postgres: EmbeddedPostgres) -> None:
    """Reverse-ETL logs were wanted in the warehouse, not only in the vendor's app. They are tables beside the data,
    readable for whoever may read the mirror."""
    record_id = link.sandbox.create("Contact", LastName="Logged")
    caught_up(link)
    link.rows("UPDATE salesforce.contact SET title = 'logged' WHERE id = %s", record_id)
    link.settle()
    with psycopg.connect(postgres.url("reader", link.db.url.rpartition("/")[2])) as reader:
        row = reader.execute(
            """SELECT o.op, o.base, o.new, o.state, o.actor IS NOT NULL, o.created_at < o.settled_at
                 FROM crm_assets.outbox o JOIN salesforce.contact c USING (row_id) WHERE c.id = %s""",
            (record_id,),
        ).fetchone()
        assert row == ("update", {"title": None}, {"title": "logged"}, "confirmed", True, True)
        for table in ("inbox", "conflict", "tombstone", "drift", "activity", "cursor", "quota"):
            reader.execute(f"SELECT * FROM crm_assets.{table} LIMIT 1")  # type: ignore[arg-type]
