"""References to rows that have no id yet, or none any more."""

from __future__ import annotations

from uuid import UUID

import pytest

from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import Mirror

A = UUID("019b0000-0000-7000-8000-00000000000a")
B = UUID("019b0000-0000-7000-8000-00000000000b")
C = UUID("019b0000-0000-7000-8000-00000000000c")


def _insert(mirror: Mirror, *rows: tuple[UUID, UUID | None]) -> None:
    for row_id, chief in rows:
        mirror.write(
            "INSERT INTO salesforce.contact (row_id, last_name, reports_to_id) VALUES (%s, %s, %s)",
            row_id,
            str(row_id)[-1],
            chief and str(chief),
        )


def _confirm_all(mirror: Mirror, worker: Worker) -> list[tuple[str, UUID, dict[str, object]]]:
    """Send until nothing more can be sent; what was sent, in order."""
    sent = []
    while writes := mirror.claim(worker):
        for write in writes:
            sent.append((write.op.value, write.row_id, dict(write.new)))
            record_id = write.id or f"003{str(write.row_id)[-1]}"
            mirror.settle(write, "confirmed", id=record_id)
        mirror.apply()
        mirror.all("DELETE FROM crm_assets.floor")
    return sent


def test_a_child_waits_for_its_parent_and_is_due_at_once(mirror: Mirror, worker: Worker) -> None:
    _insert(mirror, (A, B), (B, None))
    sent = _confirm_all(mirror, worker)
    assert [row_id for _, row_id, _ in sent] == [B, A]
    assert sent[1][2]["reports_to_id"] == "003b"


def test_a_waiting_child_says_for_whom(mirror: Mirror, worker: Worker) -> None:
    _insert(mirror, (A, B))
    assert mirror.claim(worker) == []
    assert mirror.outbox()[0]["waiting_for"] == f"reports_to_id {B}"


@pytest.mark.parametrize(
    "rows",
    [[(A, A)], [(A, B), (B, A)], [(A, B), (B, C), (C, A)], [(B, A), (A, C), (C, B)]],
    ids=["itself", "two", "three", "three, another order"],
)
def test_a_circle_is_closed_by_an_update_after_its_creates(
    mirror: Mirror, worker: Worker, rows: list[tuple[UUID, UUID]]
) -> None:
    _insert(mirror, *rows)
    sent = _confirm_all(mirror, worker)
    creates = [row_id for op, row_id, _ in sent if op == "create"]
    assert sorted(creates) == sorted(row_id for row_id, _ in rows), "each exactly once"
    ((op, last, new),) = [one for one in sent if one[0] == "update"]
    assert new == {"reports_to_id": f"003{str(dict(rows)[last])[-1]}"} and sent[-1] == (op, last, new)
    assert {r["state"] for r in mirror.outbox()} == {"confirmed"}


def test_the_child_of_a_rejected_parent_is_rejected_and_names_it(mirror: Mirror, worker: Worker) -> None:
    _insert(mirror, (A, B), (B, None), (C, A))
    (parent,) = mirror.claim(worker)
    mirror.settle(parent, "rejected", reason="no such name")
    assert mirror.claim(worker) == [] == mirror.claim(worker)
    reasons = {r["row_id"]: r["reason"] for r in mirror.outbox("state = 'rejected'")}
    assert reasons[A] == f"reports_to_id: the create of contact {B} was rejected (no such name)"
    assert reasons[C].startswith(f"reports_to_id: the create of contact {A} was rejected (")


def test_the_child_of_a_withdrawn_parent_is_rejected(mirror: Mirror, worker: Worker) -> None:
    _insert(mirror, (B, None), (A, B))
    mirror.write("DELETE FROM salesforce.contact WHERE row_id = %s", B)
    assert mirror.claim(worker) == []
    assert mirror.outbox("op = 'create' AND state = 'rejected'")[0]["reason"].endswith("never reached the CRM")


def test_an_update_gets_the_id_too(mirror: Mirror, worker: Worker) -> None:
    mirror.seen({"id": "003a", "v": 1})
    _insert(mirror, (B, None))
    mirror.write("UPDATE salesforce.contact SET reports_to_id = %s WHERE id = '003a'", str(B))
    sent = _confirm_all(mirror, worker)
    assert [(op, new.get("reports_to_id")) for op, _, new in sent] == [("create", None), ("update", "003b")]
