"""Deletes, tombstones and undeletes."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from crm_assets.core.model import Source
from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import Mirror, at

_ADA = {"id": "003a", "v": 1, "last_name": "Ada", "email": "a"}


@pytest.fixture
def one(mirror: Mirror) -> Mirror:
    mirror.seen(_ADA, {"id": "003b", "v": 1, "last_name": "Bo"})
    return mirror


@pytest.fixture
def ticket(one: Mirror, database_url: str) -> Iterator[psycopg.Connection[tuple[int]]]:
    """A product's table with a foreign key on ``003a``."""
    with psycopg.connect(database_url, autocommit=True) as owner:
        owner.execute("CREATE TABLE public.ticket (contact uuid REFERENCES salesforce.contact (row_id))")
        owner.execute("GRANT SELECT, INSERT ON public.ticket TO crm_assets_writer")
        owner.execute("INSERT INTO public.ticket VALUES (%s)", (one.row("003a")["row_id"],))
        yield owner


def test_a_delete_leaves_a_tombstone_with_the_last_values(one: Mirror) -> None:
    row_id = one.row("003a")["row_id"]
    one.gone("003a", 2, Source.LIST)
    assert one.apply().deleted == 1
    tombstone = one.one("SELECT * FROM crm_assets.tombstone")
    assert (tombstone["row_id"], tombstone["id"], tombstone["deleted_by"]) == (row_id, "003a", "crm")
    assert tombstone["values"]["last_name"] == "Ada"
    assert list(one.rows()) == ["003b"]


def test_an_older_delete_says_nothing_about_a_newer_row(one: Mirror) -> None:
    one.seen({**_ADA, "v": 5})
    one.gone("003a", 4, Source.LIST)
    assert one.apply().deleted == 0
    assert "003a" in one.rows() and one.staged() == 0


def test_a_page_that_shows_a_buried_id_asks_for_a_read_and_revives_nothing(one: Mirror) -> None:
    one.gone("003a", 2, Source.LIST)
    one.apply()
    one.seen({**_ADA, "v": 1})
    assert one.rereads() == []
    assert one.seen({**_ADA, "v": 3}).reread == 1
    assert one.rereads() == ["003a"]
    assert "003a" not in one.rows() and one.staged() == 0


def test_an_undelete_returns_the_same_row_id(one: Mirror) -> None:
    row_id = one.row("003a")["row_id"]
    one.gone("003a", 2, Source.LIST)
    one.apply()
    assert one.seen({**_ADA, "v": 3, "email": "back"}, source=Source.ID).undeleted == 1
    assert (one.row("003a")["row_id"], one.row("003a")["email"]) == (row_id, "back")
    assert one.all("SELECT * FROM crm_assets.tombstone") == []


def test_a_read_begun_before_the_delete_lifts_nothing(one: Mirror) -> None:
    early = one.db.now()
    one.gone("003a", 2)
    one.apply()
    one.observe({**_ADA, "v": 9}, source=Source.ID, observed_at=early)
    one.apply()
    assert "003a" not in one.rows()


def test_a_read_begun_before_a_product_deleted_the_row_does_not_revive_it(one: Mirror, worker: Worker) -> None:
    one.write("DELETE FROM salesforce.contact WHERE id = '003a'")
    one.seen({**_ADA, "v": 2, "email": "edited"}, source=Source.ID)
    assert "003a" not in one.rows()
    assert one.outbox()[0]["theirs"]["email"] == "edited"
    (write,) = one.claim(worker)
    early = one.db.now()
    one.settle(write, "confirmed", id="003a")
    one.apply()
    one.observe({**_ADA, "v": 9}, source=Source.ID, observed_at=early)
    one.apply()
    assert "003a" not in one.rows()
    assert one.seen({**_ADA, "v": 10}, source=Source.ID).undeleted == 1


def test_a_row_that_a_foreign_key_holds_stays_marked_and_the_rest_goes_on(
    one: Mirror, ticket: psycopg.Connection[tuple[int]]
) -> None:
    one.gone("003a", 2, Source.LIST)
    one.gone("003b", 2, Source.LIST)
    one.apply()
    assert list(one.rows()) == ["003a"] and one.row("003a")["_deleted_at"] is not None
    assert one.drift() == [("003a", "delete_blocked")] and one.staged() == 0
    ticket.execute("DELETE FROM public.ticket")
    one.gone("003a")
    one.apply()
    assert one.rows() == {} and one.drift() == []
    assert len(one.all("SELECT * FROM crm_assets.tombstone")) == 2


def test_a_marked_row_is_alive_again_after_an_undelete(one: Mirror, ticket: psycopg.Connection[tuple[int]]) -> None:
    one.gone("003a", 2, Source.LIST)
    one.apply()
    assert one.seen({**_ADA, "v": 3}).reread == 1 and one.row("003a")["_deleted_at"] is not None
    one.seen({**_ADA, "v": 3, "email": "back"}, source=Source.ID)
    assert (one.row("003a")["_deleted_at"], one.row("003a")["email"]) == (None, "back")
    assert one.drift() == []


def test_a_delete_that_waits_for_the_product_harms_neither(one: Mirror, ticket: psycopg.Connection[tuple[int]]) -> None:
    """The product's open insert of a child locks the parent; the delete gives way and the insert survives."""
    product = one.product()
    product.execute("INSERT INTO public.ticket VALUES (%s)", (one.row("003b")["row_id"],))
    one.gone("003b", 2, Source.LIST)
    assert one.apply().deleted == 0 and one.staged() == 1
    product.commit()
    one.apply()
    assert one.drift() == [("003b", "delete_blocked")]


def test_the_delete_of_an_unknown_id_is_remembered(mirror: Mirror) -> None:
    mirror.gone("003x", 5, Source.LIST)
    mirror.apply()
    mirror.seen({"id": "003x", "v": 4})
    assert mirror.rows() == {} and mirror.rereads() == []


@pytest.mark.parametrize(("source", "kept", "asked"), [(Source.LIST, True, ["003a"]), (Source.ID, False, [])])
def test_alive_and_deleted_at_one_version(one: Mirror, source: Source, kept: bool, asked: list[str]) -> None:
    one.gone("003a", 1, source)
    one.apply()
    assert ("003a" in one.rows(), one.rereads()) == (kept, asked)


def test_a_delete_takes_the_waiting_updates_along(one: Mirror) -> None:
    one.write("UPDATE salesforce.contact SET email = 'mine' WHERE id = '003a'")
    one.write("UPDATE salesforce.contact SET email = 'mine too' WHERE id = '003a'")
    one.write("DELETE FROM salesforce.contact WHERE id = '003a'")
    assert one.states() == [("update", "superseded"), ("update", "superseded"), ("delete", "pending")]
    assert one.outbox()[-1]["base"]["email"] == "a"


def test_a_version_is_not_lost_on_the_way_through_a_tombstone(one: Mirror) -> None:
    one.write("DELETE FROM salesforce.contact WHERE id = '003a'")
    version = one.value("SELECT version::timestamptz FROM crm_assets.tombstone")
    assert version == at(1)
