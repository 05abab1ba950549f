"""Full read: every record once, in the described shape, and again from a place inside it."""

from __future__ import annotations

from dataclasses import replace

from crm_assets_tests.contract.crms import TIED, Crm


def test_every_record_comes_once(crm: Crm) -> None:
    table = crm.read()
    live = table.filter([not gone for gone in table["_deleted"].to_pylist()])
    assert sorted(live["id"].to_pylist()) == crm.ids and live.num_rows >= TIED
    assert table.schema.equals(crm.obj.page_schema())
    assert table["_version"].null_count == 0


def test_values_are_the_records(crm: Crm) -> None:
    truth = crm.sandbox.alive(crm.vendor.object)
    column, name = crm.vendor.text
    shown = {row["id"]: row[column] for row in crm.read().select(["id", column]).to_pylist()}
    assert {key: shown[key] for key in truth} == {key: fields[name] for key, fields in truth.items()}


def test_a_read_goes_on_behind_a_page(crm: Crm) -> None:
    """What a stopped read had taken in is not read again, and nothing of the rest is left out."""
    pages = list(crm.connector.read(crm.obj, None))
    whole = sorted(record_id for page in pages for record_id in page.table["id"].to_pylist())
    place = pages[0].next
    if place is None:
        assert len(pages) == 1
        return
    rest = crm.read(None, place)["id"].to_pylist()
    first = set(pages[0].table["id"].to_pylist())
    assert sorted(first | set(rest)) == whole and len(rest) < len(whole)


def test_a_place_of_another_choice_begins_anew(crm: Crm) -> None:
    fewer = replace(crm.obj, fields=crm.obj.fields[:-1])
    place = next(iter(crm.connector.read(fewer, None))).next
    assert set(crm.ids) <= set(crm.read(None, place)["id"].to_pylist())
