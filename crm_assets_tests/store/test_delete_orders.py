"""Deletes in every order: by either side, beside a write in every state, with and without a foreign key, and undone.

One record per state of the write, named by it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from uuid import UUID

import psycopg
import pytest

from crm_assets.core.conflict import Ruling
from crm_assets.core.model import Source
from crm_assets.store import conflicts
from crm_assets.store.worker import Worker
from crm_assets.store.write import Write
from crm_assets_tests.store.kit import CONNECTION, Mirror

STATES = ("pending", "sending", "confirmed", "rejected", "unknown", "conflict")
UNSETTLED = ("pending", "sending", "unknown", "conflict")
CREATES = ("pending", "sending", "confirmed", "rejected", "unknown")


def _observed(state: str, version: int, **values: Any) -> dict[str, Any]:
    return {"id": state, "v": version, "last_name": "L", "email": "theirs", **values}


class Orders:
    """Records named by the state that their write is in."""

    def __init__(self, mirror: Mirror, worker: Worker) -> None:
        self.mirror, self.worker = mirror, worker
        self.row_ids: dict[str, UUID] = {}
        self.sent: dict[str, Write] = {}

    def updates(self) -> None:
        self.mirror.seen(*(_observed(state, 1) for state in STATES))
        self.row_ids = {state: row["row_id"] for state, row in self.mirror.rows().items()}
        self._write("UPDATE salesforce.contact SET email = 'ours' WHERE id <> 'pending'")
        self.mirror.write("UPDATE salesforce.contact SET email = 'ours' WHERE id = 'pending'")

    def creates(self) -> None:
        self._write(
            "INSERT INTO salesforce.contact (last_name) SELECT unnest(%s::text[])",
            [c for c in CREATES if c != "pending"],
        )
        self.mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('pending')")
        self.row_ids = {r["last_name"]: r["row_id"] for r in self.mirror.all("SELECT * FROM salesforce.contact")}

    def _write(self, query: str, *values: Any) -> None:
        self.mirror.write(query, *values)
        for write in self.mirror.claim(self.worker):
            state = write.id or str(write.new["last_name"])
            self.sent[state] = write
            match state:
                case "conflict":
                    ruling = Ruling(hold=frozenset({"email"}))
                    shown = {"email": "edited"}
                    conflicts.settle(self.mirror.db, CONNECTION, self.mirror.obj, write, ruling, shown, None)
                case "confirmed" | "rejected" | "unknown":
                    self.mirror.settle(write, state, id=state if state == "confirmed" else write.id, reason="no")

    def alive(self) -> dict[str, Any]:
        """What the mirror shows of each record that is alive: its email."""
        found = self.mirror.all("SELECT row_id, email FROM salesforce.contact WHERE _deleted_at IS NULL")
        emails = {row["row_id"]: row["email"] for row in found}
        return {state: emails[row_id] for state, row_id in self.row_ids.items() if row_id in emails}

    def buried(self) -> dict[str, str]:
        """Who deleted each record whose tombstone has its row_id."""
        found = self.mirror.all("SELECT row_id, deleted_by FROM crm_assets.tombstone")
        by = {row["row_id"]: row["deleted_by"] for row in found}
        return {state: by[row_id] for state, row_id in self.row_ids.items() if row_id in by}

    def states(self, op: str) -> dict[str, str]:
        found = self.mirror.outbox(f"op = '{op}'")
        return {state: r["state"] for state, row_id in self.row_ids.items() for r in found if r["row_id"] == row_id}

    def crm_deletes(self, *states: str) -> None:
        for state in states:
            self.mirror.gone(state)
        self.mirror.apply()

    def crm_undeletes(self, *states: str) -> None:
        self.mirror.seen(*(_observed(state, 9) for state in states), source=Source.ID)
        self.mirror.apply()


@pytest.fixture
def orders(mirror: Mirror, worker: Worker) -> Orders:
    return Orders(mirror, worker)


Hold = Callable[[], psycopg.Connection[Any]]


@pytest.fixture
def hold(mirror: Mirror, database_url: str) -> Iterator[Hold]:
    """A product's table with a foreign key on every row that is there."""
    with psycopg.connect(database_url, autocommit=True) as owner:

        def make() -> psycopg.Connection[Any]:
            owner.execute("CREATE TABLE public.ticket (contact uuid REFERENCES salesforce.contact (row_id))")
            owner.execute("INSERT INTO public.ticket SELECT row_id FROM salesforce.contact")
            return owner

        yield make


