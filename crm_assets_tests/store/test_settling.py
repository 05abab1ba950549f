"""What becomes of writes: states, reverts, and what a person may still do about them."""

from __future__ import annotations

import itertools

import psycopg
import pytest

from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import Mirror

_UPDATE = "UPDATE salesforce.contact SET email = %s WHERE id = '003a'"
_STATES = ("pending", "sending", "confirmed", "rejected", "conflict", "unknown", "superseded", "discarded")
_ALLOWED = {
    ("pending", "sending"), ("pending", "superseded"), ("pending", "discarded"), ("pending", "conflict"),
    ("pending", "rejected"), ("sending", "confirmed"), ("sending", "rejected"), ("sending", "conflict"),
    ("sending", "unknown"), ("sending", "pending"), ("sending", "discarded"), ("unknown", "confirmed"),
    ("unknown", "pending"), ("unknown", "conflict"), ("unknown", "rejected"), ("unknown", "discarded"),
    ("conflict", "pending"), ("conflict", "discarded"), ("conflict", "confirmed"), ("conflict", "superseded"),
    ("rejected", "pending"), ("rejected", "discarded"),
}  # fmt: skip


@pytest.fixture
def one(mirror: Mirror) -> Mirror:
    mirror.seen({"id": "003a", "v": 1, "last_name": "Ada", "email": "old"})
    return mirror


def test_the_database_itself_refuses_every_other_transition(one: Mirror) -> None:
    for before, after in itertools.permutations(_STATES, 2):
        change = (
            "INSERT INTO crm_assets.outbox (connection, object, op, row_id, state)"
            f" VALUES ('x', 'y', 'update', gen_random_uuid(), '{before}');"
            f" UPDATE crm_assets.outbox SET state = '{after}' WHERE connection = 'x'"
        )
        if (before, after) in _ALLOWED:
            one.all(change)
        else:
            with pytest.raises(psycopg.errors.RaiseException, match=f"is {before} and cannot become {after}"):
                one.all(change)
        one.all("DELETE FROM crm_assets.outbox")


def test_a_rejected_update_returns_to_the_crms_value(one: Mirror, worker: Worker) -> None:
    one.write(_UPDATE, "bad")
    one.reject(worker)
    one.apply()
    assert one.row("003a")["email"] == "old"


def test_only_fields_without_a_later_write_return(one: Mirror, worker: Worker) -> None:
    one.write("UPDATE salesforce.contact SET email = 'bad', last_name = 'Bad' WHERE id = '003a'")
    (write,) = one.claim(worker)
    one.write(_UPDATE, "later")
    one.settle(write, "rejected", reason="no")
    one.apply()
    row = one.row("003a")
    assert (row["email"], row["last_name"]) == ("later", "Ada")


def test_a_rejected_create_keeps_its_row_without_an_id(mirror: Mirror, worker: Worker) -> None:
    mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('Odd')")
    mirror.reject(worker)
    mirror.apply()
    assert mirror.row(None)["last_name"] == "Odd"  # type: ignore[arg-type]


def test_a_rejected_delete_brings_the_row_back_with_its_row_id(one: Mirror, worker: Worker) -> None:
    row_id = one.row("003a")["row_id"]
    one.write("DELETE FROM salesforce.contact")
    one.reject(worker)
    one.apply()
    row = one.row("003a")
    assert (row["row_id"], row["last_name"]) == (row_id, "Ada")
    assert one.all("SELECT * FROM crm_assets.tombstone") == []


def test_a_retried_write_is_in_the_mirror_again(one: Mirror, worker: Worker) -> None:
    one.write(_UPDATE, "second try")
    (write,) = one.reject(worker)
    one.apply()
    one.write("SELECT crm_assets.retry(%s)", write.seq)
    one.apply()
    assert one.row("003a")["email"] == "second try" and one.states() == [("update", "pending")]


def test_a_retry_that_would_undo_a_later_write_is_refused(one: Mirror, worker: Worker) -> None:
    one.write(_UPDATE, "first")
    (write,) = one.reject(worker)
    one.apply()
    one.write(_UPDATE, "second")
    with pytest.raises(psycopg.errors.RaiseException, match="later write"):
        one.write("SELECT crm_assets.retry(%s)", write.seq)


def test_a_discarded_write_leaves_the_mirror_as_the_crm_is(one: Mirror) -> None:
    one.write(_UPDATE, "never mind")
    one.write("SELECT crm_assets.discard(%s)", one.outbox()[0]["seq"])
    one.apply()
    assert one.row("003a")["email"] == "old" and one.states() == [("update", "discarded")]


def test_updates_that_wait_are_sent_as_one_with_the_first_base(one: Mirror, worker: Worker) -> None:
    for value in ("1", "2", "3"):
        one.write(_UPDATE, value)
    (write,) = one.claim(worker)
    assert (write.base, write.new) == ({"email": "old"}, {"email": "3"})
    assert [state for _, state in one.states()] == ["sending", "superseded", "superseded"]


def test_the_next_write_of_a_record_waits_for_what_the_crm_made_of_the_last(one: Mirror, worker: Worker) -> None:
    one.write(_UPDATE, "first")
    one.confirm(worker)
    one.write(_UPDATE, "second")
    assert one.claim(worker) == []
    one.observe({"id": "003a", "v": 2, "last_name": "Ada", "email": "as stored"})
    one.apply()
    (write,) = one.claim(worker)
    assert (write.base, write.new) == ({"email": "as stored"}, {"email": "second"})


def test_an_outcome_and_its_consequences_are_one_transaction(one: Mirror, worker: Worker) -> None:
    one.write(_UPDATE, "x")
    (write,) = one.claim(worker)
    one.all("ALTER TABLE salesforce_stage.contact ADD CONSTRAINT broken CHECK (_source <> 'reply')")
    with pytest.raises(psycopg.errors.CheckViolation):
        one.settle(write, "rejected", reason="no")
    assert one.states() == [("update", "sending")]
