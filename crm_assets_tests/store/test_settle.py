"""Settle: outcomes and what they ask for; and the conflict that is held."""

from __future__ import annotations

from dataclasses import replace

import pytest

from crm_assets.core.conflict import Ruling
from crm_assets.core.model import Policy, Rules
from crm_assets.store import conflicts, outbox
from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import CONNECTION, Mirror

_EMAIL_HELD = Ruling(hold=frozenset({"email"}))
_BOTH = "UPDATE salesforce.contact SET email = 'mine', last_name = 'Mine' WHERE id = '003a'"


@pytest.fixture
def one(mirror: Mirror) -> Mirror:
    mirror.seen({"id": "003a", "v": 1, "last_name": "Ada", "email": "old"})
    return mirror


@pytest.mark.parametrize("state", ["confirmed", "rejected"])
def test_a_written_record_is_read_again(one: Mirror, worker: Worker, state: str) -> None:
    one.write(_BOTH)
    (write,) = one.claim(worker)
    one.settle(write, state, id="003a")
    assert one.rereads() == ["003a"]
    floor = one.one("SELECT id, fields FROM crm_assets.floor")
    assert floor == {"id": "003a", "fields": ["email", "last_name"]}


def test_a_confirmed_delete_is_not_read_again(one: Mirror, worker: Worker) -> None:
    one.write("DELETE FROM salesforce.contact")
    one.confirm(worker)
    assert one.rereads() == [] and one.all("SELECT * FROM crm_assets.floor") == []


def test_an_outcome_that_came_too_late_changes_nothing(one: Mirror, worker: Worker) -> None:
    one.write(_BOTH)
    (write,) = one.claim(worker)
    assert one.settle(write, "confirmed", id="003a") == 1
    assert one.settle(write, "rejected", reason="late") == 0
    assert one.states() == [("update", "confirmed")]


def test_settled_and_returned_writes_are_nobodys(one: Mirror, worker: Worker) -> None:
    one.write(_BOTH)
    (write,) = one.claim(worker)
    row = one.outbox()[0]
    assert row["claimed_by"] == worker.name and row["lease_until"] is not None and row["settled_at"] is None
    one.settle(write, "pending")
    assert one.outbox()[0]["claimed_by"] is None and one.outbox()[0]["lease_until"] is None
    one.confirm(worker)
    assert one.outbox()[0]["settled_at"] is not None


def test_what_the_crm_showed_meanwhile_is_what_a_rejected_field_returns_to(one: Mirror, worker: Worker) -> None:
    one.write(_BOTH)
    (write,) = one.claim(worker)
    one.seen({"id": "003a", "v": 2, "last_name": "Ada", "email": "theirs"})
    one.settle(write, "rejected", reason="no")
    one.apply()
    assert (one.row("003a")["email"], one.row("003a")["last_name"]) == ("theirs", "Ada")


def test_a_write_with_mixed_outcomes_is_split(one: Mirror, worker: Worker) -> None:
    one.write(_BOTH)
    (write,) = one.claim(worker)
    rest = conflicts.settle(one.db, CONNECTION, one.obj, write, _EMAIL_HELD, {"email": "crm"}, "v2")
    assert rest is not None
    assert (rest.seq, rest.base, rest.new) == (write.seq, {"last_name": "Ada"}, {"last_name": "Mine"})
    sending, conflict = one.outbox()
    assert (sending["state"], sending["new"]) == ("sending", {"last_name": "Mine"})
    assert (conflict["state"], conflict["base"], conflict["new"]) == ("conflict", {"email": "old"}, {"email": "mine"})
    assert (conflict["theirs"], conflict["theirs_version"]) == ({"email": "crm"}, "v2")
    assert conflict["created_at"] == sending["created_at"] and conflict["actor"] == sending["actor"]
    held = one.one("SELECT seq, field, base, ours, theirs, state FROM crm_assets.conflict")
    assert held == {
        "seq": conflict["seq"],
        "field": "email",
        "base": "old",
        "ours": "mine",
        "theirs": "crm",
        "state": "open",
    }
    # The product's value stays in the mirror until somebody decides.
    assert one.row("003a")["email"] == "mine"


def test_a_write_that_conflicts_as_a_whole_is_the_conflict(one: Mirror, worker: Worker) -> None:
    one.write(_BOTH)
    (write,) = one.claim(worker)
    theirs = {"email": "crm", "last_name": "Crm"}
    assert conflicts.settle(one.db, CONNECTION, one.obj, write, Ruling(hold=frozenset(theirs)), theirs, "v2") is None
    assert one.states() == [("update", "conflict")]
    assert one.value("SELECT count(*) FROM crm_assets.conflict WHERE state = 'open'") == 2


def test_a_write_that_is_settled_already_is_not_held(one: Mirror, worker: Worker) -> None:
    one.write(_BOTH)
    (write,) = one.confirm(worker)
    assert conflicts.settle(one.db, CONNECTION, one.obj, write, _EMAIL_HELD, {}, None) is None
    assert one.all("SELECT * FROM crm_assets.conflict") == []


