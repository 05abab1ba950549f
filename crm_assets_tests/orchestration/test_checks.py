"""Checks: green only when it is true."""

from __future__ import annotations

import dagster as dg
import pytest

from crm_assets.connections import ReconcileSpec
from crm_assets_tests.orchestration.conftest import Room

WARN, ERROR = dg.AssetCheckSeverity.WARN, dg.AssetCheckSeverity.ERROR


def evaluations(result: dg.ExecuteInProcessResult) -> dict[tuple[str, str], dg.AssetCheckEvaluation]:
    return {(one.asset_key.path[-1], one.check_name): one for one in result.get_asset_check_evaluations()}


@pytest.fixture
def read(room: Room) -> Room:
    room.sync()
    return room


def test_complete_and_schema_after_a_sync(read: Room) -> None:
    result = read.run("salesforce_reconcile")
    assert result.success
    found = evaluations(result)
    assert {key: one.passed for key, one in found.items()} == {
        (table, check): True for table in ("account", "contact") for check in ("complete", "schema")
    }
    numbers = found["contact", "complete"].metadata
    alive = len(read.link.sandbox.alive("Contact"))
    assert (numbers["remote_rows"].value, numbers["local_rows"].value) == (alive, alive)
    assert read.link.value("SELECT complete FROM crm_assets.cursor WHERE object = 'contact'") is True


def test_complete_repairs_what_was_lost_and_says_so(read: Room) -> None:
    lost = min(read.link.sandbox.alive("Contact"))
    with read.link.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute("DELETE FROM salesforce.contact WHERE id = %s", (lost,))
    found = evaluations(read.run("salesforce_reconcile"))["contact", "complete"]
    assert found.passed
    assert found.metadata["repaired"].value == 1
    assert read.link.value("SELECT count(*) FROM salesforce.contact WHERE id = %s", lost) == 1
    as_of = str(found.metadata["as_of"].value)
    assert found.description == f"complete as of {as_of} by every field; 1 records differed and were repaired"
    assert read.link.value("SELECT complete_as_of FROM crm_assets.cursor WHERE object = 'contact'").isoformat() == as_of
    (mended,) = found.metadata["mended"].value.records  # type: ignore[union-attr]
    assert mended.data == {"id": lost, "kind": "missing", "field": "", "cause": "late commit"}
    # Numbers that Dagster plots over time are those of the asset's events.
    (numbers,) = read.observations("salesforce/contact")
    assert (numbers["repaired"], numbers["drift"]) == (1, 0)
    assert numbers["reconcile_api_calls"] == found.metadata["reconcile_api_calls"].value > 2


def test_how_much_must_differ_for_an_error_is_configured(read: Room) -> None:
    link = read.link
    link.spec = link.spec.model_copy(update={"reconcile": ReconcileSpec(repair="report", fail_from=2)})
    room = Room(link, read.instance)

    def verdict(lost: int) -> dg.AssetCheckEvaluation:
        with link.db.transaction() as conn:
            conn.execute("SET LOCAL ROLE crm_assets_sync")
            conn.execute(
                "DELETE FROM salesforce.contact WHERE id = ANY (%s)", (sorted(link.sandbox.alive("Contact"))[:lost],)
            )
        found = evaluations(room.run("salesforce_reconcile"))["contact", "complete"]
        table = found.metadata["findings"].value.records  # type: ignore[union-attr]
        assert (found.passed, len(table), found.metadata["missing"].value) == (False, lost, lost)
        return found

    assert verdict(1).severity == WARN
    room.sync("account")
    room.sync("contact")
    (standing,) = room.instance.event_log_storage.get_latest_asset_check_execution_by_key(
        [dg.AssetCheckKey(dg.AssetKey(["salesforce", "contact"]), "complete")]
    ).values()
    assert standing.evaluation is not None and standing.evaluation.metadata["by"].value == "last comparison"
    assert (standing.evaluation.passed, standing.evaluation.severity) == (False, WARN)
    assert verdict(2).severity == ERROR


