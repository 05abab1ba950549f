"""The CRM's schema changes while everything runs: mirrors keep up, and say what they cannot follow."""

from __future__ import annotations

from typing import Any

import dagster as dg
import pytest

from crm_assets.connections import ObjectSpec
from crm_assets.core.model import Field, FieldType, Object
from crm_assets.orchestration.build import build
from crm_assets.orchestration.describing import keeping_types, reads_anew
from crm_assets.store.snapshot import read_snapshot
from crm_assets_tests.orchestration.conftest import Room
from crm_assets_tests.plugins.sandbox import wait_until


def thing(*fields: tuple[str, FieldType], where: str | None = None) -> Object:
    return Object(
        "Thing", "thing", tuple(Field(name, name.lower(), kind, kind.value) for name, kind in fields), where=where
    )


def age(room: Room) -> None:
    """Let ten minutes pass since the last describe."""
    room.link.rows("UPDATE crm_assets.object SET described_at = described_at - interval '10 minutes'")


def chosen(room: Room, **objects: ObjectSpec) -> Room:
    """The same connection after defs.yaml was edited and the definitions were reloaded."""
    room.link.spec = room.link.spec.model_copy(update={"objects": {**room.link.spec.objects, **objects}})
    room.defs = build(room.link.spec)
    return room


def column(room: Room, name: str, record_id: str) -> Any:
    return room.link.value(f"SELECT {name} FROM salesforce.contact WHERE id = %s", record_id)


def test_only_new_fields_and_another_where_need_rows_read_again() -> None:
    text, number = FieldType.TEXT, FieldType.NUMBER
    before = thing(("A", text), ("B", text))
    assert reads_anew(before, thing(("A", text), ("B", text), ("C", text)))
    assert reads_anew(before, thing(("A", text), ("B", text), where="A != null"))
    assert not reads_anew(before, thing(("A", text)))
    assert not reads_anew(before, thing(("B", number), ("A", text)))


def test_a_known_field_keeps_the_type_of_its_column() -> None:
    text, number = FieldType.TEXT, FieldType.NUMBER
    now = keeping_types(thing(("A", text), ("B", text)), thing(("B", number), ("C", number)))
    assert {fld.name: fld.type for fld in now.fields} == {"B": text, "C": number}


def test_a_new_field_is_filled_for_rows_that_did_not_change(room: Room) -> None:
    """An incremental read alone would leave it empty in every row that is older than the field."""
    room.sync()
    some, other, *_ = sorted(room.link.sandbox.alive("Contact"))
    room.link.sandbox.schema("Contact", "add", "Shoe_Size__c", type="double")
    room.link.sandbox.update("Contact", some, Shoe_Size__c=44)
    room.sync("contact")
    assert "shoe_size_c" not in read_snapshot(room.link.home, "salesforce")["contact"].by_column, "not asked yet"
    # The value reached the CRM before the mirror knew the field: no later incremental read would show the record.
    room.link.sandbox.update("Contact", other, LastName="Other")
    room.sync("contact")

    age(room)
    assert room.sync("contact").success
    shown = room.materialization("salesforce/contact")
    assert shown["mode"] == "full"
    assert "shoe_size_c" in [one.name for one in shown["dagster/column_schema"].columns]
    # Nothing else of the record is newer, so that apply asks for a read by id instead of trusting the page.
    assert room.run("salesforce_events").success
    assert column(room, "shoe_size_c", some) == 44
    assert "shoe_size_c" in read_snapshot(room.link.home, "salesforce")["contact"].by_column
    assert room.sync("contact").success
    assert room.materialization("salesforce/contact")["mode"] == "incremental", "once is enough"


def test_a_full_read_that_stopped_early_is_made_up_for(room: Room) -> None:
    """The need for it is kept in the database, not in the run that found it."""
    room.sync()
    some = min(room.link.sandbox.alive("Contact"))
    room.link.sandbox.schema("Contact", "add", "Shoe_Size__c", type="double")
    room.link.sandbox.update("Contact", some, Shoe_Size__c=44)
    age(room)
    room.link.sandbox.faults({"kind": "500", "path": "/query", "times": 50})
    assert not room.sync("contact").success
    room.link.sandbox.clear_faults()
    assert room.sync("contact").success
    assert room.materialization("salesforce/contact")["mode"] == "full"
    assert column(room, "shoe_size_c", some) == 44


def test_unchanged_objects_are_asked_every_ten_minutes_and_stay_incremental(room: Room) -> None:
    room.sync()
    age(room)
    room.link.sandbox.reset_calls()
    room.sync("contact")
    assert room.link.sandbox.calls()["by_api"]["describe"] == 1
    room.sync("contact")
    assert room.link.sandbox.calls()["by_api"]["describe"] == 1
    assert room.materialization("salesforce/contact")["mode"] == "incremental"


def test_another_choice_in_defs_yaml_works_from_the_next_run_on(room: Room) -> None:
    room.sync()
    some = min(room.link.sandbox.alive("Contact"))
    room.link.sandbox.update("Contact", some, LastName="Wanted")
    chosen(room, Contact=ObjectSpec(where="LastName = 'Wanted'"))
    assert room.sync("contact").success
    assert room.materialization("salesforce/contact")["mode"] == "full"
    assert read_snapshot(room.link.home, "salesforce")["contact"].where == "LastName = 'Wanted'"


def test_a_field_that_went_away_keeps_its_column_and_its_values(room: Room) -> None:
    room.sync()
    room.link.sandbox.schema("Contact", "add", "Shoe_Size__c", type="double")
    some = min(room.link.sandbox.alive("Contact"))
    room.link.sandbox.update("Contact", some, Shoe_Size__c=44)
    room.run("salesforce_full_refresh")
    room.link.sandbox.schema("Contact", "drop", "Shoe_Size__c")
    age(room)
    made = room.link.sandbox.create("Contact", LastName="Later")
    wait_until(lambda: room.sync("contact").success and column(room, "last_name", made) == "Later")
    assert room.materialization("salesforce/contact")["mode"] == "incremental"
    assert column(room, "shoe_size_c", some) == 44
    assert "shoe_size_c" not in read_snapshot(room.link.home, "salesforce")["contact"].by_column


@pytest.mark.parametrize("job", ["salesforce_sync", "salesforce_full_refresh"])
def test_a_field_of_another_type_does_not_stop_the_mirror(room: Room, job: str) -> None:
    room.link.sandbox.schema("Contact", "add", "Feet__c", type="string")
    room.run("salesforce_full_refresh")
    some = min(room.link.sandbox.alive("Contact"))
    room.link.sandbox.schema("Contact", "retype", "Feet__c", type="double")
    room.link.sandbox.update("Contact", some, Feet__c=7)
    age(room)
    result = room.run(job, asset_selection=[dg.AssetKey(["salesforce", "contact"])])
    assert result.success, room.failures(result)
    assert str(column(room, "feet_c", some)) in ("7", "7.0")


def test_a_describe_that_fails_does_not_cost_the_read(room: Room) -> None:
    room.sync()
    made = room.link.sandbox.create("Contact", LastName="Read all the same")
    age(room)
    room.link.sandbox.faults({"kind": "503", "path": "/describe", "times": 500})
    wait_until(lambda: room.sync("contact").success and column(room, "last_name", made) == "Read all the same")
