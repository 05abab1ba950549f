"""What a person decides from the UI."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from crm_assets_tests.orchestration.conftest import MakeRoom, Room


@pytest.fixture
def guarded(make_room: MakeRoom) -> Room:
    """Contacts of which no three may be deleted at once."""
    made = make_room(objects=("Contact",), settings={"Contact": {"guard": {"delete_share": 0.01, "delete_rows": 2}}})
    made.sync()
    return made


def _decide(room: Room, **config: Any) -> dg.ExecuteInProcessResult:
    return room.run("salesforce_approve", {"ops": {"salesforce_decide": {"config": config}}})


def test_held_deletions_are_shown_by_a_check_and_approved_by_a_job(guarded: Room) -> None:
    link = guarded.link
    doomed = sorted(link.sandbox.alive("Contact"))[:3]
    link.rows("DELETE FROM salesforce.contact WHERE id = ANY (%s)", doomed)
    link.write_back()
    assert set(doomed) <= set(link.sandbox.alive("Contact"))

    (check,) = [c for c in guarded.run("salesforce_checks").get_asset_check_evaluations() if c.check_name == "guard"]
    guard_id = link.value("SELECT guard_id FROM crm_assets.guard")
    assert not check.passed and f"salesforce_approve with guard_id {guard_id}" in (check.description or "")

    assert "no guard 4711" in str(guarded.failures(_decide(guarded, guard_id=4711)))
    assert _decide(guarded, guard_id=guard_id).success
    assert guarded.observations("salesforce/contact")[0]["deletions_let_through"] == 3
    assert "already approved" in str(guarded.failures(_decide(guarded, guard_id=guard_id)))
    link.settle()
    assert not set(doomed) & set(link.sandbox.alive("Contact"))


def test_held_deletions_are_declined_by_the_same_job(guarded: Room) -> None:
    link = guarded.link
    before = link.value("SELECT count(*) FROM salesforce.contact")
    link.rows("DELETE FROM salesforce.contact")
    link.write_back()
    assert _decide(guarded, guard_id=link.value("SELECT guard_id FROM crm_assets.guard"), decline=True).success
    link.settle()
    link.sync("contact")
    assert link.value("SELECT count(*) FROM salesforce.contact") == before == len(link.sandbox.alive("Contact"))


def test_rejected_writes_are_replayed_one_by_one_or_all_of_an_object(make_room: MakeRoom) -> None:
    room = make_room(objects=("Contact",), rows=40)
    room.sync()
    link = room.link
    first, second, third = sorted(link.sandbox.alive("Contact"))[:3]
    # A picklist value that the CRM does not know yet.
    link.rows("UPDATE salesforce.contact SET salutation = 'Grand Vizier' WHERE id = ANY (%s)", [first, second, third])
    link.settle()
    assert link.states() == {"rejected": 3}
    link.rows("UPDATE salesforce.contact SET salutation = 'Mr.' WHERE id = %s", first)
    link.settle()
    seqs = dict(link.rows("SELECT id, seq FROM crm_assets.outbox WHERE state = 'rejected'"))

    def replay(**config: Any) -> dg.ExecuteInProcessResult:
        return room.run("salesforce_replay", {"ops": {"salesforce_retry": {"config": config}}})

    assert "write one of both" in str(room.failures(replay()))
    assert "no write 4711" in str(room.failures(replay(seqs=[4711])))
    assert replay(seqs=[seqs[second]]).success
    assert link.states() == {"rejected": 2, "pending": 1, "confirmed": 1}
    failed = str(room.failures(replay(object="contact")))
    assert "1 writes are offered again" in failed and "concerns the same fields" in failed
    assert link.states() == {"rejected": 1, "pending": 2, "confirmed": 1}
    assert room.observations("salesforce_writeback/contact")[0]["writes_offered_again"] == 1
