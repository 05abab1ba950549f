"""Creates of objects that carry no row_id into the CRM: no echo makes a second row, and if one arises it gives way."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import psycopg
import pytest

from crm_assets.core.model import Source
from crm_assets.store.worker import Worker
from crm_assets_tests.store.conftest import MakeMirror
from crm_assets_tests.store.kit import CONTACT_WITHOUT_EXTERNAL_ID, Mirror

_INSERT = "INSERT INTO salesforce.contact (last_name) VALUES ('New')"
_ECHO = {"id": "003n", "v": 1, "last_name": "New", "score": 7}


@pytest.fixture
def plain(make_mirror: MakeMirror) -> Mirror:
    return make_mirror(CONTACT_WITHOUT_EXTERNAL_ID)


def _aliases(mirror: Mirror) -> list[tuple[object, object, str]]:
    return [(r["row_id"], r["survivor"], r["survivor_id"]) for r in mirror.all("SELECT * FROM crm_assets.alias")]


@pytest.mark.parametrize("source", [Source.LIST, Source.ID])
def test_an_echo_that_beats_the_reply_makes_no_second_row(plain: Mirror, worker: Worker, source: Source) -> None:
    plain.write(_INSERT)
    (create,) = plain.claim(worker)
    plain.seen(_ECHO, source=source)
    assert len(plain.rows()) == 1 and plain.staged() == 1
    plain.settle(create, "confirmed", id="003n")
    plain.apply()
    plain.seen(_ECHO, source=Source.ID)
    assert (plain.row("003n")["row_id"], plain.row("003n")["score"]) == (create.row_id, 7)
    assert plain.staged() == 0 and _aliases(plain) == []


def test_an_echo_waits_for_a_reply_that_apply_has_not_done_yet(plain: Mirror, worker: Worker) -> None:
    """The create is confirmed between apply's replies and its inserts."""
    plain.write(_INSERT)
    (create,) = plain.claim(worker)
    plain.observe(_ECHO)
    with plain.before("insert", lambda: plain.settle(create, "confirmed", id="003n")):
        plain.apply()
    assert len(plain.rows()) == 1
    plain.apply()
    assert plain.row("003n")["row_id"] == create.row_id


def test_other_records_wait_no_longer_than_the_creates_that_were_under_way(plain: Mirror, worker: Worker) -> None:
    """A stream of creates does not keep what the CRM has created from being seen."""
    plain.write(_INSERT)
    (first,) = plain.claim(worker)
    plain.seen({"id": "003x", "v": 1})
    plain.write(_INSERT)
    (second,) = plain.claim(worker)
    plain.settle(first, "confirmed", id="003n")
    plain.apply()
    assert "003x" in plain.rows()
    assert second.row_id in {r["row_id"] for r in plain.rows().values() if r["id"] is None}


def test_known_records_and_other_objects_do_not_wait_at_all(plain: Mirror, worker: Worker) -> None:
    plain.seen({"id": "003a", "v": 1})
    plain.write(_INSERT)
    plain.claim(worker)
    plain.seen({"id": "003a", "v": 2, "last_name": "Changed"})
    assert plain.row("003a")["last_name"] == "Changed"


def test_the_wait_ends_with_the_lease_and_the_settle_time(plain: Mirror, worker: Worker) -> None:
    plain.write(_INSERT)
    (create,) = plain.claim(worker, lease=timedelta(0))
    plain.settle(create, "unknown")
    plain.seen(_ECHO)
    assert set(plain.rows()) == {None, "003n"}


def test_of_two_rows_the_products_survives_and_takes_over(plain: Mirror, worker: Worker) -> None:
    plain.write(_INSERT)
    (create,) = plain.claim(worker, lease=timedelta(0))
    plain.settle(create, "unknown")
    plain.seen(_ECHO)
    other = plain.row("003n")["row_id"]
    plain.write("UPDATE salesforce.contact SET email = 'theirs' WHERE id = '003n'")
    plain.write("UPDATE salesforce.contact SET last_name = 'Newer' WHERE id IS NULL")
    plain.settle(create, "confirmed", id="003n")
    plain.apply()
    (row,) = plain.rows().values()
    assert (row["row_id"], row["id"], row["score"]) == (create.row_id, "003n", 7)
    assert (row["email"], row["last_name"]) == ("theirs", "Newer"), "what both rows were still to send"
    assert _aliases(plain) == [(other, create.row_id, "003n")]
    assert {r["row_id"] for r in plain.outbox()} == {create.row_id}


def test_a_second_row_that_a_foreign_key_holds_is_reported(plain: Mirror, worker: Worker, database_url: str) -> None:
    plain.write(_INSERT)
    (create,) = plain.claim(worker, lease=timedelta(0))
    plain.settle(create, "unknown")
    plain.seen(_ECHO)
    with psycopg.connect(database_url) as owner:
        owner.execute("CREATE TABLE public.ticket (contact uuid REFERENCES salesforce.contact (row_id))")
        owner.execute("INSERT INTO public.ticket SELECT row_id FROM salesforce.contact WHERE id = '003n'")
    plain.settle(create, "confirmed", id="003n")
    plain.apply()
    assert len(plain.rows()) == 2 and plain.drift() == [("003n", "duplicate")]


def test_a_second_row_of_a_create_that_the_product_deleted_goes_too(plain: Mirror, worker: Worker) -> None:
    plain.write(_INSERT)
    (create,) = plain.claim(worker, lease=timedelta(0))
    plain.write("DELETE FROM salesforce.contact WHERE id IS NULL")
    plain.settle(create, "unknown")
    plain.seen(_ECHO)
    plain.settle(create, "confirmed", id="003n")
    plain.apply()
    assert plain.rows() == {}
    assert plain.value("SELECT id FROM crm_assets.tombstone WHERE row_id = %s", create.row_id) == "003n"


def test_a_natural_key_tells_whose_record_it_is(make_mirror: MakeMirror, worker: Worker) -> None:
    keyed = make_mirror(replace(CONTACT_WITHOUT_EXTERNAL_ID, natural_key=("last_name", "email")))
    keyed.write("INSERT INTO salesforce.contact (last_name, email) VALUES ('L', 'a'), ('L', 'b')")
    keyed.claim(worker)
    keyed.seen({"id": "003b", "v": 1, "last_name": "L", "email": "b"}, {"id": "003c", "v": 1, "last_name": "L"})
    rows = keyed.rows()
    assert set(rows) == {None, "003b", "003c"}
    assert rows["003b"]["row_id"] in {r["row_id"] for r in keyed.outbox()}


def test_a_person_says_what_became_of_a_create(plain: Mirror, worker: Worker) -> None:
    plain.write("INSERT INTO salesforce.contact (last_name) VALUES ('A'), ('B')")
    for write in plain.claim(worker):
        plain.settle(write, "unknown")
    first, second = plain.outbox()
    with pytest.raises(psycopg.errors.RaiseException, match="waits for a person"):
        plain.write("SELECT crm_assets.retry(%s)", first["seq"])
    plain.all("UPDATE crm_assets.outbox SET waiting_for = 'a person'")
    plain.write("SELECT crm_assets.retry(%s)", first["seq"])
    plain.write("SELECT crm_assets.confirm(%s, '003b')", second["seq"])
    plain.apply()
    assert plain.states() == [("create", "pending"), ("create", "confirmed")]
    assert plain.row("003b")["last_name"] == "B"
    (again,) = plain.claim(worker)
    plain.settle(again, "unknown")
    with pytest.raises(psycopg.errors.RaiseException, match="that of another create"):
        plain.write("SELECT crm_assets.confirm(%s, '003b')", again.seq)
