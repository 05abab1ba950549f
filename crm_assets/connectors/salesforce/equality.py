"""Equality as this vendor stores values: trimmed, rounded, to the second.

Source: Object Reference, "Primitive Data Types" and "Field Types".
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from decimal import ROUND_HALF_UP, Decimal

from crm_assets.core.model import Field, FieldType, Value


def same(fld: Field, ours: Value, theirs: Value) -> bool:
    return _stored(fld, ours) == _stored(fld, theirs)


def _stored(fld: Field, value: Value) -> Value:
    match value:
        case None:
            # A checkbox has no third state.
            return False if fld.type is FieldType.BOOLEAN else None
        case bool():
            return value
        case str():
            text = value.strip()
            if fld.type is FieldType.REFERENCE and len(text) == 18:
                return text[:15]
            return text or None
        case datetime():
            return value.astimezone(UTC).replace(microsecond=0)
        case time():
            return value.replace(microsecond=value.microsecond // 1000 * 1000)
        case Decimal() | int():
            number = Decimal(value)
            if fld.scale is not None:
                number = number.quantize(Decimal(1).scaleb(-fld.scale), rounding=ROUND_HALF_UP)
            return number.normalize() + 0
        case _:
            return value
