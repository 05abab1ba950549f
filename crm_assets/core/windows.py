"""Windows: which span of the CRM's cursor to read next. Values in, values out."""

from __future__ import annotations

from datetime import datetime, timedelta

from crm_assets.core.model import Window


def low_end(cursor: str | None, overlap: timedelta) -> datetime | None:
    """Where the next window begins: behind the last safe bound by the overlap; None before the first read."""
    return None if cursor is None else datetime.fromisoformat(cursor) - overlap


def next_window(cursor: str | None, high: datetime, overlap: timedelta) -> Window:
    """[low, high): readers overlap generously, because observations may repeat. It never ends before it begins."""
    low = low_end(cursor, overlap)
    return Window(low, high if low is None else max(high, low))


def slices(low: datetime, high: datetime, width: timedelta) -> list[Window]:
    """The span in consecutive windows of at most ``width``; together exactly [low, high)."""
    if high <= low:
        raise ValueError(f"the range ends at {high.isoformat()}, which is not after its start {low.isoformat()}")
    result = []
    start = low
    while start < high:
        end = min(start + width, high)
        result.append(Window(start, end))
        start = end
    return result
