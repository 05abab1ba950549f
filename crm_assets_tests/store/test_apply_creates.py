"""Rows that the product created, on their way to an id."""

from __future__ import annotations

import psycopg
import pytest

from crm_assets.core.model import Source
from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import Mirror

_INSERT = "INSERT INTO salesforce.contact (last_name) VALUES ('New')"


@pytest.fixture
def child_of(mirror: Mirror, database_url: str) -> str:
    """A product's row that points at a contact of its own making."""
    mirror.write(_INSERT)
    with psycopg.connect(database_url) as owner:
        owner.execute("CREATE TABLE public.ticket (contact uuid REFERENCES salesforce.contact (row_id))")
        owner.execute("GRANT SELECT, INSERT ON public.ticket TO crm_assets_writer")
    row_id = str(mirror.value("SELECT row_id FROM salesforce.contact"))
    mirror.write("INSERT INTO public.ticket VALUES (%s)", row_id)
    return row_id


def test_a_confirmed_create_gets_its_id_under_the_products_foreign_key(
    mirror: Mirror, worker: Worker, child_of: str
) -> None:
    mirror.confirm(worker, "003n")
    mirror.apply()
    assert str(mirror.row("003n")["row_id"]) == child_of
    assert mirror.value("SELECT contact::text FROM public.ticket") == child_of


def test_a_discarded_create_that_a_foreign_key_holds_does_not_stop_apply(mirror: Mirror, child_of: str) -> None:
    mirror.write("SELECT crm_assets.discard(%s)", mirror.outbox()[0]["seq"])
    mirror.seen({"id": "003b", "v": 1})
    assert "003b" in mirror.rows() and mirror.staged() == 0
    assert "ticket_contact_fkey" in mirror.outbox()[0]["reason"]


def test_a_discarded_create_leaves_the_mirror(mirror: Mirror) -> None:
    mirror.write(_INSERT)
    mirror.write("SELECT crm_assets.discard(%s)", mirror.outbox()[0]["seq"])
    mirror.apply()
    assert mirror.rows() == {}


def test_a_row_that_was_offered_again_survives_its_discarded_create(mirror: Mirror) -> None:
    mirror.write(_INSERT)
    mirror.write("SELECT crm_assets.discard(%s)", mirror.outbox()[0]["seq"])
    mirror.write("UPDATE salesforce.contact SET last_name = 'Newer'")
    mirror.apply()
    assert [r["last_name"] for r in mirror.rows().values()] == ["Newer"]
    assert mirror.states() == [("create", "discarded"), ("create", "pending")]


def test_the_delete_of_a_create_in_flight_waits_and_then_goes_out_with_the_id(mirror: Mirror, worker: Worker) -> None:
    mirror.write(_INSERT)
    (create,) = mirror.claim(worker)
    mirror.write("DELETE FROM salesforce.contact")
    assert mirror.claim(worker) == []
    mirror.settle(create, "confirmed", id="003n")
    mirror.apply()
    mirror.seen({"id": "003n", "v": 1, "last_name": "New"}, source=Source.ID)
    assert mirror.rows() == {}
    (delete,) = mirror.claim(worker)
    assert (delete.op, delete.id) == ("delete", "003n")


def test_a_rejected_delete_of_such_a_create_brings_the_row_back_with_its_id(mirror: Mirror, worker: Worker) -> None:
    mirror.write(_INSERT)
    (create,) = mirror.claim(worker)
    mirror.write("DELETE FROM salesforce.contact")
    mirror.settle(create, "confirmed", id="003n")
    mirror.apply()
    mirror.seen({"id": "003n", "v": 1, "last_name": "New"}, source=Source.ID)
    mirror.reject(worker)
    mirror.apply()
    assert mirror.row("003n")["row_id"] == create.row_id


def test_the_echo_of_a_create_that_the_product_deleted_makes_no_row(mirror: Mirror, worker: Worker) -> None:
    mirror.write(_INSERT)
    (create,) = mirror.claim(worker)
    mirror.write("DELETE FROM salesforce.contact")
    mirror.seen({"id": "003n", "v": 1, "last_name": "New", "crm_assets_row_id_c": str(create.row_id)})
    assert mirror.rows() == {}
    assert mirror.value("SELECT id FROM crm_assets.tombstone") == "003n"


def test_an_echo_waits_while_the_product_holds_the_row(mirror: Mirror, worker: Worker) -> None:
    mirror.write(_INSERT)
    (create,) = mirror.claim(worker)
    product = mirror.product()
    product.execute("UPDATE salesforce.contact SET email = 'more'")
    mirror.seen({"id": "003n", "v": 1, "last_name": "New", "crm_assets_row_id_c": str(create.row_id)})
    assert mirror.staged() == 1 and len(mirror.rows()) == 1
    product.commit()
    mirror.apply()
    row = mirror.row("003n")
    assert (row["row_id"], row["email"]) == (create.row_id, "more") and mirror.staged() == 0


def test_a_foreign_external_id_is_no_row_id_of_ours(mirror: Mirror) -> None:
    mirror.seen({"id": "003a", "v": 1, "crm_assets_row_id_c": "not a uuid"}, {"id": "003b", "v": 1})
    assert set(mirror.rows()) == {"003a", "003b"}


def test_a_record_that_carries_a_row_id_gets_it_back(mirror: Mirror) -> None:
    """A mirror built anew finds the row_ids that its creates have left in the CRM."""
    known = "019b0000-0000-7000-8000-000000000001"
    mirror.seen({"id": "003a", "v": 1, "crm_assets_row_id_c": known})
    assert str(mirror.row("003a")["row_id"]) == known
    mirror.seen({"id": "003b", "v": 1, "crm_assets_row_id_c": known})
    assert str(mirror.row("003b")["row_id"]) != known


def test_a_create_deleted_in_the_crm_before_its_reply_keeps_its_row_id(mirror: Mirror, worker: Worker) -> None:
    mirror.write(_INSERT)
    (create,) = mirror.claim(worker)
    mirror.gone("003n", 5, Source.LIST)
    mirror.apply()
    mirror.settle(create, "confirmed", id="003n")
    mirror.apply()
    mirror.gone("003n")
    mirror.apply()
    assert mirror.rows() == {}
    assert mirror.value("SELECT row_id FROM crm_assets.tombstone WHERE id = '003n'") == create.row_id
    mirror.seen({"id": "003n", "v": 9}, source=Source.ID)
    assert mirror.row("003n")["row_id"] == create.row_id


def test_the_next_write_of_a_create_waits_for_its_first_read(mirror: Mirror, worker: Worker) -> None:
    mirror.write(_INSERT)
    mirror.confirm(worker, "003n")
    mirror.write("UPDATE salesforce.contact SET last_name = 'Newer'")
    assert mirror.claim(worker) == []  # apply has not yet set the id
    mirror.apply()
    assert mirror.claim(worker) == []
    mirror.seen({"id": "003n", "v": 1, "last_name": "NEW"}, source=Source.ID)
    (write,) = mirror.claim(worker)
    assert (write.op, write.id, write.base, write.new) == (
        "update",
        "003n",
        {"last_name": "NEW"},
        {"last_name": "Newer"},
    )
