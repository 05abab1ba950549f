"""Deletes: listed with their time, and gone from reads by id."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from crm_assets.core.model import Window
from crm_assets_tests.contract.crms import Crm
from crm_assets_tests.plugins.sandbox import wait_until


def _create(crm: Crm, seq: int) -> str:
    (outcome,) = crm.connector.write(crm.obj, [crm.create(seq)])
    assert outcome.id is not None
    return outcome.id


def test_a_deleted_record_is_listed_and_no_longer_read(crm: Crm) -> None:
    kept, gone = _create(crm, 1), _create(crm, 2)
    before = datetime.now(UTC) - timedelta(seconds=5)
    crm.sandbox.delete(crm.vendor.object, gone)
    window = Window(before, datetime.now(UTC) + timedelta(minutes=1))
    listed = wait_until(lambda: {d.id: d.at for d in crm.connector.deletes(crm.obj, window)})
    assert kept not in listed and listed[gone] >= before - timedelta(minutes=1)
    rows = crm.connector.fetch(crm.obj, [kept, gone]).table.to_pylist()
    assert {row["id"] for row in rows if not row["_deleted"]} == {kept}
    assert gone not in [i for page in crm.connector.ids(crm.obj) for i in page]


def test_an_undeleted_record_is_read_again(crm: Crm) -> None:
    if not crm.vendor.undeletes:
        return
    record_id = _create(crm, 3)
    crm.sandbox.delete(crm.vendor.object, record_id)
    crm.sandbox.undelete(crm.vendor.object, record_id)
    (row,) = crm.connector.fetch(crm.obj, [record_id]).table.to_pylist()
    assert not row["_deleted"]
