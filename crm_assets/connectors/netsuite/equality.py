"""Equality as this vendor stores values: text without outer blanks, empty text for none, instants to the second."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

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
            return value.replace("\r\n", "\n").strip() or None
        case datetime():
            return value.astimezone(UTC).replace(microsecond=0)
        case Decimal() | int():
            return Decimal(value).normalize() + 0
        case _:
            return value