def test_schema_names_what_changed_and_a_full_refresh_heals_it(read: Room) -> None:
    read.link.sandbox.schema("Contact", "add", "Motto__c", type="string")
    found = evaluations(read.run("salesforce_reconcile"))["contact", "schema"]
    assert (found.passed, found.severity) == (False, WARN)
    assert found.description is not None
    assert "Motto__c: added (- → string)" in found.description
    assert "salesforce_full_refresh takes it over" in found.description
    assert read.run("salesforce_full_refresh").success
    found = evaluations(read.run("salesforce_reconcile"))["contact", "schema"]
    assert found.passed
    table = found.metadata["changes"].value
    (shown,) = [record.data for record in table.records]  # type: ignore[union-attr]
    assert (shown["field"], shown["change"], shown["column"]) == ("Motto__c", "added", "motto_c")


def test_the_state_of_a_connection_that_works(read: Room) -> None:
    used = read.link.sandbox.calls()["total"]
    result = read.run("salesforce_checks")
    assert result.success
    assert {key: one.passed for key, one in evaluations(result).items()} == {
        (table, check): True
        for table in ("account", "contact")
        for check in ("fresh", "guard", "quota", "unsettled_writes")
    }
    assert read.link.sandbox.calls()["total"] == used, "these checks ask the database only"


def test_fresh_fails_for_what_was_not_read_for_long(read: Room) -> None:
    read.link.rows("UPDATE crm_assets.cursor SET moved_at = moved_at - interval '20 minutes' WHERE object = 'account'")
    read.link.rows("UPDATE crm_assets.cursor SET moved_at = moved_at - interval '2 hours' WHERE object = 'contact'")
    found = evaluations(read.run("salesforce_checks"))
    assert [(found[table, "fresh"].passed, found[table, "fresh"].severity) for table in ("account", "contact")] == [
        (False, WARN),
        (False, ERROR),
    ]


def test_fresh_tells_of_an_object_never_read(room: Room) -> None:
    found = evaluations(room.run("salesforce_checks"))["contact", "fresh"]
    assert not found.passed
    assert found.description == "never read; materialize the asset"


def test_unsettled_writes_names_what_needs_a_person(read: Room) -> None:
    some = min(read.link.sandbox.alive("Contact"))
    read.link.rows("UPDATE salesforce.contact SET email = 'no address' WHERE id = %s", some)
    read.run("salesforce_writeback")
    found = evaluations(read.run("salesforce_checks"))
    stuck = found["contact", "unsettled_writes"]
    assert (stuck.passed, stuck.severity) == (False, ERROR)
    assert stuck.description == "1 rejected; see crm_assets.outbox, column reason"
    assert found["account", "unsettled_writes"].passed


@pytest.mark.parametrize(
    ("used", "passed", "severity"), [(899_999, True, WARN), (900_000, False, WARN), (1_000_000, False, ERROR)]
)
def test_quota_warns_before_it_is_out(read: Room, used: int, passed: bool, severity: dg.AssetCheckSeverity) -> None:
    read.link.rows('UPDATE crm_assets.quota SET used = %s, "limit" = 1000000', used)
    found = evaluations(read.run("salesforce_checks"))["contact", "quota"]
    assert (found.passed, found.severity) == (passed, severity)
    assert found.metadata["daily_calls_used"].value == used


def test_quota_tells_when_it_will_be_out(read: Room) -> None:
    read.link.rows('UPDATE crm_assets.quota SET used = 500, "limit" = 1000')
    read.link.rows("UPDATE crm_assets.quota_spent SET calls = 300")
    found = evaluations(read.run("salesforce_checks"))["contact", "quota"]
    assert not found.passed and found.description is not None
    assert found.description.startswith("daily_calls: at this rate used up at ")