def test_a_delete_closes_the_conflicts_of_its_record(one: Mirror, worker: Worker) -> None:
    one.write("UPDATE salesforce.contact SET email = 'mine' WHERE id = '003a'")
    (write,) = one.claim(worker)
    conflicts.settle(one.db, CONNECTION, one.obj, write, _EMAIL_HELD, {"email": "crm"}, "v2")
    one.write("DELETE FROM salesforce.contact")
    assert one.states() == [("update", "superseded"), ("delete", "pending")]
    assert one.one("SELECT state, resolution FROM crm_assets.conflict") == {
        "state": "resolved",
        "resolution": "deleted",
    }


def test_pause_and_resume(one: Mirror) -> None:
    one.write("SELECT crm_assets.pause('salesforce')")
    assert outbox.paused(one.db, CONNECTION) and not outbox.paused(one.db, "hubspot")
    one.write("SELECT crm_assets.resume('salesforce')")
    assert not outbox.paused(one.db, CONNECTION)


def _crm_wins(one: Mirror) -> None:
    one.obj = replace(one.obj, rules=Rules(fields=(("email", Policy.CRM_WINS),)))


def test_what_the_crm_wins_is_kept_as_a_discarded_part_and_shown(one: Mirror, worker: Worker) -> None:
    _crm_wins(one)
    one.write(_BOTH)
    (write,) = one.claim(worker)
    ruling = Ruling(crm=frozenset({"email"}))
    rest = conflicts.settle(one.db, CONNECTION, one.obj, write, ruling, {"email": "crm"}, "v2")
    assert rest is not None and rest.new == {"last_name": "Mine"}
    one.apply()
    assert (one.row("003a")["email"], one.row("003a")["last_name"]) == ("crm", "Mine")
    (lost,) = one.outbox("state = 'discarded'")
    assert (lost["base"], lost["new"], lost["theirs"]) == ({"email": "old"}, {"email": "mine"}, {"email": "crm"})
    kept = one.one("SELECT ours, theirs, policy, state, resolution, resolved_by FROM crm_assets.conflict")
    assert tuple(kept.values()) == ("mine", "crm", "crm_wins", "resolved", "crm", "policy")


def test_where_the_crm_wins_later_writes_of_the_field_are_discarded_too(one: Mirror, worker: Worker) -> None:
    _crm_wins(one)
    one.write("UPDATE salesforce.contact SET email = 'mine' WHERE id = '003a'")
    (write,) = one.claim(worker)
    one.write("UPDATE salesforce.contact SET email = 'later', last_name = 'Later' WHERE id = '003a'")
    one.write("UPDATE salesforce.contact SET email = 'last' WHERE id = '003a'")
    ruling = Ruling(crm=frozenset({"email"}))
    assert conflicts.settle(one.db, CONNECTION, one.obj, write, ruling, {"email": "crm"}, "v2") is None
    one.apply()
    assert (one.row("003a")["email"], one.row("003a")["last_name"]) == ("crm", "Later")
    assert [(w["new"], w["state"]) for w in one.outbox()] == [
        ({"email": "mine"}, "discarded"),
        ({"last_name": "Later"}, "pending"),
        ({"email": "last"}, "discarded"),
        ({"email": "later"}, "discarded"),
    ]


def test_what_the_product_wins_goes_on_and_is_recorded(one: Mirror, worker: Worker) -> None:
    one.obj = replace(one.obj, rules=Rules(conflict=Policy.PRODUCT_WINS))
    one.write(_BOTH)
    (write,) = one.claim(worker)
    ruling = Ruling(product=frozenset({"email"}))
    rest = conflicts.settle(one.db, CONNECTION, one.obj, write, ruling, {"email": "crm"}, "v2")
    assert rest == write and one.states() == [("update", "sending")]
    kept = one.one("SELECT field, theirs, state, resolution FROM crm_assets.conflict")
    assert tuple(kept.values()) == ("email", "crm", "resolved", "product")


def test_three_winners_of_one_write(one: Mirror, worker: Worker) -> None:
    one.write("UPDATE salesforce.contact SET email = 'mine', last_name = 'Mine', amount = 1 WHERE id = '003a'")
    (write,) = one.claim(worker)
    ruling = Ruling(hold=frozenset({"email"}), crm=frozenset({"last_name"}), product=frozenset({"amount"}))
    theirs = {"email": "c", "last_name": "C", "amount": 2}
    rest = conflicts.settle(one.db, CONNECTION, one.obj, write, ruling, theirs, "v2")
    assert rest is not None and rest.new == {"amount": 1}
    assert sorted((w["state"], *w["new"]) for w in one.outbox()) == [
        ("conflict", "email"),
        ("discarded", "last_name"),
        ("sending", "amount"),
    ]
    assert one.value("SELECT count(*) FROM crm_assets.conflict WHERE state = 'open'") == 1


def test_the_version_that_first_had_the_crms_value_is_kept(one: Mirror) -> None:
    one.write(_BOTH)
    one.seen({"id": "003a", "v": 2, "last_name": "Ada", "email": "theirs"})
    one.seen({"id": "003a", "v": 3, "last_name": "Other", "email": "theirs"})
    (write,) = one.outbox()
    assert write["theirs_since"]["email"].startswith("2026-01-01 00:00:02")
    assert write["theirs_since"]["last_name"].startswith("2026-01-01 00:00:03")
