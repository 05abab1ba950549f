"""Describe: the vendor's field properties as our fields.

Source: REST API Developer Guide, "sObject Describe"; Object Reference, "Field Types".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from crm_assets.connectors.salesforce.formulas import parents
from crm_assets.core.model import Field, FieldType, Object
from crm_assets.core.naming import columns, snake

_TYPES: Mapping[str, FieldType] = {
    "boolean": FieldType.BOOLEAN,
    "int": FieldType.INTEGER,
    "long": FieldType.INTEGER,
    "double": FieldType.NUMBER,
    "currency": FieldType.NUMBER,
    "percent": FieldType.NUMBER,
    "date": FieldType.DATE,
    "datetime": FieldType.TIMESTAMP,
    "time": FieldType.TIME,
    "reference": FieldType.REFERENCE,
}
_LEFT_OUT = frozenset({"address", "location", "base64", "anyType", "complexvalue"})
"""Compounds, whose parts are fields of their own, and types that Bulk cannot carry: files among them, of which a
query shows an address and no contents."""

_NEEDED = ("IsDeleted", "MasterRecordId")
"""Without them a deleted record looks alive, and a merged one merely deleted."""

_SUMS = frozenset({"int", "double", "currency", "percent", "date", "datetime"})
"""Types that a roll-up summary can have; describe shows no formula of it."""

_CURSORS = ("SystemModstamp", "LastModifiedDate", "CreatedDate")


def to_object(body: Mapping[str, Any], chosen: Mapping[str, str]) -> Object:
    """An object from the reply of describe; ``chosen`` are the columns of fields known from before."""
    described = [f for f in body["fields"] if f["type"] not in _LEFT_OUT and f["name"] != "Id"]
    names = columns([f["name"] for f in described], chosen, "Id")
    links = {f["relationshipName"].lower(): f["name"] for f in described if f.get("relationshipName")}
    by_name = {f["name"]: f for f in described}
    # Some timestamps cannot be filtered by; a window over one would be empty and look complete.
    cursor = next((c for c in _CURSORS if c in by_name and by_name[c].get("filterable", True)), None)
    return Object(
        name=body["name"],
        table=snake(body["name"]),
        label=body.get("label", body["name"]),
        fields=tuple(_field(f, names[f["name"]], links) for f in described),
        id_field="Id",
        version_field=cursor,
        createable=bool(body.get("createable")),
        updateable=bool(body.get("updateable")),
        deletable=bool(body.get("deletable")),
        needed=tuple(name for name in _NEEDED if name in by_name),
        left_out=tuple((f["name"], f["type"]) for f in body["fields"] if f["type"] in _LEFT_OUT),
    )


def _field(f: Mapping[str, Any], column: str, links: Mapping[str, str]) -> Field:
    """``links`` are the reference fields by the name of their relationship, in lower case."""
    kind, formula = f["type"], f.get("calculatedFormula")
    length = int(f.get("length") or 0)
    return Field(
        name=f["name"],
        column=column,
        type=_TYPES.get(kind, FieldType.TEXT),
        vendor_type=kind,
        label=f.get("label") or f["name"],
        nillable=bool(f.get("nillable", True)),
        createable=bool(f.get("createable")),
        updateable=bool(f.get("updateable")),
        defaulted=bool(f.get("defaultedOnCreate")),
        calculated=bool(f.get("calculated")),
        external_id=bool(f.get("externalId")),
        unique=bool(f.get("unique")),
        length=length or None,
        scale=int(f["scale"]) if kind in ("double", "currency", "percent") and f.get("scale") is not None else None,
        picklist=tuple(v["value"] for v in f.get("picklistValues") or () if v.get("active", True)),
        restricted=bool(f.get("restrictedPicklist")),
        reference_to=tuple(f.get("referenceTo") or ()),
        through=parents(formula, links) if formula else (),
        rolls_up=bool(f.get("calculated")) and not formula and kind in _SUMS,
    )
