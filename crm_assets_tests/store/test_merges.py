"""Merges made in the CRM, in every order of arrival."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import permutations
from typing import Any

import pytest

from crm_assets.core.model import Source
from crm_assets.store import merges
from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import CONNECTION, Mirror

A, B, C = "003a", "003b", "003c"


@pytest.fixture
def three(mirror: Mirror) -> Mirror:
    mirror.seen(*({"id": i, "v": 1, "last_name": i} for i in (A, B, C)))
    return mirror


def _told(mirror: Mirror, *pairs: tuple[str, str]) -> None:
    with mirror.db.transaction() as conn:
        merges.note(conn, CONNECTION, "contact", pairs, mirror.db.now())


def _aliases(mirror: Mirror) -> dict[str, tuple[Any, str]]:
    return {r["id"]: (r["survivor"], r["survivor_id"]) for r in mirror.all("SELECT * FROM crm_assets.alias")}


def _lost(mirror: Mirror, loser: str, survivor: str, v: int) -> None:
    """As a read shows a merge: the loser deleted, and whom it was merged into."""
    mirror.observe({"id": loser, "v": v, "_deleted": True, "last_name": loser})
    _told(mirror, (loser, survivor))


def test_the_loser_leaves_and_leads_to_the_survivor(three: Mirror) -> None:
    row_ids = {i: r["row_id"] for i, r in three.rows().items()}
    _lost(three, A, B, 5)
    three.apply()
    assert set(three.rows()) == {B, C}
    assert _aliases(three) == {A: (row_ids[B], B)}
    assert three.value("SELECT row_id FROM crm_assets.tombstone WHERE id = %s", A) == row_ids[A]
    assert three.value("SELECT row_id FROM crm_assets.alias") == row_ids[A]


def test_a_chain_ends_alike_in_every_order(mirror: Mirror) -> None:
    """A into B, B into C: deletions, survivors' changes and the facts come as they like, and twice."""
    for number, order in enumerate(permutations(range(4))):
        a, b, c = (f"003{number:02}{letter}" for letter in "abc")
        mirror.seen(*({"id": i, "v": 1, "last_name": i} for i in (a, b, c)))
        row_id = mirror.row(c)["row_id"]
        steps: list[Callable[[], object]] = [
            partial(_lost, mirror, a, b, 5),
            partial(_lost, mirror, b, c, 6),
            partial(mirror.observe, {"id": b, "v": 5, "last_name": "B"}),
            partial(mirror.observe, {"id": c, "v": 6, "last_name": "C"}),
        ]
        for step in (*order, *order):
            steps[step]()
            mirror.apply()
        assert {i for i in mirror.rows() if i in (a, b, c)} == {c}, order
        assert mirror.row(c)["last_name"] == "C"
        aliases = _aliases(mirror)
        assert (aliases[a], aliases[b]) == ((row_id, c), (row_id, c)), order
    assert mirror.staged() == 0 and mirror.value("SELECT count(*) FROM crm_assets.merge WHERE done_at IS NULL") == 0


def test_a_loser_that_no_read_shows_as_deleted_leaves_as_well(three: Mirror) -> None:
    """Some CRMs only tell at the survivor what was merged into it."""
    _told(three, (A, B))
    assert three.apply().deleted == 1
    assert set(three.rows()) == {B, C} and set(_aliases(three)) == {A}


def test_records_that_were_never_here_are_led_to_their_survivor_once_it_is(mirror: Mirror) -> None:
    _lost(mirror, A, B, 5)
    mirror.apply()
    assert _aliases(mirror) == {A: (None, B)}
    mirror.seen({"id": B, "v": 5})
    assert _aliases(mirror) == {A: (mirror.row(B)["row_id"], B)}


def test_references_follow_and_so_do_the_bases_of_waiting_writes(three: Mirror, worker: Worker) -> None:
    three.seen({"id": C, "v": 2, "reports_to_id": A}, {"id": "003d", "v": 2, "reports_to_id": A})
    three.write("UPDATE salesforce.contact SET reports_to_id = NULL WHERE id = %s", C)
    _lost(three, A, B, 5)
    three.apply()
    assert three.row("003d")["reports_to_id"] == B
    assert three.row(C)["reports_to_id"] is None
    (write,) = three.claim(worker)
    assert write.base == {"reports_to_id": B}, "what the CRM did to the reference is no conflict"


def test_a_reference_to_the_loser_is_sent_as_one_to_the_survivor(three: Mirror, worker: Worker) -> None:
    loser = three.row(A)["row_id"]
    three.write("UPDATE salesforce.contact SET reports_to_id = %s WHERE id = %s", A, C)
    three.write("INSERT INTO salesforce.contact (last_name, reports_to_id) VALUES ('New', %s)", str(loser))
    _lost(three, A, B, 5)
    three.apply()
    assert [w.new["reports_to_id"] for w in three.claim(worker)] == [B, B]


def test_a_locked_reference_is_repointed_by_a_later_pass(three: Mirror) -> None:
    three.seen({"id": C, "v": 2, "reports_to_id": A})
    product = three.product()
    product.execute("UPDATE salesforce.contact SET email = 'x' WHERE id = %s", (C,))
    _lost(three, A, B, 5)
    three.apply()
    assert three.row(C)["reports_to_id"] == A and set(_aliases(three)) == {A}
    product.commit()
    three.apply()
    assert three.row(C)["reports_to_id"] == B


def test_writes_of_the_loser_are_kept_and_say_why(three: Mirror, worker: Worker) -> None:
    three.write("UPDATE salesforce.contact SET email = 'mine' WHERE id = %s", A)
    _lost(three, A, B, 5)
    three.apply()
    (write,) = three.outbox()
    assert (write["state"], write["new"]) == ("rejected", {"email": "mine"})
    assert write["reason"] == f"the record was merged into {B} in the CRM"
    assert three.claim(worker) == []


def test_the_products_delete_of_the_loser_goes_its_own_way(three: Mirror, worker: Worker) -> None:
    three.write("DELETE FROM salesforce.contact WHERE id = %s", A)
    _lost(three, A, B, 5)
    three.apply()
    assert three.states() == [("delete", "pending")] and set(_aliases(three)) == {A}
    assert set(three.rows()) == {B, C}


def test_a_loser_that_is_undeleted_stands_for_itself_again(three: Mirror) -> None:
    row_id = three.row(A)["row_id"]
    early = three.db.now()
    _lost(three, A, B, 5)
    three.apply()
    three.seen({"id": A, "v": 9, "last_name": "Back"}, source=Source.ID)
    assert three.row(A)["row_id"] == row_id and _aliases(three) == {}
    # A page that was read before, and landed only now.
    with three.db.transaction() as conn:
        merges.note(conn, CONNECTION, "contact", [(A, B)], early)
    three.apply()
    assert set(three.rows()) == {A, B, C} and _aliases(three) == {}


def test_a_loser_that_a_foreign_key_holds_stays_marked(three: Mirror) -> None:
    three.all("CREATE TABLE public.ticket (contact uuid REFERENCES salesforce.contact (row_id))")
    three.all("INSERT INTO public.ticket SELECT row_id FROM salesforce.contact WHERE id = %s", A)
    _lost(three, A, B, 5)
    three.apply()
    three.apply()
    assert three.row(A)["_deleted_at"] is not None and set(_aliases(three)) == {A}
    assert three.drift() == [(A, "delete_blocked")]
