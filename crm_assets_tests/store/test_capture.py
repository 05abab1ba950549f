"""Capture: what the product may do, what becomes of it, and what it is told when it may not."""

from __future__ import annotations

import uuid

import psycopg
import pytest

from crm_assets.store.worker import Worker
from crm_assets_tests.store.conftest import MakeMirror
from crm_assets_tests.store.kit import Mirror


@pytest.fixture
def one(mirror: Mirror) -> Mirror:
    mirror.seen({"id": "003a", "v": 1, "last_name": "Ada", "email": "old", "amount": 1, "score": 7})
    return mirror


def test_an_update_keeps_the_changed_fields_with_base_and_new(one: Mirror) -> None:
    one.write("UPDATE salesforce.contact SET email = 'new', amount = NULL, last_name = last_name")
    (write,) = one.outbox()
    assert (write["op"], write["id"], write["state"]) == ("update", "003a", "pending")
    assert write["base"] == {"email": "old", "amount": 1} and write["new"] == {"email": "new", "amount": None}
    assert write["actor"] == "crm_assets_writer"


def test_an_update_that_changes_no_value_is_no_write_and_never_raises(one: Mirror) -> None:
    one.write("UPDATE salesforce.contact SET email = email, id = id, _version = _version, score = score")
    assert one.outbox() == []


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("row_id", "gen_random_uuid()"),
        ("id", "'other'"),
        ("_version", "now()"),
        ("_observed_at", "now()"),
        ("_deleted_at", "now()"),
        ("score", "8"),
    ],
)
def test_a_column_that_is_not_the_products_is_refused_by_name(one: Mirror, column: str, value: str) -> None:
    with pytest.raises(psycopg.errors.RaiseException, match=f'column "{column}" of salesforce.contact'):
        one.write(f"UPDATE salesforce.contact SET {column} = {value}")
    assert one.outbox() == []


@pytest.mark.parametrize("column", ["id", "score", "_version"])
def test_an_insert_may_bring_its_row_id_and_nothing_else_of_ours(one: Mirror, column: str) -> None:
    value = {"id": "'x'", "score": "1", "_version": "now()"}[column]
    with pytest.raises(psycopg.errors.RaiseException, match=f'column "{column}"'):
        one.write(f"INSERT INTO salesforce.contact (last_name, {column}) VALUES ('New', {value})")
    row_id = uuid.uuid4()
    one.write("INSERT INTO salesforce.contact (row_id, last_name) VALUES (%s, 'New')", row_id)
    (write,) = one.outbox()
    assert (write["op"], write["row_id"], write["id"], write["new"]) == ("create", row_id, None, {"last_name": "New"})


def test_truncate_is_refused_with_the_remedy(one: Mirror, database_url: str) -> None:
    with psycopg.connect(database_url) as owner, pytest.raises(psycopg.errors.RaiseException, match="TRUNCATE") as told:
        owner.execute("TRUNCATE salesforce.contact")
    assert "DELETE" in (told.value.diag.message_hint or "")


def test_a_deleted_row_leaves_its_tombstone_in_the_same_transaction(one: Mirror) -> None:
    row_id = one.row("003a")["row_id"]
    product = one.product()
    product.execute("DELETE FROM salesforce.contact")
    product.rollback()
    assert one.outbox() == [] and one.all("SELECT * FROM crm_assets.tombstone") == []
    one.write("DELETE FROM salesforce.contact")
    (write,) = one.outbox()
    assert (write["op"], write["base"]["last_name"], write["base"]["score"]) == ("delete", "Ada", 7)
    assert one.one("SELECT row_id, id, deleted_by FROM crm_assets.tombstone") == {
        "row_id": row_id,
        "id": "003a",
        "deleted_by": "product",
    }
    with pytest.raises(psycopg.errors.RaiseException, match="deleted record"):
        one.write("INSERT INTO salesforce.contact (row_id, last_name) VALUES (%s, 'Again')", row_id)


def test_statements_on_many_rows_give_a_write_for_each(one: Mirror) -> None:
    one.write("INSERT INTO salesforce.contact (last_name) SELECT 'N' || n FROM generate_series(1, 3) n")
    one.write("UPDATE salesforce.contact SET email = 'all'")
    assert one.states() == [("create", "pending")] * 3 + [("update", "pending")] * 4


def test_every_way_to_write_is_captured(one: Mirror, writer_url: str) -> None:
    row_id = one.row("003a")["row_id"]
    one.write(
        """INSERT INTO salesforce.contact (row_id, last_name) VALUES (%s, 'Upsert')
           ON CONFLICT (row_id) DO UPDATE SET last_name = excluded.last_name""",
        row_id,
    )
    one.write(
        """MERGE INTO salesforce.contact m USING (VALUES ('003a', 'merged')) v (id, email) ON m.id = v.id
           WHEN MATCHED THEN UPDATE SET email = v.email WHEN NOT MATCHED THEN INSERT (last_name) VALUES (v.email)"""
    )
    with (
        psycopg.connect(writer_url) as conn,
        conn.cursor().copy("COPY salesforce.contact (last_name) FROM STDIN") as sink,
    ):
        sink.write_row(("Copied",))
    assert [(w["op"], w["new"]) for w in one.outbox()] == [
        ("update", {"last_name": "Upsert"}),
        ("update", {"email": "merged"}),
        ("create", {"last_name": "Copied"}),
    ]


def test_the_products_time_zone_does_not_change_what_is_recorded(one: Mirror, writer_url: str) -> None:
    with psycopg.connect(writer_url, options="-c timezone=Asia/Tokyo") as conn:
        conn.execute("UPDATE salesforce.contact SET met_at = '2026-01-01 09:00:00+09'")
    assert one.outbox()[0]["new"] == {"met_at": "2026-01-01T00:00:00+00:00"}


def test_the_product_has_no_hand_in_the_outbox(one: Mirror) -> None:
    for statement in ("DELETE FROM crm_assets.outbox", "UPDATE crm_assets.outbox SET state = 'confirmed'"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            one.write(statement)


def test_a_read_only_object_says_how_to_open_it(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(write=False)
    mirror.seen({"id": "003a", "v": 1, "last_name": "Ada"})
    for statement in (
        "INSERT INTO salesforce.contact (last_name) VALUES ('x')",
        "DELETE FROM salesforce.contact",
        "UPDATE salesforce.contact SET last_name = 'x'",
    ):
        with pytest.raises(psycopg.errors.RaiseException, match=r"write: (true|false)"):
            mirror.write(statement)


def test_a_create_that_never_left_is_withdrawn_with_its_delete(mirror: Mirror) -> None:
    mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('Brief')")
    mirror.write("DELETE FROM salesforce.contact")
    assert mirror.states() == [("create", "discarded"), ("delete", "discarded")]


def test_an_update_of_a_rejected_create_is_a_new_create_of_the_whole_row(mirror: Mirror, worker: Worker) -> None:
    mirror.write("INSERT INTO salesforce.contact (last_name, email) VALUES ('Odd', 'e')")
    mirror.reject(worker)
    mirror.apply()
    mirror.write("UPDATE salesforce.contact SET last_name = 'Even'")
    assert mirror.states() == [("create", "rejected"), ("create", "pending")]
    assert mirror.outbox()[-1]["new"] == {"last_name": "Even", "email": "e"}
