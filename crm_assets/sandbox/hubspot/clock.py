"""Time as the vendor keeps it: milliseconds since 1970, written in ISO 8601 without a fraction of zero."""

from __future__ import annotations

import re
import time
from datetime import UTC, date, datetime, timedelta

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLIS = re.compile(r"-?\d{1,15}")
_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.(\d{1,9}))?(Z|z|[+-]\d\d:?\d\d)?)?")
_DAY_MS = 86_400_000


def now() -> int:
    return time.time_ns() // 1_000_000


def millis(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(milliseconds=1)


def iso(ms: int) -> str:
    """As replies print it: ``2026-01-02T03:04:05Z``, with three digits of fraction if it is not zero."""
    seconds, fraction = divmod(ms, 1000)
    text = (_EPOCH + timedelta(seconds=seconds)).isoformat()[:19]
    return f"{text}.{fraction:03d}Z" if fraction else f"{text}Z"


def parse(text: str) -> int:
    """Milliseconds of a moment, given as such or in ISO 8601 (without an offset in UTC); ValueError if it is none."""
    text = text.strip()
    if _MILLIS.fullmatch(text):
        ms = int(text)
        iso_in_range(ms)
        return ms
    match = _ISO.fullmatch(text)
    if not match:
        raise ValueError(f"not a date and time: {text!r}")
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z", "z") else zone
    moment = datetime.fromisoformat(f"{day}T{clock or '00:00:00'}{zone}")
    return millis(moment) + int((fraction or "0").ljust(3, "0")[:3])


def iso_in_range(ms: int) -> None:
    """ValueError for a moment outside the years 1 to 9999."""
    try:
        _EPOCH + timedelta(milliseconds=ms)
    except OverflowError:
        raise ValueError(f"out of range: {ms}") from None


def parse_date(text: str) -> str:
    """``2026-01-02`` of a date, or of milliseconds at midnight UTC; ValueError if it is none."""
    text = text.strip()
    if len(text) == 10 and text[4] == "-":
        return date.fromisoformat(text).isoformat()
    ms = parse(text)
    if ms % _DAY_MS:
        raise ValueError(f"not at midnight UTC: {text!r}")
    return iso(ms)[:10]
