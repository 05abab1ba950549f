"""Values as this vendor writes them: text, whatever the property's type.

Source: Properties API, "Format property values": dates as YYYY-MM-DD, instants in UTC with milliseconds, empty text
clears a value. Search filters take instants as milliseconds since 1970.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from crm_assets.core.model import Value

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def text(value: Value) -> str:
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case datetime():
            at = value.astimezone(UTC)
            return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"
        case date():
            return value.isoformat()
        case Decimal():
            return f"{value:f}"
        case _:
            return str(value)


def millis(at: datetime) -> int:
    """Milliseconds since 1970, rounded down."""
    return (at.astimezone(UTC) - _EPOCH) // timedelta(milliseconds=1)


def filter_text(value: Value) -> str:
    """A value as a search filter takes it."""
    if isinstance(value, datetime):
        return str(millis(value))
    if isinstance(value, date):
        return str(millis(datetime(value.year, value.month, value.day, tzinfo=UTC)))
    return text(value)
