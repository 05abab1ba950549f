"""The CRM's schema changes while everything runs: mirrors keep up, and say what they cannot follow."""

from __future__ import annotations

from typing import Any

from crm_assets.connections import ObjectSpec
from crm_assets.orchestration.build import build
from crm_assets.store.snapshot import read_snapshot
from crm_assets_tests.orchestration.conftest import Room
from crm_assets_tests.plugins.sandbox import wait_until


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


def test_a_new_field_is_filled_and_shown(room: Room) -> None:
    """An incremental read alone would leave it empty in every row that is older than the field."""
    room.sync()
    some = min(room.link.sandbox.alive("Contact"))
    room.link.sandbox.schema("Contact", "add", "Shoe_Size__c", type="double")
    room.link.sandbox.update("Contact", some, Shoe_Size__c=44)
    room.pass_a_second()
    age(room)
    assert room.sync("contact").success
    shown = room.materialization("salesforce/contact")
    assert (shown["mode"], shown["columns_filling"]) == ("incremental", "")
    assert "shoe_size_c" in [one.name for one in shown["dagster/column_schema"].columns]
    assert column(room, "shoe_size_c", some) == 44
    assert "shoe_size_c" in read_snapshot(room.link.home, "salesforce")["contact"].by_column


def test_another_choice_in_defs_yaml_works_from_the_next_run_on(room: Room) -> None:
    room.sync()
    some = min(room.link.sandbox.alive("Contact"))
    room.link.sandbox.update("Contact", some, LastName="Wanted")
    chosen(room, Contact=ObjectSpec(where="LastName = 'Wanted'"))
    others = len(room.link.sandbox.alive("Contact")) - 1
    assert room.sync("contact").success
    shown = room.materialization("salesforce/contact")
    assert (shown["mode"], shown["rows_left_the_choice"], shown["dagster/row_count"]) == ("incremental", others, 1)
    assert read_snapshot(room.link.home, "salesforce")["contact"].where == "LastName = 'Wanted'"


def test_a_describe_that_fails_does_not_cost_the_read(room: Room) -> None:
    room.sync()
    made = room.link.sandbox.create("Contact", LastName="Read all the same")
    age(room)
    room.link.sandbox.faults({"kind": "503", "path": "/describe", "times": 500})
    wait_until(lambda: room.sync("contact").success and column(room, "last_name", made) == "Read all the same")
