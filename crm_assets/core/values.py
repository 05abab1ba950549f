"""Values between Python and the JSON of the outbox, by field type."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from typing import Any
from uuid import UUID

from crm_assets.core.model import Field, FieldType, Object, Value


def from_json(fld: Field, value: Any) -> Value:
    """A JSON value as Postgres' ``to_jsonb`` writes it, as the field's Python value.

    Raises ValueError for a value that is not of the field's type (a numeric NaN, for example).
    """
    if value is None:
        return None
    match fld.type:
        case FieldType.TEXT | FieldType.REFERENCE:
            return str(value)
        case FieldType.TIMESTAMP:
            return datetime.fromisoformat(value)
        case FieldType.DATE:
            return date.fromisoformat(value)
        case FieldType.TIME:
            return time.fromisoformat(value)
        case FieldType.NUMBER:
            number = value if isinstance(value, Decimal) else Decimal(str(value))
            if not number.is_finite():
                raise ValueError(f"{fld.column} is {value}, which is no number in the CRM")
            return number
        case FieldType.INTEGER:
            return int(value)
        case FieldType.BOOLEAN:
            return bool(value)


def to_json(value: Value) -> Any:
    """A Python value as JSON keeps it; Decimal stays Decimal, for a dumper that writes it exactly."""
    if isinstance(value, date | datetime | time):
        return value.isoformat()
    return value


def record_from_json(obj: Object, values: Mapping[str, Any]) -> dict[str, Value]:
    """The known fields among ``values`` (column → JSON)."""
    fields = obj.by_column
    return {c: from_json(fields[c], v) for c, v in values.items() if c in fields}


def record_to_json(values: Mapping[str, Value]) -> dict[str, Any]:
    return {c: to_json(v) for c, v in values.items()}


def as_row_id(value: Value) -> UUID | None:
    """The row_id that a product put into a reference in place of a CRM id; None for anything else."""
    if not isinstance(value, str) or len(value) != 36:
        return None
    try:
        return UUID(value)
    except ValueError:
        return None
