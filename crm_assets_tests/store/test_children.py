"""Children: records without a time of change that live within a parent and are named by their values."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Any

import pyarrow as pa
import pytest

from crm_assets.core.model import FieldType, Object, Page, Source
from crm_assets.store import children, stage
from crm_assets.store.worker import Worker
from crm_assets_tests.store.conftest import MakeMirror
from crm_assets_tests.store.kit import CONNECTION, CONTACT, Mirror, column

EDGE = Object(
    "Contact_to_Group",
    "contact_to_group",
    (
        column("from_id", "from_id", FieldType.REFERENCE, reference_to=("Contact",)),
        column("to_id", "to_id", FieldType.REFERENCE, reference_to=("Group",)),
        column("label", "label"),
    ),
    id_field="id",
    version_field=None,
    createable=True,
    deletable=True,
    parent="from_id",
    natural_key=("from_id", "to_id"),
)
_INSERT = "INSERT INTO salesforce.contact_to_group (from_id, to_id) VALUES (%s, %s)"


def _child(parent: str, other: str, **values: Any) -> dict[str, Any]:
    return {"id": f"{parent}:{other}", "from_id": parent, "to_id": other, **values}


def _read(mirror: Mirror, parents: list[str], *records: dict[str, Any], when: datetime | None = None) -> datetime:
    """A read of whole parents, staged as every reader stages it."""
    schema = EDGE.page_schema()
    rows = [{name: record.get(name) for name in schema.names} | {"_deleted": False} for record in records]
    page = Page(pa.Table.from_pylist(rows, schema=schema), complete_for=tuple(parents))
    observed_at = when or mirror.db.now()
    with mirror.db.transaction() as conn:
        stage.put(conn, CONNECTION, EDGE, page, Source.ID, observed_at)
        children.stage_gone(conn, CONNECTION, EDGE, page, observed_at)
    return observed_at


@pytest.fixture
def edges(make_mirror: MakeMirror) -> Mirror:
    make_mirror(CONTACT)
    mirror = make_mirror(EDGE)
    _read(mirror, ["a", "b"], _child("a", "x"), _child("a", "y", label="old"), _child("b", "x"))
    mirror.apply()
    return mirror


def test_what_a_whole_parent_lacks_is_gone(edges: Mirror) -> None:
    _read(edges, ["a"], _child("a", "y", label="new"))
    done = edges.apply()
    assert (done.deleted, done.updated, done.unchanged) == (1, 1, 0)
    assert {k: r["label"] for k, r in edges.rows().items()} == {"a:y": "new", "b:x": None}


def test_an_unchanged_child_is_not_written(edges: Mirror) -> None:
    before = edges.rows()
    _read(edges, ["a"], _child("a", "x"), _child("a", "y", label="old"))
    assert edges.apply().unchanged == 2
    assert edges.rows() == before


def test_a_read_that_began_earlier_takes_nothing_away(edges: Mirror) -> None:
    early = edges.db.now()
    _read(edges, ["a"], _child("a", "x"), _child("a", "y", label="new"), _child("a", "z"))
    edges.apply()
    _read(edges, ["a"], _child("a", "x"), _child("a", "y", label="old"), when=early)
    edges.apply()
    assert {k: r["label"] for k, r in edges.rows().items()} == {"a:x": None, "a:y": "new", "a:z": None, "b:x": None}


def test_an_older_observation_that_still_waits_does_not_outlive_a_whole_read(edges: Mirror) -> None:
    edges.observe(_child("a", "z"), source=Source.LIST)
    _read(edges, ["a"], _child("a", "x"))
    edges.apply()
    assert sorted(edges.rows()) == ["a:x", "b:x"]


def test_a_child_that_returns_is_the_same_row(edges: Mirror) -> None:
    row_id = edges.row("a:x")["row_id"]
    _read(edges, ["a"], _child("a", "y"))
    edges.apply()
    _read(edges, ["a"], _child("a", "y"), _child("a", "x"))
    assert edges.apply().undeleted == 1
    assert edges.row("a:x")["row_id"] == row_id


def test_a_deleted_record_has_its_children_read_again(edges: Mirror, make_mirror: MakeMirror) -> None:
    contact = make_mirror(CONTACT)
    contact.seen({"id": "a", "v": 1})
    contact.gone("a")
    contact.apply()
    assert edges.rereads() == ["a"]
    _read(edges, ["a"])
    edges.apply()
    assert sorted(edges.rows()) == ["b:x"]


def test_children_of_parents_that_no_list_shows_are_named(edges: Mirror, make_mirror: MakeMirror) -> None:
    make_mirror(CONTACT).seen({"id": "b", "v": 1})
    assert children.orphans(edges.db, CONNECTION, EDGE) == ["a"]


def test_what_events_read_during_a_long_read_is_read_again(edges: Mirror) -> None:
    since = edges.db.now()
    edges.all(
        """INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, state, done_at)
           VALUES ('salesforce', 'e1', 'contact_to_group', 'a:x', 'c', 'done', clock_timestamp()),
                  ('salesforce', 'e2', 'contact_to_group', 'b', 'c', 'done', clock_timestamp() - interval '1 hour')"""
    )
    children.read_since(edges.db, CONNECTION, EDGE.table, since)
    assert edges.all("SELECT record_id FROM crm_assets.inbox WHERE state = 'pending'") == [{"record_id": "a"}]


def test_made_again_after_a_delete_it_goes_out_behind_the_delete(edges: Mirror, worker: Worker) -> None:
    """Two rows of the product, one record of the CRM: a create sent first would be undone by the delete."""
    edges.write("DELETE FROM salesforce.contact_to_group WHERE id = 'a:x'")
    edges.write(_INSERT, "a", "x")
    (delete,) = edges.claim(worker)
    assert delete.op == "delete"
    edges.settle(delete, "confirmed")
    (create,) = edges.claim(worker)
    edges.settle(create, "confirmed", id="a:x")
    edges.apply()
    assert edges.row("a:x")["row_id"] == create.row_id
    edges.write("DELETE FROM salesforce.contact_to_group WHERE id = 'a:y'")
    assert [w.id for w in edges.claim(worker)] == ["a:y"]


def test_an_unrelated_create_does_not_wait(edges: Mirror, worker: Worker) -> None:
    edges.write("DELETE FROM salesforce.contact_to_group WHERE id = 'a:x'")
    edges.write(_INSERT, "a", "z")
    assert sorted(w.op for w in edges.claim(worker)) == ["create", "delete"]


def test_a_child_waits_for_the_record_it_belongs_to(edges: Mirror, make_mirror: MakeMirror, worker: Worker) -> None:
    contact = make_mirror(CONTACT)
    contact.write("INSERT INTO salesforce.contact (last_name) VALUES ('Ada')")
    row_id = contact.value("SELECT row_id::text FROM salesforce.contact WHERE id IS NULL")
    edges.write(_INSERT, row_id, "x")
    assert edges.claim(worker) == []
    assert (
        edges.value("SELECT waiting_for FROM crm_assets.outbox WHERE object = 'contact_to_group'")
        == f"from_id {row_id}"
    )
    contact.confirm(worker, "c")
    contact.apply()
    edges.all("UPDATE crm_assets.outbox SET next_try_at = clock_timestamp() WHERE state = 'pending'")
    (create,) = edges.claim(worker)
    assert create.new["from_id"] == "c"


def test_a_child_cannot_be_changed_only_made_and_removed(edges: Mirror) -> None:
    with pytest.raises(Exception, match="label"):
        edges.write("UPDATE salesforce.contact_to_group SET label = 'z'")


def test_an_echo_that_beats_the_reply_makes_no_second_row(make_mirror: MakeMirror, worker: Worker) -> None:
    """Also where the create left a part of the name to the CRM."""
    edges = make_mirror(replace(EDGE, natural_key=("from_id", "to_id", "label")))
    edges.write(_INSERT, "a", "z")
    (create,) = edges.claim(worker)
    edges.observe(_child("a", "z", label="Default"), source=Source.ID)
    edges.apply()
    assert list(edges.rows()) == [None]
    edges.settle(create, "confirmed", id="a:z")
    edges.observe(_child("a", "z", label="Default"), source=Source.ID)
    edges.apply()
    assert {k: (r["row_id"], r["label"]) for k, r in edges.rows().items()} == {"a:z": (create.row_id, "Default")}


def test_made_again_it_does_not_take_over_what_is_being_deleted(edges: Mirror) -> None:
    edges.write("DELETE FROM salesforce.contact_to_group WHERE id = 'a:x'")
    edges.write(_INSERT, "a", "x")
    _read(edges, ["a"], _child("a", "x"), _child("a", "y", label="old"))
    edges.apply()
    assert sorted(str(record_id) for record_id in edges.rows()) == ["None", "a:y", "b:x"]
