"""Mirrors as assets: what a run reads, shows, and does when it cannot go on."""

from __future__ import annotations

import dagster as dg
import pytest

from crm_assets_tests.orchestration.conftest import MakeRoom, Room


def test_the_first_run_reads_everything_and_says_so(room: Room) -> None:
    result = room.sync()
    assert result.success
    alive = room.link.sandbox.alive("Contact")
    assert room.link.value("SELECT count(*) FROM salesforce.contact") == len(alive)
    shown = room.materialization("salesforce/contact")
    assert (shown["mode"], shown["window_low"], shown["dagster/row_count"]) == ("full", "the beginning", len(alive))
    assert shown["rows_applied"] == len(alive)
    assert shown["rows_unchanged"] == shown["rows_deleted"] == shown["rows_set_aside"] == 0
    assert shown["api_calls"] > 0 and shown["seconds"] > 0 and shown["rows_per_second"] > 0
    assert shown["cursor"] == shown["window_high"]
    assert shown["dagster/table_name"] == "salesforce.contact"


def test_later_runs_read_what_changed(room: Room) -> None:
    room.sync()
    first, *_, gone = sorted(room.link.sandbox.alive("Contact"))
    room.link.sandbox.update("Contact", first, LastName="Changed")
    room.link.sandbox.delete("Contact", gone)
    room.pass_a_second()
    assert room.sync("contact").success
    shown = room.materialization("salesforce/contact")
    assert (shown["mode"], shown["rows_applied"], shown["rows_deleted"]) == ("incremental", 1, 1)
    assert shown["window_low"] < shown["window_high"]
    assert room.link.value("SELECT last_name FROM salesforce.contact WHERE id = %s", first) == "Changed"
    assert room.link.value("SELECT count(*) FROM salesforce.contact WHERE id = %s", gone) == 0


def test_only_the_selected_objects_are_read(room: Room) -> None:
    room.sync("account")
    assert room.link.value("SELECT count(*) FROM salesforce.account") > 0
    assert room.link.value("SELECT count(*) FROM salesforce.contact") == 0


def test_columns_and_their_lineage_come_from_the_describe(room: Room) -> None:
    """With a stored describe the definitions know the columns before any run."""
    spec = room.defs.resolve_asset_graph().get(dg.AssetKey(["salesforce", "contact"]))
    schema = spec.metadata["dagster/column_schema"]
    names = [column.name for column in schema.columns]
    assert names[:2] == ["row_id", "id"]
    assert names[-3:] == ["_version", "_observed_at", "_deleted_at"]
    assert "last_name" in names
    lineage = spec.metadata["dagster/column_lineage"].deps_by_column
    (source,) = lineage["last_name"]
    assert (source.asset_key.path, source.column_name) == (["salesforce_api", "contact"], "LastName")
    assert lineage["id"][0].column_name == "Id"
    upstream = room.defs.resolve_asset_graph().get(dg.AssetKey(["salesforce_api", "contact"]))
    assert "LastName" in [column.name for column in upstream.metadata["dagster/column_schema"].columns]


def test_a_full_refresh_finds_new_fields_and_fills_old_rows(room: Room) -> None:
    room.sync()
    room.link.sandbox.schema("Contact", "add", "Shoe_Size__c", type="double")
    some = min(room.link.sandbox.alive("Contact"))
    room.link.sandbox.update("Contact", some, Shoe_Size__c=44)
    assert room.run("salesforce_full_refresh").success
    assert room.link.value("SELECT shoe_size_c FROM salesforce.contact WHERE id = %s", some) == 44
    columns = [column.name for column in room.materialization("salesforce/contact")["dagster/column_schema"].columns]
    assert "shoe_size_c" in columns
    assert room.materialization("salesforce/contact")["mode"] == "full"


def test_one_dead_object_does_not_stop_the_others(room: Room) -> None:
    room.sync()
    room.link.sandbox.create("Contact", LastName="New")
    room.link.sandbox.faults({"kind": "500", "path": "/sobjects/Account/", "times": 50})
    room.pass_a_second()
    result = room.sync()
    assert not result.success
    assert list(room.failures(result)) == ["salesforce__account"]
    assert room.materialization("salesforce/contact")["rows_applied"] == 1


def test_a_run_that_stops_early_is_partial_and_keeps_its_place(room: Room) -> None:
    room.sync()
    cursor = room.link.value("SELECT cursor FROM crm_assets.cursor WHERE object = 'contact'")
    room.link.sandbox.create("Contact", LastName="New")
    room.pass_a_second()
    used = room.link.sandbox.calls()["total"]
    room.link.sandbox.limits(daily_calls=used)
    result = room.sync("contact")
    assert not result.success
    (said,) = room.failures(result).values()
    assert "the next run goes on from the same place" in said
    (observed,) = room.observations("salesforce/contact")
    assert observed["partial"] is True
    assert observed["reason"]
    assert room.link.value("SELECT cursor FROM crm_assets.cursor WHERE object = 'contact'") == cursor
    assert not any(event.event_type_value == "STEP_UP_FOR_RETRY" for event in result.all_events)

    room.link.sandbox.limits(daily_calls=24_000)
    assert room.sync("contact").success
    assert room.materialization("salesforce/contact")["rows_applied"] == 1


def test_an_object_the_crm_does_not_have_is_named_with_the_remedy(make_room: MakeRoom) -> None:
    room = make_room(objects=("Account", "Contcat"))
    result = room.sync()
    assert room.link.value("SELECT count(*) FROM salesforce.account") > 0
    (said,) = room.failures(result).values()
    assert "objects.Contcat" in said
    assert "did you mean Contact?" in said


def test_a_missing_credential_is_named(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SALESFORCE_CLIENT_SECRET")
    result = room.sync("account")
    (said,) = room.failures(result).values()
    assert "SALESFORCE_CLIENT_SECRET" in said


def test_without_a_describe_the_definitions_load_and_say_what_to_do(
    room: Room, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("CRM_ASSETS_HOME", str(tmp_path_factory.mktemp("empty")))
    bare = Room(room.link, room.instance)
    mirror = bare.defs.resolve_asset_graph().get(dg.AssetKey(["salesforce", "contact"]))
    assert "dagster/column_schema" not in mirror.metadata
    assert mirror.description is not None
    assert "not known yet" in mirror.description
    assert bare.sync("contact").success


def test_the_products_writes_go_out_and_come_back(room: Room) -> None:
    room.sync()
    some = min(room.link.sandbox.alive("Contact"))
    room.link.rows("UPDATE salesforce.contact SET last_name = 'Ours' WHERE id = %s", some)
    result = room.run("salesforce_writeback", asset_selection=[dg.AssetKey(["salesforce_writeback", "contact"])])
    assert result.success
    assert room.link.sandbox.alive("Contact")[some]["LastName"] == "Ours"
    assert room.link.states() == {"confirmed": 1}
    shown = room.materialization("salesforce_writeback/contact")
    assert (shown["rows_sent"], shown["rows_confirmed"], shown["rows_reread"]) == (1, 1, 1)
    assert shown["api_calls"] > 0


def test_writes_that_cannot_leave_make_the_run_partial(room: Room) -> None:
    room.sync()
    room.link.rows("UPDATE salesforce.contact SET last_name = 'Ours'")
    room.link.rows("SELECT crm_assets.pause('salesforce')")
    result = room.run("salesforce_writeback")
    (observed, *_) = room.observations("salesforce_writeback/contact")
    assert observed["partial"] is True
    assert "paused" in observed["reason"]
    assert not result.success
