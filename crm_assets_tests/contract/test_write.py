"""Writes: one outcome each, creates once however often they are sent, and what is gone is told apart."""

from __future__ import annotations

import uuid

from crm_assets.core.errors import RejectedError
from crm_assets.core.model import Mutation, Op, Result
from crm_assets_tests.contract.crms import Crm


def test_each_record_of_a_batch_has_its_own_outcome(crm: Crm) -> None:
    good, bad, other = crm.create(1), crm.create(2, crm.vendor.bad), crm.create(3)
    outcomes = {o.seq: o for o in crm.connector.write(crm.obj, [good, bad, other])}
    assert {seq: o.result for seq, o in outcomes.items()} == {
        1: Result.CONFIRMED,
        2: Result.REJECTED,
        3: Result.CONFIRMED,
    }
    assert outcomes[2].reason and outcomes[2].fields and "no address" not in outcomes[2].reason
    column, name = crm.vendor.text
    record_id = outcomes[1].id or ""
    assert crm.named(record_id)[name] == good.values[column]
    assert crm.named(record_id)[crm.vendor.external_id] == str(good.row_id)


def test_a_create_that_is_sent_twice_arrives_once(crm: Crm) -> None:
    create = crm.create(1)
    (first,), (again,) = crm.connector.write(crm.obj, [create]), crm.connector.write(crm.obj, [create])
    assert first.id == again.id and again.result is Result.CONFIRMED
    found = crm.connector.lookup(crm.obj, [str(create.row_id), str(uuid.uuid4())]).table
    assert found["id"].to_pylist() == [first.id]


def test_updates_and_deletes_and_what_is_gone(crm: Crm) -> None:
    (made,) = crm.connector.write(crm.obj, [crm.create(1)])
    column, name = crm.vendor.text
    row_id = uuid.uuid4()
    update = Mutation(2, Op.UPDATE, row_id, made.id, {column: "Changed"})
    (done,) = crm.connector.write(crm.obj, [update])
    assert done.result is Result.CONFIRMED and crm.named(made.id or "")[name] == "Changed"
    (cleared,) = crm.connector.write(crm.obj, [Mutation(3, Op.UPDATE, row_id, made.id, {column: None})])
    assert cleared.result is Result.CONFIRMED and crm.named(made.id or "")[name] in (None, "")
    (deleted,) = crm.connector.write(crm.obj, [Mutation(4, Op.DELETE, row_id, made.id)])
    assert deleted.result is Result.CONFIRMED and made.id not in crm.ids
    (again,) = crm.connector.write(crm.obj, [Mutation(5, Op.DELETE, row_id, made.id)])
    assert again.result in (Result.CONFIRMED, Result.GONE)
    try:
        (late,) = crm.connector.write(crm.obj, [update])
    except RejectedError:
        return
    assert late.result in (Result.GONE, Result.UNKNOWN)


def test_a_full_batch(crm: Crm) -> None:
    creates = [crm.create(n) for n in range(crm.connector.max_write)]
    outcomes = crm.connector.write(crm.obj, creates)
    assert {o.result for o in outcomes} == {Result.CONFIRMED}
    assert sorted(o.seq for o in outcomes) == [c.seq for c in creates]
    by_row = {str(c.row_id): c.seq for c in creates}
    seqs = {o.id: o.seq for o in outcomes}
    found = crm.connector.lookup(crm.obj, list(by_row)).table
    column = crm.obj.external_id_column
    assert {row["id"]: by_row[row[column]] for row in found.to_pylist()} == seqs
