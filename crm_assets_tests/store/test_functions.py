"""What a person may decide about a write: retry, discard, resolve."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import psycopg
import pytest

from crm_assets.core.conflict import Ruling
from crm_assets.core.model import Source
from crm_assets.store import conflicts
from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import CONNECTION, Mirror

_EMAIL = "UPDATE salesforce.contact SET email = %s WHERE id = '003a'"
Held = Callable[[], dict[str, int]]


@pytest.fixture
def one(mirror: Mirror) -> Mirror:
    mirror.seen({"id": "003a", "v": 1, "last_name": "Ada", "email": "old"})
    return mirror


@pytest.fixture
def held(one: Mirror, worker: Worker) -> Held:
    """A write of email and last_name of which both are in conflict; gives the conflict ids by field."""

    def held() -> dict[str, int]:
        one.write("UPDATE salesforce.contact SET email = 'mine', last_name = 'Mine' WHERE id = '003a'")
        (write,) = one.claim(worker)
        theirs = {"email": "crm", "last_name": "Crm"}
        conflicts.settle(one.db, CONNECTION, one.obj, write, Ruling(hold=frozenset(theirs)), theirs, "v2")
        return {r["field"]: r["conflict_id"] for r in one.all("SELECT * FROM crm_assets.conflict")}

    return held


def _call(mirror: Mirror, query: str, *values: Any) -> Any:
    with psycopg.connect(mirror.writer_url) as conn:
        row = conn.execute(f"SELECT crm_assets.{query}", values).fetchone()
    assert row is not None
    return row[0]


def test_the_crm_wins_every_field(one: Mirror, held: Held) -> None:
    conflicts = held()
    assert _call(one, "resolve(%s, 'crm')", conflicts["email"]) == "conflict"
    assert _call(one, "resolve(%s, 'crm')", conflicts["last_name"]) == "discarded"
    one.apply()
    assert (one.row("003a")["email"], one.row("003a")["last_name"]) == ("crm", "Crm")
    assert one.states() == [("update", "discarded")] and one.rereads() == ["003a"]


def test_the_product_wins_every_field(one: Mirror, held: Held, worker: Worker) -> None:
    conflicts = held()
    for conflict_id in conflicts.values():
        _call(one, "resolve(%s, 'product')", conflict_id)
    (write,) = one.claim(worker)
    assert write.new == {"email": "mine", "last_name": "Mine"}
    # The values that were seen and outvoted are the base: the next comparison is against them.
    assert write.base == {"email": "crm", "last_name": "Crm"}
    assert {r["resolved_by"] for r in one.all("SELECT resolved_by FROM crm_assets.conflict")} == {"crm_assets_writer"}
    assert one.value("SELECT count(*) FROM crm_assets.conflict WHERE state = 'open'") == 0


def test_each_field_is_decided_for_itself(one: Mirror, held: Held, worker: Worker) -> None:
    conflicts = held()
    one.write("SELECT crm_assets.resolve(%s, 'crm')", conflicts["email"])
    assert one.states() == [("update", "conflict")]
    assert _call(one, "resolve(%s, 'product')", conflicts["last_name"]) == "pending"
    one.apply()
    assert (one.row("003a")["email"], one.row("003a")["last_name"]) == ("crm", "Mine")
    kept = one.outbox("state = 'discarded'")
    assert [(w["new"], w["theirs"]["email"]) for w in kept] == [({"email": "mine"}, "crm")]
    # The record is read once more before the rest goes out.
    one.seen({"id": "003a", "v": 2, "last_name": "Crm", "email": "crm"}, source=Source.ID)
    (write,) = one.claim(worker)
    assert (write.base, write.new) == ({"last_name": "Crm"}, {"last_name": "Mine"})


def test_a_later_write_of_a_field_the_crm_won_is_no_new_conflict(one: Mirror, held: Held, worker: Worker) -> None:
    """It was written on top of a value the CRM never had; its base is what the CRM shows."""
    conflicts = held()
    one.write(_EMAIL, "later")
    one.write("SELECT crm_assets.resolve(%s, 'crm')", conflicts["email"])
    one.write("SELECT crm_assets.resolve(%s, 'product')", conflicts["last_name"])
    one.apply()
    assert one.row("003a")["email"] == "later"
    assert one.claim(worker) == []
    one.seen({"id": "003a", "v": 2, "last_name": "Crm", "email": "crm"}, source=Source.ID)
    (write,) = one.claim(worker)
    assert write.base == {"email": "crm", "last_name": "Crm"}
    assert write.new == {"email": "later", "last_name": "Mine"}


def test_a_conflict_is_decided_once(one: Mirror, held: Held) -> None:
    conflict_id = held()["email"]
    one.write("SELECT crm_assets.resolve(%s, 'crm')", conflict_id)
    for query, value, told in (
        ("resolve(%s, 'product')", conflict_id, "already settled"),
        ("resolve(%s, 'nobody')", conflict_id, "resolve takes"),
        ("resolve(%s, 'crm')", 999, "no conflict 999"),
    ):
        with pytest.raises(psycopg.errors.RaiseException, match=told):
            _call(one, query, value)


def test_two_people_deciding_at_once_decide_once(one: Mirror, held: Held) -> None:
    conflict_id = held()["email"]
    first, second = one.product(), one.product()
    first.execute("SELECT crm_assets.resolve(%s, 'crm')", (conflict_id,))
    second.execute("SET lock_timeout = '200ms'")
    with pytest.raises(psycopg.errors.LockNotAvailable):
        second.execute("SELECT crm_assets.resolve(%s, 'product')", (conflict_id,))
    first.commit()
    second.rollback()
    with pytest.raises(psycopg.errors.RaiseException, match="already settled"):
        second.execute("SELECT crm_assets.resolve(%s, 'product')", (conflict_id,))


def test_discarding_a_conflict_closes_it(one: Mirror, held: Held) -> None:
    held()
    one.write("SELECT crm_assets.discard(%s)", one.outbox()[0]["seq"])
    one.apply()
    assert one.row("003a")["email"] == "crm"
    assert {r["resolution"] for r in one.all("SELECT resolution FROM crm_assets.conflict")} == {"discarded"}


def test_discarding_the_later_of_two_writes_shows_the_earlier_one_again(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "first")
    one.claim(worker)
    one.write(_EMAIL, "second")
    one.seen({"id": "003a", "v": 2, "last_name": "Ada", "email": "crm"})
    one.write("SELECT crm_assets.discard(%s)", one.outbox()[1]["seq"])
    one.apply()
    assert one.row("003a")["email"] == "first"


def test_a_discarded_delete_brings_the_row_back(one: Mirror) -> None:
    row_id = one.row("003a")["row_id"]
    one.write("DELETE FROM salesforce.contact")
    one.write("SELECT crm_assets.discard(%s)", one.outbox()[0]["seq"])
    one.apply()
    assert one.row("003a")["row_id"] == row_id
    assert one.outbox()[0]["reason"].startswith("discarded by ")


@pytest.mark.parametrize("state", ["sending", "confirmed", "superseded", "discarded"])
def test_what_is_done_or_under_way_cannot_be_discarded(one: Mirror, worker: Worker, state: str) -> None:
    one.write(_EMAIL, "x")
    if state in ("sending", "confirmed"):
        (write,) = one.claim(worker)
        if state == "confirmed":
            one.settle(write, "confirmed", id="003a")
    else:
        one.all(f"UPDATE crm_assets.outbox SET state = '{state}'")
    with pytest.raises(psycopg.errors.RaiseException, match=f"is {state} and cannot be discarded"):
        _call(one, "discard(%s)", one.outbox()[0]["seq"])


def test_only_a_rejected_write_can_be_retried(one: Mirror) -> None:
    one.write(_EMAIL, "x")
    with pytest.raises(psycopg.errors.RaiseException, match="only a rejected write"):
        _call(one, "retry(%s)", one.outbox()[0]["seq"])
    with pytest.raises(psycopg.errors.RaiseException, match="no outbox row 999"):
        _call(one, "retry(%s)", 999)


def test_a_later_write_of_another_field_does_not_stop_a_retry(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "first")
    (write,) = one.reject(worker)
    one.apply()
    one.write("UPDATE salesforce.contact SET last_name = 'Other' WHERE id = '003a'")
    assert _call(one, "retry(%s)", write.seq) == "pending"


def test_a_retry_gives_the_write_its_attempts_back(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "x")
    (write,) = one.reject(worker)
    assert one.outbox()[0]["attempts"] == 1 and one.outbox()[0]["reason"] == "no"
    _call(one, "retry(%s)", write.seq)
    row = one.outbox()[0]
    assert (row["attempts"], row["reason"], row["settled_at"]) == (0, None, None)


def test_the_functions_are_the_writers_and_nobody_elses(one: Mirror, reader_url: str) -> None:
    with psycopg.connect(reader_url) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SELECT crm_assets.pause('salesforce')")
    for inner in ("reply(1)", "ask_reread('a', 'b', 'c', 'd')", "raise_floor('a', 'b', 'c', '{}')"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            _call(one, inner)
