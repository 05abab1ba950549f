"""Tables from a describe: what is made, what is added, and what stays."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from crm_assets.core.model import FieldType
from crm_assets.store import catalog, ddl
from crm_assets_tests.store.conftest import MakeMirror
from crm_assets_tests.store.kit import CONNECTION, CONTACT, Mirror, column

_LONG = "a_custom_object_whose_name_is_nearly_as_long_as_can_be"


def _columns(mirror: Mirror) -> dict[str, str]:
    with mirror.db.transaction() as conn:
        return ddl.columns_of(conn, CONNECTION, mirror.obj.table)


def test_a_mirror_has_our_columns_and_the_described_ones(mirror: Mirror) -> None:
    assert _columns(mirror) == {
        "row_id": "uuid",
        "id": "text",
        "last_name": "text",
        "email": "text",
        "amount": "numeric",
        "met_at": "timestamp with time zone",
        "reports_to_id": "text",
        "crm_assets_row_id_c": "text",
        "score": "bigint",
        "_version": "timestamp with time zone",
        "_observed_at": "timestamp with time zone",
        "_deleted_at": "timestamp with time zone",
    }


def test_describing_the_same_again_changes_nothing(mirror: Mirror) -> None:
    before = mirror.all("SELECT oid, xmin::text, relname FROM pg_class WHERE relnamespace = 'salesforce'::regnamespace")
    ddl.ensure_object(mirror.db, CONNECTION, mirror.obj, write=True)
    now = mirror.all("SELECT oid, xmin::text, relname FROM pg_class WHERE relnamespace = 'salesforce'::regnamespace")
    assert {r["oid"] for r in now} == {r["oid"] for r in before}


def test_a_new_field_is_captured_from_its_first_moment(mirror: Mirror) -> None:
    mirror.seen({"id": "003a", "v": 1, "last_name": "Ada"})
    wider = replace(mirror.obj, fields=(*mirror.obj.fields, column("New__c", "new_c", FieldType.INTEGER)))
    ddl.ensure_object(mirror.db, CONNECTION, wider, write=True)
    mirror.write("UPDATE salesforce.contact SET new_c = 5")
    mirror.write("INSERT INTO salesforce.contact (new_c) VALUES (6)")
    assert [w["new"] for w in mirror.outbox()] == [{"new_c": 5}, {"new_c": 6}]
    mirror.obj = wider
    mirror.seen({"id": "003b", "v": 1, "new_c": 7})
    assert mirror.row("003b")["new_c"] == 7


def test_a_field_that_went_away_keeps_its_column_and_is_read_only(mirror: Mirror) -> None:
    mirror.seen({"id": "003a", "v": 1, "email": "kept"})
    narrower = replace(mirror.obj, fields=tuple(f for f in mirror.obj.fields if f.column != "email"))
    ddl.ensure_object(mirror.db, CONNECTION, narrower, write=True)
    assert mirror.row("003a")["email"] == "kept"
    with pytest.raises(psycopg.errors.RaiseException, match='column "email"'):
        mirror.write("UPDATE salesforce.contact SET email = 'no'")
    assert catalog.columns(mirror.db, CONNECTION, "Contact")["Email"] == "email"
    assert catalog.load(mirror.db, CONNECTION) == {"contact": narrower}


def test_an_object_that_becomes_writable_is_captured(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(write=False)
    mirror.seen({"id": "003a", "v": 1})
    assert catalog.writable(mirror.db, CONNECTION) == set()
    ddl.ensure_object(mirror.db, CONNECTION, mirror.obj, write=True)
    mirror.write("UPDATE salesforce.contact SET email = 'yes'")
    assert mirror.states() == [("update", "pending")]
    assert catalog.writable(mirror.db, CONNECTION) == {"contact"}


def test_long_names_share_nothing(make_mirror: MakeMirror) -> None:
    """Identifiers end after 63 bytes; each table and event still needs its own function."""
    tables = [f"{_LONG}_{n}" for n in (1, 2)]
    for table in tables:
        make_mirror(replace(CONTACT, name=table, table=table))
    mirror = make_mirror()
    for table in tables:
        mirror.write(f"INSERT INTO salesforce.{table} (last_name) VALUES ('New')")
        mirror.write(f"UPDATE salesforce.{table} SET last_name = 'Newer'")
        mirror.write(f"DELETE FROM salesforce.{table}")
    assert [(w["object"], w["op"]) for w in mirror.outbox()] == [
        (table, op) for table in tables for op in ("create", "update", "delete")
    ]
    indexes = mirror.all(
        "SELECT tablename FROM pg_indexes WHERE schemaname = 'salesforce' AND indexdef LIKE '%%WHERE (id IS NULL)'"
    )
    assert {r["tablename"] for r in indexes} == {"contact", *tables}


def test_rights_are_what_each_role_needs(mirror: Mirror, reader_url: str) -> None:
    with psycopg.connect(reader_url) as reader:
        reader.execute("SELECT * FROM salesforce.contact")
        reader.execute("SELECT * FROM crm_assets.outbox")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            reader.execute("UPDATE salesforce.contact SET email = 'x'")
    for refused in (
        "SELECT * FROM salesforce_stage.contact",
        "DROP TABLE salesforce.contact",
        "ALTER TABLE salesforce.contact DISABLE TRIGGER ALL",
        "INSERT INTO crm_assets.outbox (connection, object, op, row_id) VALUES ('a', 'b', 'update', gen_random_uuid())",
    ):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            mirror.write(refused)


def test_the_sync_role_owns_nothing(mirror: Mirror) -> None:
    owned = mirror.value("SELECT count(*) FROM pg_class WHERE pg_get_userbyid(relowner) = 'crm_assets_sync'")
    assert owned == 0
    for refused in ("ALTER TABLE salesforce.contact DISABLE TRIGGER ALL", "TRUNCATE salesforce.contact"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege), mirror.db.transaction() as conn:
            conn.execute("SET LOCAL ROLE crm_assets_sync")
            conn.execute(refused)
