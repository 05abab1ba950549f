"""Time as the vendor keeps it: whole seconds, in UTC."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

_ISO = re.compile(
    r"(\d{4}-\d\d-\d\d)[T ](\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?\s*(Z|z|[+-]\d\d:?\d\d)?",
)


def now() -> datetime:
    return datetime.now(UTC)


def stored(moment: datetime) -> str:
    """The form in the store: sorts as text, has no fraction."""
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if moment.year >= 1000 else _old(moment)


def _old(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def exact(moment: datetime) -> str:
    """With milliseconds, for those who need to order what happened within one second."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rest(value: str) -> str:
    """``2026-01-01T00:00:00Z`` as REST prints it."""
    return value[:-1] + ".000+0000"


def parse(text: str) -> datetime:
    """A date and time with any offset; ValueError if it is none. Without an offset it is UTC."""
    match = _ISO.fullmatch(text.strip())
    if not match:
        raise ValueError(f"not a date and time: {text!r}")
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in (None, "Z", "z") else zone
    micros = (fraction or "0").ljust(6, "0")[:6]
    return datetime.fromisoformat(f"{day}T{clock}.{micros}{zone}").astimezone(UTC)


def parse_date(text: str) -> date:
    """A date, also the date of a date and time."""
    if len(text) > 10:
        return parse(text).date()
    return datetime.strptime(text, "%Y-%m-%d").date()
