"""Jobs that people and the dispatcher start: backfill and events."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from crm_assets.core.model import Change
from crm_assets.store import inbox
from crm_assets_tests.orchestration.conftest import Room


def backfill(**config: Any) -> dict[str, Any]:
    return {"ops": {"salesforce_plan": {"config": config}}}


def test_a_backfill_reads_its_range_in_slices_and_leaves_the_cursor(room: Room) -> None:
    room.sync()
    cursor = room.link.value("SELECT cursor FROM crm_assets.cursor WHERE object = 'contact'")
    lost = min(room.link.sandbox.alive("Contact"))
    records = room.link.sandbox.records("Contact")
    # As a restored backup would: a row is as it once was, and nobody noticed.
    with room.link.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute("UPDATE salesforce.contact SET last_name = 'old', _version = NULL WHERE id = %s", (lost,))
    times = sorted(one["modified_at"] for one in records.values() if not one["deleted"])
    config = backfill(**{"object": "Contact", "from": times[0], "to": "2100-01-01", "slice_days": 9_999.0})
    result = room.run("salesforce_backfill", config)
    assert result.success
    told = room.materialization("salesforce/contact")
    assert (told["mode"], told["slices"]) == ("backfill", 3)
    assert told["rows_read"] >= len(times)
    assert told["rows_applied"] == 1
    name = records[lost]["fields"]["LastName"]
    assert room.link.value("SELECT last_name FROM salesforce.contact WHERE id = %s", lost) == name
    assert room.link.value("SELECT cursor FROM crm_assets.cursor WHERE object = 'contact'") == cursor


def test_a_range_before_all_records_reads_nothing(room: Room) -> None:
    config = backfill(**{"object": "contact", "from": "1990-01-01", "to": "1990-01-03", "slice_days": 1})
    assert room.run("salesforce_backfill", config).success
    told = room.materialization("salesforce/contact")
    assert (told["slices"], told["rows_applied"]) == (2, 0)
    assert room.link.value("SELECT count(*) FROM salesforce.contact") == 0


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"object": "Contcat", "from": "2026-01-01"}, "does not sync 'Contcat'; choose one of account, contact"),
        ({"object": "contact", "from": "yesterday"}, "from: 'yesterday' is no date; write it like 2026-01-31"),
        ({"object": "contact", "from": "2026-01-02", "to": "2026-01-01"}, "is not after its start"),
        ({"object": "contact", "from": "2026-01-02", "slice_days": 0}, "slice_days: write a number above 0"),
    ],
)
def test_a_backfill_says_what_is_wrong_with_its_configuration(room: Room, config: dict[str, Any], said: str) -> None:
    (failure,) = room.failures(room.run("salesforce_backfill", backfill(**config))).values()
    assert said in failure


def test_events_reads_what_the_inbox_names(room: Room) -> None:
    room.sync()
    made = room.link.sandbox.create("Contact", LastName="Hinted")
    with room.link.db.transaction() as conn:
        inbox.add(conn, "salesforce", [Change("e1", "Contact", made, "CREATE")])
    result = room.run("salesforce_events")
    assert result.success
    told = room.materialization("salesforce/contact")
    assert (told["by"], told["inserted"]) == ("events", 1)
    assert room.link.value("SELECT last_name FROM salesforce.contact WHERE id = %s", made) == "Hinted"
    [event] = result.asset_materializations_for_node("salesforce_read_hinted")
    assert event.asset_key == dg.AssetKey(["salesforce", "contact"])


def test_events_that_cannot_be_read_stay_in_the_inbox(room: Room) -> None:
    room.sync()
    made = room.link.sandbox.create("Contact", LastName="Hinted")
    with room.link.db.transaction() as conn:
        inbox.add(conn, "salesforce", [Change("e1", "Contact", made, "CREATE")])
    room.link.sandbox.limits(daily_calls=1)
    (said,) = room.failures(room.run("salesforce_events")).values()
    assert "what is left stays in the inbox" in said
    assert room.link.value("SELECT state FROM crm_assets.inbox") == "pending"
