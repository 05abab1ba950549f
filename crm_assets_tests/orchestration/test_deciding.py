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
