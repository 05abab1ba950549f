"""The blast-radius guard: many deletions wait for a person, everything else goes on."""

from __future__ import annotations

from dataclasses import replace

import psycopg
import pytest

from crm_assets.core.model import Guard, Rules
from crm_assets.store.guards import exceeded
from crm_assets.store.status import oldest_unsynced_seconds, status
from crm_assets.store.worker import Worker
from crm_assets_tests.store.conftest import MakeMirror
from crm_assets_tests.store.kit import CONNECTION, CONTACT, Mirror, wait_until

_GUARD = Guard(delete_share=0.2, delete_rows=3)
_IDS = [f"003{n:02}" for n in range(10)]


@pytest.fixture
def ten(make_mirror: MakeMirror) -> Mirror:
    """Ten records; more than three and more than a fifth of them are too many to delete at once."""
    made = make_mirror(replace(CONTACT, rules=Rules(guard=_GUARD)))
    made.seen(*({"id": record_id, "v": 1, "last_name": "A"} for record_id in _IDS))
    return made


def _guard(mirror: Mirror) -> dict[str, object]:
    return mirror.one("SELECT * FROM crm_assets.guard WHERE state = 'open'")


def _gone(mirror: Mirror, *ids: str) -> None:
    for record_id in ids:
        mirror.gone(record_id, 5)


@pytest.mark.parametrize(("deletes", "records", "held"), [(3, 4, False), (4, 20, False), (4, 19, True), (4, 4, True)])
def test_both_bounds_must_be_passed(deletes: int, records: int, held: bool) -> None:
    assert exceeded(_GUARD, deletes, records) is held


def test_many_deletions_of_the_crm_wait_and_the_rest_does_not(ten: Mirror) -> None:
    _gone(ten, *_IDS[:4])
    ten.observe({"id": _IDS[5], "v": 5, "last_name": "B"}, {"id": "003zz", "v": 5})
    done = ten.apply(batch=2)
    assert (done.deleted, done.updated, done.inserted) == (0, 1, 1)
    assert set(ten.rows()) == {*_IDS, "003zz"}
    guard = _guard(ten)
    assert (guard["direction"], guard["rows"], guard["records"]) == ("in", 4, 10)
    shown = status(ten.db)
    assert shown["ok"] is False
    assert [g["rows"] for g in shown["connections"][CONNECTION]["guards"]] == [4]
    with ten.db.transaction() as conn:
        assert oldest_unsynced_seconds(conn, CONNECTION, "contact") is not None


def test_approved_deletions_are_done_and_later_ones_weighed_anew(ten: Mirror) -> None:
    _gone(ten, *_IDS[:4])
    ten.apply()
    ten.write("SELECT crm_assets.approve(%s)", _guard(ten)["guard_id"])
    assert ten.apply().deleted == 4
    assert set(ten.rows()) == set(_IDS[4:]) and ten.staged() == 0
    assert status(ten.db)["ok"] is True
    _gone(ten, *_IDS[4:7])
    assert ten.apply().deleted == 3
    _gone(ten, *_IDS[7:9])
    assert ten.apply().deleted == 0, "five within ten minutes, counted together"
    with pytest.raises(psycopg.errors.RaiseException, match="already approved"):
        ten.write("SELECT crm_assets.approve(%s)", ten.value("SELECT min(guard_id) FROM crm_assets.guard"))


def test_what_the_crm_undeletes_meanwhile_survives_the_approval(ten: Mirror) -> None:
    _gone(ten, *_IDS[:4])
    ten.apply()
    guard_id = _guard(ten)["guard_id"]
    with pytest.raises(psycopg.errors.RaiseException, match="holds deletions made in the CRM"):
        ten.write("SELECT crm_assets.decline(%s)", guard_id)
    ten.seen({"id": _IDS[0], "v": 9, "last_name": "Back"})
    ten.write("SELECT crm_assets.approve(%s)", guard_id)
    ten.apply()
    assert set(ten.rows()) == {_IDS[0], *_IDS[4:]}


def test_deletions_of_records_that_are_not_here_are_not_counted(ten: Mirror) -> None:
    ten.observe(*({"id": f"003n{n}", "v": 1, "_deleted": True} for n in range(20)))
    assert ten.apply().deleted == 0
    assert ten.all("SELECT 1 FROM crm_assets.guard") == []
    assert ten.value("SELECT count(*) FROM crm_assets.tombstone") == 20


def test_many_deletions_of_the_product_wait_and_its_other_writes_do_not(ten: Mirror, worker: Worker) -> None:
    ten.write("DELETE FROM salesforce.contact WHERE id < '00304'")
    ten.write("UPDATE salesforce.contact SET email = 'new' WHERE id = '00305'")
    assert [w.op for w in ten.claim(worker, limit=2)] == ["update"]
    guard = _guard(ten)
    assert (guard["direction"], guard["rows"], guard["records"]) == ("out", 4, 10)
    assert {r["waiting_for"] for r in ten.outbox("op = 'delete'")} == {f"guard {guard['guard_id']}"}
    ten.write("SELECT crm_assets.approve(%s)", guard["guard_id"])
    assert [w.op for w in ten.claim(worker)] == ["delete"] * 4


def test_declined_deletions_bring_the_rows_back(ten: Mirror, worker: Worker) -> None:
    before = ten.rows()
    ten.write("DELETE FROM salesforce.contact WHERE id < '00304'")
    ten.claim(worker)
    ten.write("SELECT crm_assets.decline(%s)", _guard(ten)["guard_id"])
    ten.apply()
    after = ten.rows()
    assert {i: r["row_id"] for i, r in after.items()} == {i: r["row_id"] for i, r in before.items()}
    assert {r["state"] for r in ten.outbox()} == {"discarded"}
    assert ten.claim(worker) == [] and status(ten.db)["ok"] is True


def test_a_bulk_deletion_that_commits_during_a_claim_is_seen_whole(
    ten: Mirror, worker: Worker, database_url: str
) -> None:
    """Two workers choose at once: neither sends a part of what one transaction deleted."""
    ten.write("DELETE FROM salesforce.contact WHERE id < '00304'")
    with Worker(database_url) as other, psycopg.connect(database_url) as holder:
        holder.execute("SELECT FROM crm_assets.outbox ORDER BY seq LIMIT 2 FOR UPDATE")
        assert ten.claim(worker, limit=1) == []
        holder.rollback()
        assert ten.claim(other, limit=1) == []
    wait_until(lambda: ten.value("SELECT count(*) FROM crm_assets.outbox WHERE guard_id IS NOT NULL") == 4)


def test_deletions_that_trickle_in_are_counted_together(ten: Mirror, worker: Worker) -> None:
    for n in range(5):
        ten.write("DELETE FROM salesforce.contact WHERE id = %s", _IDS[n])
        ten.confirm(worker)
    assert [r["state"] for r in ten.outbox()] == ["confirmed"] * 3 + ["pending"] * 2
