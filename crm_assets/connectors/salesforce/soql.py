"""SOQL text: the few shapes this connector sends.

Source: SOQL and SOSL Reference. Literals of dates and times stand unquoted, in UTC, to the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from crm_assets.core.model import Field, Object, Value, Window


def moment(at: datetime) -> str:
    """A datetime literal, rounded down to the second, which is all that the vendor stores."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def text(value: str) -> str:
    """A quoted string literal."""
    return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"


def select(obj: Object, conditions: Sequence[str] = (), tail: str = "") -> str:
    """All synced fields of the object, within its own restriction."""
    names = [obj.id_field, *(f.name for f in obj.fields)]
    return f"SELECT {', '.join(names)} FROM {obj.name}{where(obj, conditions)}{tail}"


def where(obj: Object, conditions: Sequence[str] = ()) -> str:
    parts = [f"({obj.where})"] if obj.where else []
    parts += conditions
    return f" WHERE {' AND '.join(parts)}" if parts else ""


def within(obj: Object, window: Window) -> list[str]:
    """[low, high) on the cursor field. High is rounded up: a second is either wholly in or wholly out."""
    assert obj.version_field is not None
    conditions = []
    if window.low is not None:
        conditions.append(f"{obj.version_field} >= {moment(window.low)}")
    high = window.high
    if high.microsecond:
        high = high.replace(microsecond=0) + timedelta(seconds=1)
    conditions.append(f"{obj.version_field} < {moment(high)}")
    return conditions


def any_of(field: str, values: Sequence[str]) -> str:
    return f"{field} IN ({','.join(text(v) for v in values)})"


def after(obj: Object, version: datetime, record_id: str) -> str:
    """The records behind this one in the order (cursor, id)."""
    at = moment(version)
    return f"({obj.version_field} > {at} OR ({obj.version_field} = {at} AND Id > {text(record_id)}))"


def equal(fld: Field, value: Value) -> str | None:
    """A condition that the field has this value; None where the vendor cannot filter by it."""
    if fld.calculated or fld.vendor_type in _NOT_FILTERABLE:
        return None
    match value:
        case bool():
            return f"{fld.name} = {str(value).lower()}"
        case int() | Decimal():
            return f"{fld.name} = {value:f}"
        case str() if value:
            return f"{fld.name} = {text(value.strip())}"
        case datetime():
            return f"{fld.name} = {moment(value)}"
        case date():
            return f"{fld.name} = {value.isoformat()}"
        case _:
            return None


_NOT_FILTERABLE = frozenset({"textarea", "encryptedstring", "base64", "multipicklist", "anyType", "time"})
