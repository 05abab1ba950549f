"""Describe: types, rights and names, without a record being read."""

from __future__ import annotations

import pytest

from crm_assets.core.errors import ObjectUnavailable, SchemaChanged
from crm_assets.core.model import FieldType
from crm_assets_tests.contract.crms import Crm, described


def test_fields_have_types_columns_and_rights(crm: Crm) -> None:
    obj = crm.obj
    assert obj.createable and obj.updateable and obj.deletable
    assert obj.by_name[crm.vendor.text[1]].column == crm.vendor.text[0]
    assert obj.by_name[crm.vendor.text[1]].type is FieldType.TEXT and obj.by_name[crm.vendor.text[1]].writable
    assert obj.version_field in obj.by_name and obj.by_name[obj.version_field].type is FieldType.TIMESTAMP
    assert not obj.by_name[obj.version_field].writable
    assert obj.id_field not in obj.by_name
    assert len({fld.column for fld in obj.fields}) == len(obj.fields)


def test_the_external_id_is_unique(crm: Crm) -> None:
    fld = crm.obj.by_name[crm.vendor.external_id]
    assert fld.external_id and fld.unique and fld.createable


def test_columns_that_were_chosen_stay(crm: Crm) -> None:
    chosen = {crm.vendor.text[1]: "as_before"}
    assert crm.connector.describe(crm.vendor.object, chosen).by_name[crm.vendor.text[1]].column == "as_before"


def test_an_unknown_object_is_named(crm: Crm) -> None:
    with pytest.raises(ObjectUnavailable, match="no_such_thing"):
        crm.connector.describe("no_such_thing")


def test_the_object_is_among_those_that_can_be_read(crm: Crm) -> None:
    assert crm.vendor.object in crm.connector.object_names()


def test_a_field_that_went_away_is_no_null(crm: Crm) -> None:
    """Whatever way the vendor has of saying so: a page that lacks it would empty the column."""
    crm.sandbox.schema(crm.vendor.object, "add", crm.vendor.custom, type="string")
    obj = described(crm.vendor, crm.connector)
    some = crm.ids[0]
    assert crm.connector.fetch(obj, [some]).table.num_rows == 1
    crm.sandbox.schema(crm.vendor.object, "drop", crm.vendor.custom)
    with pytest.raises(SchemaChanged, match=f"(?i){crm.vendor.custom}"):
        crm.connector.fetch(obj, [some])
    with pytest.raises(SchemaChanged):
        next(iter(crm.connector.read(obj, None)))
    assert crm.vendor.custom not in crm.connector.describe(crm.vendor.object).by_name