def test_the_crm_deletes_beside_an_update_in_every_state(orders: Orders) -> None:
    orders.updates()
    before = orders.states("update")
    assert before == {state: state for state in STATES}
    orders.crm_deletes(*STATES)
    assert orders.alive() == {}
    assert orders.buried() == dict.fromkeys(STATES, "crm")
    assert orders.states("update") == before, "what the product wrote is settled by write-back, with a reason"
    for state in ("sending", "unknown"):
        orders.mirror.settle(orders.sent[state], "rejected", reason="the record is deleted in the CRM")
    orders.mirror.apply()
    assert orders.alive() == {} and orders.mirror.staged() == 0
    orders.crm_undeletes(*STATES)
    # The row_ids are the old ones; an unsettled value stays the product's.
    held = {"pending", "conflict"}
    assert orders.alive() == {state: "ours" if state in held else "theirs" for state in STATES}
    assert orders.buried() == {}


def test_the_crm_deletes_what_a_foreign_key_holds_beside_an_update_in_every_state(orders: Orders, hold: Hold) -> None:
    orders.updates()
    owner = hold()
    orders.crm_deletes(*STATES)
    assert orders.alive() == {} and orders.buried() == {}
    assert sorted(orders.mirror.drift()) == sorted((state, "delete_blocked") for state in STATES)
    orders.crm_undeletes("pending", "confirmed", "conflict")
    assert orders.alive() == {"pending": "ours", "confirmed": "theirs", "conflict": "ours"}
    owner.execute("DELETE FROM public.ticket")
    orders.crm_deletes(*STATES)
    assert orders.buried() == dict.fromkeys(STATES, "crm") and orders.mirror.drift() == []


def test_the_product_deletes_what_it_held_and_nothing_stays_open(orders: Orders, hold: Hold) -> None:
    """The CRM deleted the records, a foreign key held the rows, and then the product let go of them itself."""
    orders.updates()
    owner = hold()
    orders.crm_deletes(*STATES)
    owner.execute("DELETE FROM public.ticket")
    for state in ("sending", "unknown"):
        orders.mirror.settle(orders.sent[state], "rejected", reason="the record is deleted in the CRM")
    orders.mirror.apply()
    orders.mirror.write("DELETE FROM salesforce.contact")
    orders.crm_deletes("sending", "unknown")  # the read that follows a reply
    deletes = orders.mirror.confirm(orders.worker)
    orders.mirror.apply()
    assert sorted(w.id or "" for w in deletes) == sorted(STATES)
    assert orders.mirror.drift() == []
    assert orders.buried() == dict.fromkeys(STATES, "product")
    assert orders.mirror.value("SELECT count(*) FROM crm_assets.conflict WHERE state = 'open'") == 0


def test_the_product_deletes_beside_an_update_in_every_state(orders: Orders) -> None:
    orders.updates()
    orders.mirror.write("DELETE FROM salesforce.contact")
    assert orders.buried() == dict.fromkeys(STATES, "product")
    assert orders.states("update") == {s: "superseded" if s in ("pending", "conflict") else s for s in STATES}
    assert orders.states("delete") == dict.fromkeys(STATES, "pending")
    # A delete leaves after what was sent before it, and after the read that shows what became of that.
    first = {w.id for w in orders.mirror.claim(orders.worker)}
    assert first == {"pending", "conflict"}
    for state in ("sending", "unknown"):
        orders.mirror.settle(orders.sent[state], "confirmed", id=state)
    orders.mirror.seen(*(_observed(state, 2, email="ours") for state in STATES if state not in first), source=Source.ID)
    assert orders.alive() == {}, "a record that we are about to delete does not return"
    rest = orders.mirror.claim(orders.worker)
    assert {w.id for w in rest} == set(STATES) - first
    assert {w.id: w.base["email"] for w in rest}["sending"] == "ours"


def test_a_confirmed_delete_is_undone_in_the_crm(orders: Orders) -> None:
    orders.updates()
    orders.mirror.write("DELETE FROM salesforce.contact WHERE id IN ('pending', 'conflict')")
    orders.mirror.confirm(orders.worker)
    orders.mirror.apply()
    orders.crm_deletes("pending", "conflict")  # its echo
    assert set(orders.alive()) == set(STATES) - {"pending", "conflict"}
    orders.crm_undeletes("pending", "conflict")
    assert {s: orders.alive()[s] for s in ("pending", "conflict")} == {"pending": "theirs", "conflict": "theirs"}


def test_a_rejected_delete_brings_the_row_back(orders: Orders) -> None:
    orders.updates()
    orders.mirror.write("DELETE FROM salesforce.contact WHERE id IN ('pending', 'conflict')")
    orders.mirror.reject(orders.worker)
    orders.mirror.apply()
    assert set(orders.alive()) == set(STATES)
    assert {"pending", "conflict"} <= set(orders.mirror.rereads())


