"""Equality as this vendor stores values: trimmed, to the millisecond, empty text for none.

Source: Properties API, "Format property values".
"""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

from crm_assets.core.model import Field, Value

_SEVERAL = frozenset({"checkbox"})


def same(fld: Field, ours: Value, theirs: Value) -> bool:
    return _stored(fld, ours) == _stored(fld, theirs)


def _stored(fld: Field, value: Value) -> Value | frozenset[str]:
    match value:
        case bool():
            return value
        case str():
            text = value.strip()
            if fld.vendor_type in _SEVERAL:
                return frozenset(part.strip() for part in text.split(";") if part.strip()) or None
            # Addresses are kept in lower case.
            return (text.lower() if fld.name == "email" else text) or None
        case datetime():
            at = value.astimezone(UTC)
            return at.replace(microsecond=at.microsecond // 1000 * 1000)
        case Decimal() | int():
            return Decimal(value).normalize() + 0
        case _:
            return value
