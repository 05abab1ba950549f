"""Pre-flight: what the CRM would refuse for certain, said before a call is spent. Values in, words out.

Only what the describe proves is refused here; everything else is for the CRM to judge.
"""

from __future__ import annotations

from collections.abc import Mapping

from crm_assets.core.model import Field, FieldType, Object, Op, Value

_MULTIPLE = frozenset({"multipicklist", "checkbox"})
"""Vendor types of picklists whose values are joined by semicolons."""
_SHOWN = 40


def problems(obj: Object, op: Op, values: Mapping[str, Value]) -> list[str]:
    """Why the CRM would refuse this write, one sentence per column; empty if nothing speaks against it.

    ``values`` are by column name; those of a create are complete, so that what is missing counts too.
    """
    if op is Op.DELETE:
        return []
    found = [reason for column in sorted(values) if (reason := _problem(obj, op, column, values[column]))]
    if op is Op.CREATE:
        found += [
            f"{fld.column} is required"
            for fld in obj.fields
            if fld.required and fld.type is not FieldType.BOOLEAN and values.get(fld.column) in (None, "")
        ]
    return found


def _problem(obj: Object, op: Op, column: str, value: Value) -> str | None:
    fld = obj.by_column.get(column)
    if fld is None:
        return f"{column} is no field of {obj.name} any more"
    if not (fld.createable if op is Op.CREATE else fld.updateable):
        return f"{column} cannot be set by {'a create' if op is Op.CREATE else 'an update'}"
    if value in (None, ""):
        emptied = op is Op.UPDATE and not fld.nillable and fld.type is not FieldType.BOOLEAN
        return f"{column} is required and cannot be emptied" if emptied else None
    if isinstance(value, str):
        return _text_problem(fld, value)
    return None


def _text_problem(fld: Field, value: str) -> str | None:
    if fld.length and len(value.strip()) > fld.length and fld.type is FieldType.TEXT:
        return f"{fld.column} has {len(value.strip())} characters and may have {fld.length}"
    if fld.restricted and fld.picklist:
        known = {choice.casefold() for choice in fld.picklist}
        given = value.split(";") if fld.vendor_type in _MULTIPLE else [value]
        if any(part.strip().casefold() not in known for part in given):
            shown = ", ".join(fld.picklist)
            return f"{fld.column} must be one of its picklist: {shown if len(shown) <= 8 * _SHOWN else 'see the CRM'}"
    return None