def test_both_sides_delete(orders: Orders) -> None:
    """Whichever comes first, the record is gone once, and the tombstone is the product's: it was first."""
    orders.updates()
    orders.mirror.write("DELETE FROM salesforce.contact WHERE id IN ('pending', 'conflict')")
    orders.crm_deletes("pending", "conflict")
    orders.mirror.confirm(orders.worker)
    orders.mirror.apply()
    assert {s: orders.buried()[s] for s in ("pending", "conflict")} == {"pending": "product", "conflict": "product"}
    assert orders.mirror.value("SELECT count(*) FROM crm_assets.tombstone") == 2
    assert orders.mirror.staged() == 0


def test_the_product_cannot_delete_what_its_own_foreign_key_holds(orders: Orders, hold: Hold) -> None:
    orders.updates()
    hold()
    with pytest.raises(psycopg.errors.ForeignKeyViolation):
        orders.mirror.write("DELETE FROM salesforce.contact")
    assert orders.states("delete") == {} and set(orders.alive()) == set(STATES)


def test_the_product_deletes_beside_a_create_in_every_state(orders: Orders) -> None:
    orders.creates()
    orders.mirror.write("DELETE FROM salesforce.contact")
    assert orders.states("create") == {
        "pending": "discarded", "sending": "sending", "confirmed": "confirmed", "rejected": "discarded",
        "unknown": "unknown",
    }  # fmt: skip
    assert orders.states("delete") == {
        "pending": "discarded", "sending": "pending", "confirmed": "pending", "rejected": "discarded",
        "unknown": "pending",
    }  # fmt: skip
    assert orders.mirror.claim(orders.worker) == []
    orders.mirror.settle(orders.sent["sending"], "confirmed", id="sending")
    orders.mirror.settle(orders.sent["unknown"], "rejected", reason="never arrived")
    orders.mirror.apply()
    orders.mirror.seen(
        *({"id": state, "v": 2, "last_name": state} for state in ("sending", "confirmed")), source=Source.ID
    )
    assert orders.alive() == {}
    assert {w.id for w in orders.mirror.confirm(orders.worker)} == {"sending", "confirmed"}
    orders.mirror.apply()
    assert orders.states("delete")["unknown"] == "discarded"
    assert set(orders.mirror.states()) <= {
        (o, s) for o in ("create", "delete") for s in ("confirmed", "discarded", "rejected")
    }
    orders.crm_undeletes("sending", "confirmed")
    assert set(orders.alive()) == {"sending", "confirmed"}


@pytest.mark.parametrize("held", [False, True])
def test_the_crm_deletes_a_record_whose_create_is_in_every_state(orders: Orders, hold: Hold, held: bool) -> None:
    """``sending`` and ``unknown`` have arrived all the same: their records are gone before we know their ids."""
    orders.creates()
    arrived = ("sending", "confirmed", "unknown")
    orders.mirror.apply()
    owner = hold() if held else None
    orders.crm_deletes(*arrived)
    for state in ("sending", "unknown"):
        orders.mirror.settle(orders.sent[state], "confirmed", id=state)
    orders.mirror.apply()
    assert set(orders.mirror.rereads()) >= {"sending", "unknown"}, "whether they are still gone is read"
    orders.crm_deletes(*arrived)
    assert set(orders.alive()) == {"pending", "rejected"}
    if owner is not None:
        assert sorted(orders.mirror.drift()) == sorted((state, "delete_blocked") for state in arrived)
        owner.execute("DELETE FROM public.ticket")
        orders.crm_deletes(*arrived)
    assert orders.buried() == dict.fromkeys(arrived, "crm") and orders.mirror.drift() == []
    orders.mirror.seen(*({"id": s, "v": 9, "email": "theirs"} for s in arrived), source=Source.ID)
    assert {s: orders.alive()[s] for s in arrived} == dict.fromkeys(arrived, "theirs")


def test_deletions_of_unknown_ids_are_remembered_in_the_batch(mirror: Mirror) -> None:
    """They take no transaction each, are no reason for the guard, and what was read later may still lift them."""
    calls: list[str] = []
    with mirror.before("_deleted_at, to_jsonb(m)", lambda: calls.append("one by one"), must=False):
        for number in range(20):
            mirror.gone(f"x{number:02d}", 5, Source.LIST)
        mirror.gone("y")
        mirror.observe({"id": "y", "v": 1, "email": "alive"}, source=Source.ID)
        mirror.apply()
    assert calls == []
    assert mirror.value("SELECT count(*) FROM crm_assets.tombstone WHERE approved") >= 20
    mirror.apply()
    assert list(mirror.rows()) == ["y"] and mirror.staged() == 0
    assert mirror.seen({"id": "x01", "v": 6}).reread == 1
