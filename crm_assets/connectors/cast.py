"""From the wire's text to typed pages: whole columns at once, cast to the described schema.

A value that cannot be cast or stored takes only its own record out of the page.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time
from decimal import Decimal, InvalidOperation
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from crm_assets.core.model import ARROW_TYPES, FieldType, Object, Page, Poison

_TWENTY_DIGITS = Decimal(10) ** 20


def typed_page(obj: Object, raw: pa.Table, deleted: pa.Array, following: str | None = None) -> Page:
    """``raw`` has a text column for the id and for each field, under the vendor's names; null is null."""
    schema = obj.page_schema()
    poison: dict[int, Poison] = {}
    ids = raw[obj.id_field].to_pylist()
    arrays: dict[str, Any] = {"id": raw[obj.id_field]}
    for fld in obj.fields:
        arrays[fld.column] = _column(obj, fld.name, fld.type, raw[fld.name], ids, poison)
    cursor = obj.by_name.get(obj.version_field or "")
    version = cursor.column if cursor else None
    arrays["_version"] = arrays[version] if version else pa.nulls(raw.num_rows, ARROW_TYPES[obj.version_type])
    arrays["_deleted"] = deleted
    table = pa.table({name: arrays[name] for name in schema.names}, schema=schema)
    if poison:
        keep = pa.array([row not in poison for row in range(raw.num_rows)])
        table = table.filter(keep)
    return Page(table, tuple(poison.values()), following)


def _column(
    obj: Object, name: str, kind: FieldType, raw: pa.ChunkedArray, ids: Sequence[str], poison: dict[int, Poison]
) -> Any:
    """A whole column at once; only when that fails, row by row to find which records are to blame."""
    if kind in (FieldType.TEXT, FieldType.REFERENCE):
        nul = pc.fill_null(pc.match_substring(raw, "\x00"), False)
        if not pc.any(nul).as_py():
            return raw
    else:
        try:
            return _cast(kind, raw)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OverflowError):
            pass
    values: list[Any] = []
    for row, text in enumerate(raw.to_pylist()):
        try:
            values.append(_one(kind, text))
        except (ValueError, InvalidOperation, OverflowError) as error:
            values.append(None)
            poison.setdefault(row, Poison(ids[row], name, _reason(kind, error)))
    return pa.array(values, ARROW_TYPES[kind])


def _cast(kind: FieldType, raw: pa.ChunkedArray) -> Any:
    target = ARROW_TYPES[kind]
    if kind is FieldType.TIMESTAMP:
        # REST says +0000, Bulk says Z; pyarrow wants +00:00 or Z.
        utc = pc.replace_substring_regex(raw, r"([+-]\d\d):?00$", r"\1:00")
        return pc.cast(utc, target)
    if kind is FieldType.TIME:
        return pc.cast(pc.replace_substring_regex(raw, "Z$", ""), target)
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
