"""Write-back against the sandbox: what the product did is in the CRM, once, or it says why not."""

from __future__ import annotations

import itertools
import threading
import uuid
from collections.abc import Sequence
from typing import Any

import pytest

from crm_assets.core.errors import QuotaExhausted, RejectedError
from crm_assets.core.model import Mutation, Object, Outcome
from crm_assets.store import audit, outbox
from crm_assets.store.apply import apply
from crm_assets.writeback import lanes, waves
from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.sandbox import wait_until


def _first(link: Link, table: str = "contact") -> str:
    return str(link.value(f"SELECT min(id) FROM salesforce.{table}"))


def _outbox(link: Link, *columns: str) -> list[tuple[Any, ...]]:
    return link.rows(f"SELECT {', '.join(columns)} FROM crm_assets.outbox ORDER BY seq")


def test_update_insert_and_delete_arrive_and_are_not_echoed(link: Link) -> None:
    changed, doomed = (row[0] for row in link.rows("SELECT id FROM salesforce.contact ORDER BY id LIMIT 2"))
    link.rows("UPDATE salesforce.contact SET phone = '0815', birthdate = '1980-02-29' WHERE id = %s", changed)
    link.rows("INSERT INTO salesforce.contact (last_name, email) VALUES ('Neu', 'neu@example.com')")
    link.rows("DELETE FROM salesforce.contact WHERE id = %s", doomed)
    link.settle()
    alive = link.sandbox.alive("Contact")
    assert (alive[changed]["Phone"], alive[changed]["Birthdate"]) == ("0815", "1980-02-29")
    assert doomed not in alive
    row_id, new_id = link.rows("SELECT row_id, id FROM salesforce.contact WHERE last_name = 'Neu'")[0]
    assert alive[new_id]["Crm_Assets_Row_Id__c"] == str(row_id)
    link.sandbox.reset_calls()
    for _ in range(3):
        link.sync("contact")
        link.settle()
    assert link.states() == {"confirmed": 3}
    assert "PATCH" not in str(link.sandbox.calls()["by_api"]) and "POST" not in str(link.sandbox.calls()["by_api"])


def test_the_values_the_crm_gave_come_back(link: Link) -> None:
    """The CRM trims, computes and stamps; after the write the mirror shows its record."""
    link.rows("UPDATE salesforce.contact SET first_name = '  Ada ', last_name = 'Lovelace' WHERE id = %s", _first(link))
    link.settle()
    row = link.rows(
        "SELECT first_name, name, system_modstamp = _version FROM salesforce.contact WHERE id = %s", _first(link)
    )
    assert row == [("Ada", "Ada Lovelace", True)]


def test_a_rejected_update_returns_to_the_crms_value_and_says_why(link: Link) -> None:
    record_id = _first(link)
    before = link.value("SELECT salutation FROM salesforce.contact WHERE id = %s", record_id)
    link.rows("UPDATE salesforce.contact SET salutation = 'Grand Vizier' WHERE id = %s", record_id)
    link.settle()
    assert link.value("SELECT salutation FROM salesforce.contact WHERE id = %s", record_id) == before
    ((state, reason),) = _outbox(link, "state", "reason")
    assert state == "rejected" and "salutation must be one of its picklist: Mr., " in reason


def test_a_poison_record_holds_nobody_else(link: Link) -> None:
    link.rows("INSERT INTO salesforce.contact (first_name) VALUES ('Nameless')")
    link.rows("INSERT INTO salesforce.contact (last_name) SELECT 'L' || n FROM generate_series(1, 20) n")
    link.settle()
    assert link.states() == {"confirmed": 20, "rejected": 1}
    assert link.value("SELECT count(*) FROM salesforce.contact WHERE id IS NULL") == 1


