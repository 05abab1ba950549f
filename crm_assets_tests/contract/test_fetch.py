"""Fetch by id: what is there, and by their absence what is not."""

from __future__ import annotations

from crm_assets_tests.contract.crms import Crm


def test_records_are_read_by_id(crm: Crm) -> None:
    wanted = crm.ids[:3]
    table = crm.connector.fetch(crm.obj, wanted).table
    assert sorted(table["id"].to_pylist()) == wanted and table.schema.equals(crm.obj.page_schema())


def test_an_unknown_id_is_absent_and_harms_nobody(crm: Crm) -> None:
    known = crm.ids[0]
    assert crm.connector.fetch(crm.obj, [known, crm.vendor.unknown]).table["id"].to_pylist() == [known]
    assert crm.connector.fetch(crm.obj, []).table.num_rows == 0


def test_as_many_as_it_says(crm: Crm) -> None:
    wanted = crm.ids[: crm.connector.max_fetch]
    assert sorted(crm.connector.fetch(crm.obj, wanted).table["id"].to_pylist()) == wanted
