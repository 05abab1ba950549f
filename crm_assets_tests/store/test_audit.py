"""Who changed what, when, from what to what: both directions in one view."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psycopg
import pytest

from crm_assets.core.conflict import Ruling
from crm_assets.core.model import Source, Window
from crm_assets.store import audit, conflicts, history, loads, merges
from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import CONNECTION, Mirror, at

_ADA = {"id": "003a", "v": 1, "last_name": "Ada", "email": "a", "amount": 1}


@pytest.fixture
def one(mirror: Mirror) -> Mirror:
    mirror.seen(_ADA)
    with mirror.db.transaction() as conn:
        conn.execute("DELETE FROM crm_assets.change")
    return mirror


def _told(mirror: Mirror, *columns: str) -> list[tuple[Any, ...]]:
    return [tuple(row[c] for c in columns) for row in mirror.all("SELECT * FROM crm_assets.audit ORDER BY at")]


def test_a_change_of_the_crm_names_the_columns_that_changed_and_who_took_it_in(one: Mirror) -> None:
    with audit.acting_as("run 1234"):
        one.seen({**_ADA, "v": 2, "email": None, "amount": 2})
    told = one.one("SELECT * FROM crm_assets.audit")
    assert (told["old"], told["new"]) == ({"email": "a", "amount": 1}, {"email": None, "amount": 2})
    assert (told["origin"], told["op"], told["id"]) == ("crm", "update", "003a")
    assert told["row_id"] == one.row("003a")["row_id"]
    assert (told["process"], told["source"], told["version"]) == ("run 1234", "list", "2026-01-01 00:00:02+00")


def test_an_observation_that_changes_no_field_is_no_change(one: Mirror) -> None:
    one.seen({**_ADA, "v": 2})
    assert one.row("003a")["_version"] == at(2) and _told(one, "op") == []


def test_a_record_comes_goes_and_returns(one: Mirror) -> None:
    one.seen({"id": "003b", "v": 1, "last_name": "Bo"})
    one.gone("003b", 2, Source.LIST)
    one.apply()
    one.seen({"id": "003b", "v": 3, "last_name": "Bob"}, source=Source.ID)
    row_id = one.row("003b")["row_id"]
    assert _told(one, "op", "row_id", "old", "new") == [
        ("create", row_id, None, {"last_name": "Bo"}),
        ("delete", row_id, {"last_name": "Bo"}, None),
        ("undelete", row_id, None, {"last_name": "Bob"}),
    ]


def test_a_deletion_that_a_foreign_key_holds_is_told_once_and_so_is_its_end(one: Mirror, database_url: str) -> None:
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("CREATE TABLE public.ticket (contact uuid REFERENCES salesforce.contact (row_id))")
        owner.execute("INSERT INTO public.ticket SELECT row_id FROM salesforce.contact")
    for version in (2, 3):
        one.gone("003a", version, Source.LIST)
        one.apply()
    one.seen({**_ADA, "v": 4}, source=Source.ID)
    assert _told(one, "op") == [("delete",), ("undelete",)]


def test_a_merge_names_the_survivor_and_the_references_that_followed(one: Mirror) -> None:
    one.seen({"id": "003b", "v": 1, "last_name": "Bo"}, {"id": "003c", "v": 1, "reports_to_id": "003b"})
    with one.db.transaction() as conn:
        merges.note(conn, CONNECTION, "contact", [("003b", "003a")], one.db.now())
        conn.execute("DELETE FROM crm_assets.change")
    one.apply()
    assert _told(one, "op", "id", "old", "new") == [
        ("merge", "003b", {"last_name": "Bo"}, {"merged_into": "003a"}),
        ("update", "003c", {"reports_to_id": "003b"}, {"reports_to_id": "003a"}),
    ]


def test_a_write_of_the_product_is_told_once_with_its_way(one: Mirror, worker: Worker) -> None:
    """Its echo, and what the CRM made of the record besides, are told apart."""
    one.write("UPDATE salesforce.contact SET email = 'mine' WHERE id = '003a'")
    with audit.acting_as("relay:here:1"):
        one.confirm(worker)
    one.seen({**_ADA, "v": 2, "email": "mine", "score": 7}, source=Source.ID)
    assert _told(one, "origin", "state", "old", "new") == [
        ("product", "confirmed", {"email": "a"}, {"email": "mine"}),
        ("crm", "applied", {"score": None}, {"score": 7}),
    ]
    told = one.one("SELECT * FROM crm_assets.audit WHERE origin = 'product'")
    assert (told["actor"], told["process"]) == (one.product().info.user, "relay:here:1")


def test_a_write_that_is_put_back_says_why(one: Mirror, worker: Worker) -> None:
    one.write("UPDATE salesforce.contact SET email = 'mine' WHERE id = '003a'")
    one.reject(worker, "no such address")
    one.apply()
    assert _told(one, "origin", "state", "reason") == [("product", "rejected", "no such address")]


@pytest.mark.parametrize("step", ["pick", "lock", "hold", "write"])
def test_a_product_write_that_commits_in_between_is_not_the_crms(one: Mirror, step: str) -> None:
    """Two sessions: the product writes another field, and commits, while apply is between its statements."""
    product = one.product()

    def write() -> None:
        product.execute("SET lock_timeout = '200ms'")
        try:
            product.execute("UPDATE salesforce.contact SET last_name = 'Mine' WHERE id = '003a'")
            product.commit()
        except psycopg.errors.LockNotAvailable:
            product.rollback()

    one.observe({**_ADA, "v": 2, "email": "theirs"})
    with one.before(step, write):
        one.apply()
    one.apply()
    assert [told for told in _told(one, "origin", "old", "new") if told[0] == "crm"] == [
        ("crm", {"email": "a"}, {"email": "theirs"})
    ]
    assert one.row("003a")["last_name"] in ("Mine", "Ada")


def test_a_first_load_is_one_line_and_the_next_full_read_tells_what_is_new(mirror: Mirror) -> None:
    def full(*records: dict[str, Any]) -> None:
        load = loads.open_load(mirror.db, CONNECTION, "contact", "full", Window(None, mirror.db.now()), "me")
        mirror.observe(*records, load=load.load_id)
        loads.land(mirror.db, load, len(records))
        mirror.apply()
        loads.close(mirror.db, load)

    full(_ADA, {"id": "003b", "v": 1})
    assert _told(mirror, "op", "new", "row_id") == [("load", {"records": 2}, None)]
    full(_ADA, {"id": "003b", "v": 2, "email": "b"}, {"id": "003c", "v": 1, "last_name": "Cy"})
    assert sorted(_told(mirror, "op", "id", "new"))[:2] == [
        ("create", "003c", {"last_name": "Cy"}),
        ("load", None, {"records": 2}),
    ]
    assert ("update", "003b", {"email": "b"}) in _told(mirror, "op", "id", "new")


def test_old_changes_are_forgotten_in_portions(one: Mirror) -> None:
    with one.db.transaction() as conn:
        conn.execute(
            """INSERT INTO crm_assets.change (connection, object, op, process, at)
               SELECT 'salesforce', 'contact', 'load', 'x',
                      clock_timestamp() - CASE WHEN n > 12000 THEN interval '8 days' ELSE interval '9 days' END
                 FROM generate_series(1, 12010) n"""
        )
    history.forget(one.db, ["salesforce"], timedelta(days=8, hours=1))
    assert one.value("SELECT count(*) FROM crm_assets.change") == 10


def test_settled_writes_are_forgotten_and_what_waits_for_a_person_is_not(one: Mirror, worker: Worker) -> None:
    one.seen({**_ADA, "id": "003b"}, {**_ADA, "id": "003c"})
    update = "UPDATE salesforce.contact SET email = %s WHERE id = %s"
    for record_id in ("003a", "003b", "003c"):
        one.write(update, "1", record_id)
    by_id = {write.id: write for write in one.claim(worker)}
    one.settle(by_id["003a"], "confirmed", id="003a")
    hold, crm = frozenset({"email"}), frozenset({"email"})
    conflicts.settle(one.db, CONNECTION, one.obj, by_id["003b"], Ruling(crm=crm), {"email": "theirs"}, "v")
    one.settle(by_id["003c"], "confirmed", id="003c")
    one.all("DELETE FROM crm_assets.floor")
    one.write(update, "2", "003c")
    (write,) = one.claim(worker)
    conflicts.settle(one.db, CONNECTION, one.obj, write, Ruling(hold=hold), {"email": "theirs"}, "v")
    one.all("UPDATE crm_assets.outbox SET created_at = created_at - interval '9 days'")
    history.forget(one.db, ["salesforce"], timedelta(days=8))
    assert len(one.outbox()) == 4, "settled just now"
    one.all("UPDATE crm_assets.outbox SET settled_at = settled_at - interval '9 days' WHERE settled_at IS NOT NULL")
    history.forget(one.db, ["salesforce"], timedelta(days=8))
    assert [(o["id"], o["state"]) for o in one.outbox()] == [("003c", "confirmed"), ("003c", "conflict")]
    assert [c["id"] for c in one.all("SELECT id FROM crm_assets.conflict")] == ["003c"]


def test_what_is_split_off_a_write_names_who_sent_it(one: Mirror, worker: Worker) -> None:
    one.write("UPDATE salesforce.contact SET email = 'ours', last_name = 'Ours' WHERE id = '003a'")
    with audit.acting_as("relay 7"):
        (write,) = one.claim(worker)
    ruling = Ruling(hold=frozenset({"email"}))
    conflicts.settle(one.db, CONNECTION, one.obj, write, ruling, {"email": "theirs"}, "v")
    assert sorted(_told(one, "state", "process")) == [("conflict", "relay 7"), ("sending", "relay 7")]


def test_a_reader_may_ask(one: Mirror) -> None:
    assert one.value("SELECT has_table_privilege('crm_assets_reader', 'crm_assets.audit', 'SELECT')")
