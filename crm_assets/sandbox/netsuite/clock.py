"""Time as the account keeps it: whole seconds, in UTC; the account's zone is UTC too."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime

_ISO = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d(?::\d\d)?)(?:\.\d{1,9})?\s*(Z|z|[+-]\d\d:?\d\d)?)?")


def now() -> datetime:
    return datetime.now(UTC)


def stored(moment: datetime) -> str:
    """The form in the store, of dates too: ``2026-07-29 08:34:00``. It sorts as text."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(" ", "seconds")


def exact(moment: datetime) -> str:
    """With milliseconds, for those who need to order what happened within one second."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def rest(kept: str) -> str:
    """A stored moment as REST prints it: ``2026-07-29T08:34:00Z``."""
    return f"{kept[:10]}T{kept[11:]}Z"


def parse(text: str) -> datetime:
    """A date, or a date and time with any offset; ValueError if it is none. Without an offset it is UTC."""
    match = _ISO.fullmatch(text.strip())
    if not match:
        raise ValueError(f"not a date and time: {text!r}")
    day, time, zone = match.groups()
    offset = "+00:00" if zone in (None, "Z", "z") else zone
    return datetime.fromisoformat(f"{day}T{time or '00:00'}{offset}").astimezone(UTC)


def parse_date(text: str) -> date:
    """A date; of a date and time its day."""
    return date.fromisoformat(text.strip()[:10]) if len(text.strip()) == 10 else parse(text).date()
