"""What a run did is told under its id, in both directions."""

from __future__ import annotations

from crm_assets_tests.orchestration.conftest import Room


def test_a_run_is_named_by_its_id(room: Room) -> None:
    room.sync("contact")
    link = room.link
    ours, theirs = (row[0] for row in link.rows("SELECT id FROM salesforce.contact ORDER BY id LIMIT 2"))
    link.sandbox.update("Contact", theirs, Title="Theirs")
    link.rows("UPDATE salesforce.contact SET title = 'Ours' WHERE id = %s", ours)
    room.pass_a_second()
    runs = [room.sync("contact"), room.run("salesforce_writeback")]
    told = link.rows(
        "SELECT process, new ->> 'title' FROM crm_assets.audit WHERE new ? 'title' AND id IN (%s, %s) ORDER BY origin",
        ours,
        theirs,
    )
    assert told == [(f"run {runs[0].run_id}", "Theirs"), (f"run {runs[1].run_id}", "Ours")]
