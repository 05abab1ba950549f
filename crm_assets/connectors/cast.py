"""From the wire's text to typed pages: whole columns at once, cast to the described schema.

A value that cannot be cast or stored takes only its own record out of the page.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from crm_assets.core.arrow import ARROW_TYPES
from crm_assets.core.model import FieldType, Object, Page, Poison

_TWENTY_DIGITS = Decimal(10) ** 20


def typed_page(obj: Object, raw: pa.Table, deleted: pa.Array, following: str | None = None) -> Page:
    """``raw`` has a text column for the id and for each field, under the vendor's names; null is null."""
    poison: dict[int, Poison] = {}
    columns = {fld.name: _column(obj, fld.name, fld.type, raw, poison) for fld in obj.fields}
    page = page_of(obj, {obj.id_field: raw[obj.id_field], **columns}, deleted, following)
    if not poison:
        return page
    keep = pa.array([row not in poison for row in range(raw.num_rows)])
    return replace(page, table=page.table.filter(keep), poison=tuple(poison.values()))


def page_of(obj: Object, columns: Mapping[str, Any], deleted: pa.Array, following: str | None = None) -> Page:
    """A page of columns that have their types already, under the vendor's names: the id and each field."""
    schema = obj.page_schema()
    arrays: dict[str, Any] = {fld.column: columns[fld.name] for fld in obj.fields}
    cursor = obj.by_name.get(obj.version_field or "")
    arrays["id"] = columns[obj.id_field]
    arrays["_version"] = arrays[cursor.column] if cursor else pa.nulls(len(deleted), ARROW_TYPES[obj.version_type])
    arrays["_deleted"] = deleted
    return Page(pa.table({name: arrays[name] for name in schema.names}, schema=schema), next=following)


def _column(obj: Object, name: str, kind: FieldType, table: pa.Table, poison: dict[int, Poison]) -> Any:
    """A whole column at once; only when that fails, row by row to find which records are to blame."""
    raw = table[name]
    if kind in (FieldType.TEXT, FieldType.REFERENCE):
        nul = pc.fill_null(pc.match_substring(raw, "\x00"), False)
        if not pc.any(nul).as_py():
            return raw
    else:
        try:
            return cast(kind, raw)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError):
            pass
    values: list[Any] = []
    for row, text in enumerate(raw.to_pylist()):
        try:
            values.append(_one(kind, text))
        except (ValueError, InvalidOperation, OverflowError) as error:
            values.append(None)
            poison.setdefault(row, Poison(table[obj.id_field][row].as_py(), name, _reason(kind, error)))
    return pa.array(values, ARROW_TYPES[kind])


def cast(kind: FieldType, raw: pa.ChunkedArray) -> Any:
    """A column of text as the type; pa.ArrowInvalid if a value of it is none."""
    target = ARROW_TYPES[kind]
    if kind is FieldType.TIMESTAMP:
        # Of all offsets, pyarrow knows only +00:00 and Z here.
        return pc.cast(pc.replace_substring(raw, "+0000", "Z"), target)
    if kind is FieldType.TIME:
        # pyarrow reads times only as part of an instant.
        return pc.cast(
            pc.cast(pc.binary_join_element_wise("1970-01-01T", raw, ""), ARROW_TYPES[FieldType.TIMESTAMP]), target
        )
    if kind is FieldType.BOOLEAN:
        return pc.cast(raw, target)
    if kind is FieldType.NUMBER and pc.any(pc.fill_null(pc.match_substring_regex(raw, "[eE]"), False)).as_py():
        raise pa.ArrowInvalid("exponents are read one by one")
    return pc.cast(raw, target)


def _one(kind: FieldType, text: str | None) -> Any:
    if text is None:
        return None
    match kind:
        case FieldType.TEXT | FieldType.REFERENCE:
            if "\x00" in text:
                raise ValueError("it holds a NUL character, which Postgres text cannot")
            return text
        case FieldType.BOOLEAN:
            if text not in ("true", "false"):
                raise ValueError("it is neither true nor false")
            return text == "true"
        case FieldType.INTEGER:
            number = Decimal(text)
            if number != number.to_integral_value():
                raise ValueError("it is not a whole number")
            if not -(2**63) <= number < 2**63:
                raise ValueError("it is out of the range of bigint")
            return int(number)
        case FieldType.NUMBER:
            number = Decimal(text)
            if not number.is_finite() or abs(number) >= _TWENTY_DIGITS:
                raise ValueError("it has more than 20 digits before the point")
            exponent = number.normalize().as_tuple().exponent
            if isinstance(exponent, int) and exponent < -18:
                raise ValueError("it has more than 18 digits after the point")
            return number
        case FieldType.DATE:
            return date.fromisoformat(text)
        case FieldType.TIME:
            return time.fromisoformat(text.removesuffix("Z"))
        case FieldType.TIMESTAMP:
            moment = datetime.fromisoformat(text)
            if moment.tzinfo is None:
                raise ValueError("it has no time zone")
            return moment


def _reason(kind: FieldType, error: Exception) -> str:
    said = str(error)
    if said.startswith("it "):
        return said
    return f"it is no {kind.value} that Postgres can store"


def as_text(value: Any) -> str | None:
    """A JSON value as text: numbers as they are written, compounds not at all."""
    if value is None or isinstance(value, dict | list):
        return None
    if value is True or value is False:
        return "true" if value else "false"
    if isinstance(value, str):
        # A lone surrogate is valid JSON but no text; it is made visible to the column check as a NUL.
        return value if _encodable(value) else "\x00"
    return str(value)


def _encodable(value: str) -> bool:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True