def test_a_record_that_spoils_a_whole_call_is_found_by_halving(
    make_link: MakeLink, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A call that a CRM cannot read for the sake of one record, with nothing done of it."""
    link = make_link(objects=("Contact",), rows=40)
    plain, calls = type(link.connector).write, 0

    def write(self: Any, obj: Object, mutations: Sequence[Mutation]) -> Sequence[Outcome]:
        nonlocal calls
        calls += 1
        if any(one.values.get("title") == "Poison" for one in mutations):
            raise RejectedError("JSON_PARSER_ERROR")
        return plain(self, obj, mutations)

    monkeypatch.setattr(type(link.connector), "write", write)
    link.rows(
        """INSERT INTO salesforce.contact (last_name, title)
           SELECT 'L' || n, CASE n WHEN 77 THEN 'Poison' END FROM generate_series(1, 200) n"""
    )
    link.write_back()
    assert link.states() == {"confirmed": 199, "rejected": 1}
    assert link.rows("SELECT new ->> 'title', reason FROM crm_assets.outbox WHERE state = 'rejected'") == [
        ("Poison", "JSON_PARSER_ERROR")
    ]
    assert 2 * 7 < calls <= 2 * 8 + 1


def test_a_rejected_create_that_is_corrected_is_created(link: Link) -> None:
    link.rows("INSERT INTO salesforce.contact (first_name) VALUES ('Nameless')")
    link.settle()
    link.rows("UPDATE salesforce.contact SET last_name = 'Named' WHERE id IS NULL")
    link.settle()
    new_id = link.value("SELECT id FROM salesforce.contact WHERE last_name = 'Named'")
    fields = link.sandbox.alive("Contact")[new_id]
    assert (fields["FirstName"], fields["LastName"]) == ("Nameless", "Named")


def test_a_child_waits_for_its_parent_and_gets_its_id(link: Link) -> None:
    parent = uuid.uuid4()
    link.rows("INSERT INTO salesforce.contact (last_name, account_id) VALUES ('Child', %s)", str(parent))
    link.write_back()
    assert "account_id" in link.value("SELECT waiting_for FROM crm_assets.outbox")
    link.rows("INSERT INTO salesforce.account (row_id, name) VALUES (%s, 'Parent')", parent)
    link.settle()
    account_id = link.value("SELECT id FROM salesforce.account WHERE row_id = %s", parent)
    assert link.value("SELECT account_id FROM salesforce.contact WHERE last_name = 'Child'") == account_id
    (child,) = [r for r in link.sandbox.alive("Contact").values() if r["LastName"] == "Child"]
    assert child["AccountId"] == account_id


def test_both_sides_changed_the_same_field_and_both_values_are_kept(link: Link) -> None:
    record_id = _first(link)
    link.rows("UPDATE salesforce.contact SET phone = 'ours', title = 'Mine' WHERE id = %s", record_id)
    link.sandbox.update("Contact", record_id, Phone="theirs")
    link.settle()
    assert link.sandbox.alive("Contact")[record_id]["Phone"] == "theirs"
    assert link.sandbox.alive("Contact")[record_id]["Title"] == "Mine"
    assert link.rows("SELECT field, ours, theirs, state FROM crm_assets.conflict") == [
        ("phone", "ours", "theirs", "open")
    ]
    assert link.states() == {"confirmed": 1, "conflict": 1}
    assert link.value("SELECT phone FROM salesforce.contact WHERE id = %s", record_id) == "ours"


@pytest.mark.parametrize(("winner", "expected"), [("crm", "theirs"), ("product", "ours")])
def test_a_resolved_conflict_ends_alike_on_both_sides(link: Link, winner: str, expected: str) -> None:
    record_id = _first(link)
    link.rows("UPDATE salesforce.contact SET phone = 'ours' WHERE id = %s", record_id)
    link.sandbox.update("Contact", record_id, Phone="theirs")
    link.settle()
    link.rows("SELECT crm_assets.resolve(conflict_id, %s) FROM crm_assets.conflict", winner)
    link.settle()
    assert link.sandbox.alive("Contact")[record_id]["Phone"] == expected
    assert link.value("SELECT phone FROM salesforce.contact WHERE id = %s", record_id) == expected
    assert link.value("SELECT count(*) FROM crm_assets.conflict WHERE state = 'open'") == 0


def test_the_same_change_on_both_sides_is_no_conflict_and_no_call(link: Link) -> None:
    record_id = _first(link)
    link.sandbox.update("Contact", record_id, Phone="same")
    link.rows("UPDATE salesforce.contact SET phone = 'same' WHERE id = %s", record_id)
    link.settle()
    ((state, reason),) = _outbox(link, "state", "reason")
    assert state == "confirmed" and "already" in reason


def test_a_record_edited_in_the_crm_is_not_deleted_unseen(link: Link) -> None:
    record_id = _first(link)
    link.rows("DELETE FROM salesforce.contact WHERE id = %s", record_id)
    link.sandbox.update("Contact", record_id, Phone="edited")
    link.settle()
    assert record_id in link.sandbox.alive("Contact")
    assert link.states() == {"conflict": 1}
    link.rows("SELECT crm_assets.resolve(conflict_id, 'crm') FROM crm_assets.conflict")
    link.settle()
    assert link.value("SELECT phone FROM salesforce.contact WHERE id = %s", record_id) == "edited"


def test_a_record_deleted_in_the_crm_rejects_the_products_update(link: Link) -> None:
    record_id = _first(link)
    link.rows("UPDATE salesforce.contact SET phone = '1' WHERE id = %s", record_id)
    link.sandbox.delete("Contact", record_id)
    link.settle()
    ((state, reason),) = _outbox(link, "state", "reason")
    assert state == "rejected" and "deleted" in reason
    assert link.value("SELECT count(*) FROM salesforce.contact WHERE id = %s", record_id) == 0


@pytest.mark.parametrize("kind", ["timeout_before", "timeout_after", "truncate", "500"])
def test_a_lost_reply_neither_loses_nor_doubles(link: Link, kind: str) -> None:
    before = len(link.sandbox.alive("Contact"))
    record_id = _first(link)
    link.rows("INSERT INTO salesforce.contact (last_name) VALUES ('Once')")
    link.rows("UPDATE salesforce.contact SET phone = '111' WHERE id = %s", record_id)
    link.sandbox.faults({"kind": kind, "path": "/composite/sobjects", "times": 2})
    link.write_back()
    assert link.states() == {"unknown": 2}
    link.rows("UPDATE salesforce.contact SET phone = '222' WHERE id = %s", record_id)
    link.settle()
    alive = link.sandbox.alive("Contact")
    assert len(alive) == before + 1
    assert alive[record_id]["Phone"] == "222"
    assert set(link.states()) <= {"confirmed", "superseded"}


def test_locked_rows_are_tried_again(link: Link) -> None:
    link.rows("INSERT INTO salesforce.contact (last_name) SELECT 'L' || n FROM generate_series(1, 10) n")
    link.sandbox.faults({"kind": "partial_batch", "path": "/composite/sobjects"})
    link.settle()
    assert link.states() == {"confirmed": 10}


def test_the_end_of_the_quota_leaves_every_write_waiting(link: Link) -> None:
    link.rows("INSERT INTO salesforce.contact (last_name) SELECT 'L' || n FROM generate_series(1, 5) n")
    link.sandbox.limits(daily_calls=1)
    report = link.write_back()
    assert report.stopped and link.states() == {"pending": 5}


def test_many_writes_take_few_calls(make_link: MakeLink) -> None:
    link = make_link(objects=("Contact",), rows=2_000)
    link.sync("contact")
    count = link.value("SELECT count(*) FROM salesforce.contact")
    link.rows("UPDATE salesforce.contact SET title = 'Bulk'")
    link.sandbox.reset_calls()
    link.settle()
    assert link.states() == {"confirmed": count}
    assert all(r["Title"] == "Bulk" for r in link.sandbox.alive("Contact").values())
    writes = -(-count // 200)
    assert sum(link.sandbox.calls()["by_api"].values()) <= 3 * writes + 2


def test_all_lanes_of_a_drain_work_for_the_run_that_began_it(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waves, "size", lambda _: 2)
    link.rows("UPDATE salesforce.contact SET title = 'Many'")
    threads: set[str] = set()
    claim = outbox.claim

    def noted(*given: Any) -> list[Any]:
        threads.add(threading.current_thread().name)
        return claim(*given)

    monkeypatch.setattr(outbox, "claim", noted)
    with audit.acting_as("run 17"):
        link.write_back()
    assert len(threads) == waves.AT_ONCE
    assert set(_outbox(link, "state", "sent_by")) == {("confirmed", "run 17")}


def test_the_end_of_the_quota_in_one_lane_hides_no_fault_of_another(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waves, "size", lambda _: 2)
    link.rows("UPDATE salesforce.contact SET title = 'Many'")
    both = threading.Barrier(2, timeout=20)
    turns = itertools.count()

    def send(*_given: Any) -> None:
        number = next(turns)
        both.wait()
        raise QuotaExhausted("no calls left", None) if number == 0 else ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(lanes, "send", send)
    with pytest.raises(ZeroDivisionError):
        link.write_back()


def test_a_paused_connection_sends_nothing(link: Link) -> None:
    link.rows("SELECT crm_assets.pause('salesforce')")
    link.rows("UPDATE salesforce.contact SET phone = '1' WHERE id = %s", _first(link))
    report = link.write_back()
    assert "paused" in (report.stopped or "") and link.states() == {"pending": 1}
    link.rows("SELECT crm_assets.resume('salesforce')")
    link.settle()
    assert link.states() == {"confirmed": 1}


def test_successive_writes_of_a_record_arrive_in_order(link: Link) -> None:
    record_id = _first(link)
    for n in range(5):
        link.rows("UPDATE salesforce.contact SET phone = %s WHERE id = %s", str(n), record_id)
        link.write_back()
    link.settle()
    assert link.sandbox.alive("Contact")[record_id]["Phone"] == "4"
    assert link.value("SELECT phone FROM salesforce.contact WHERE id = %s", record_id) == "4"
    assert set(link.states()) <= {"confirmed", "superseded"}
    wait_until(lambda: link.value("SELECT count(*) FROM crm_assets.floor") == 0)


@pytest.mark.parametrize("applied", [True, False])
def test_a_record_deleted_right_after_its_create_is_no_conflict(link: Link, applied: bool) -> None:
    """The CRM gave the new record an owner and stamps that the product never saw; that is no edit of a person."""
    before = set(link.sandbox.alive("Contact"))
    link.rows("INSERT INTO salesforce.contact (last_name) VALUES ('Brief')")
    link.write_back()
    if applied:
        apply(link.db, "salesforce", link.object("contact"))
    link.rows("DELETE FROM salesforce.contact WHERE last_name = 'Brief'")
    link.settle()
    assert set(link.sandbox.alive("Contact")) == before
    assert link.states() == {"confirmed": 2}
    assert link.value("SELECT count(*) FROM crm_assets.floor") == 0


def test_a_record_deleted_right_after_its_update_is_no_conflict(link: Link) -> None:
    record_id = _first(link)
    link.rows("UPDATE salesforce.contact SET first_name = '  Spaced ' WHERE id = %s", record_id)
    link.write_back()
    link.rows("DELETE FROM salesforce.contact WHERE id = %s", record_id)
    link.settle()
    assert record_id not in link.sandbox.alive("Contact")
    assert link.states() == {"confirmed": 2}
