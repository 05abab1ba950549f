"""Oracle's format masks for dates: ``YYYY-MM-DD"T"HH24:MI:SS`` and the like, both ways."""

from __future__ import annotations

import re
from datetime import datetime
from functools import lru_cache

_TOKEN = re.compile(
    r'"([^"]*)"|(YYYY|YY|MONTH|MON|MM|DD|DAY|DY|D|HH24|HH12|HH|MI|SSSSS|SS|FF\d?|AM|PM|TZH|TZM|Q)|([^A-Za-z"])',
    re.IGNORECASE,
)
_STRFTIME = {"YYYY": "%Y", "MM": "%m", "DD": "%d", "HH24": "%H", "MI": "%M", "SS": "%S", "TZH": "+00", "TZM": "00"}
_READ = {"YYYY": r"\d{4}", "YY": r"\d\d", "MM": r"\d\d?", "DD": r"\d\d?", "HH24": r"\d\d?", "HH12": r"\d\d?",
         "HH": r"\d\d?", "MI": r"\d\d?", "SS": r"\d\d?", "FF": r"\d{1,9}", "MON": r"[A-Za-z]{3}", "AM": r"[AaPp][Mm]",
         "MONTH": r"[A-Za-z]{3,9}", "TZH": r"[+-]\d\d", "TZM": r"\d\d"}  # fmt: skip
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


class MaskError(ValueError):
    """A mask that is none, or a text that does not fit its mask; the message is Oracle's."""


@lru_cache(maxsize=200)
def _tokens(mask: str) -> tuple[tuple[str, str], ...]:
    """Pairs of element and literal text, one of which is empty."""
    found: list[tuple[str, str]] = []
    at = 0
    while at < len(mask):
        match = _TOKEN.match(mask, at)
        if not match:
            raise MaskError("ORA-01821: date format not recognized")
        element = (match[2] or "").upper()
        element = "AM" if element == "PM" else "FF" if element.startswith("FF") else element
        found.append((element, "" if element else (match[1] if match[1] is not None else match[3])))
        at = match.end()
    return tuple(found)


def strftime(mask: str) -> str | None:
    """SQLite's own format for a mask, where it has one."""
    parts = []
    for element, text in _tokens(mask):
        if element and element not in _STRFTIME:
            return None
        parts.append(_STRFTIME[element] if element else text.replace("%", "%%"))
    return "".join(parts)


def render(moment: datetime, mask: str) -> str:
    """A moment in the mask's form."""
    own = {
        "YYYY": f"{moment.year:04d}", "YY": f"{moment.year % 100:02d}", "MM": f"{moment.month:02d}",
        "MON": _MONTHS[moment.month - 1].upper(), "MONTH": moment.strftime("%B").upper().ljust(9),
        "DD": f"{moment.day:02d}", "DAY": moment.strftime("%A").upper().ljust(9), "DY": moment.strftime("%a").upper(),
        "D": str(moment.isoweekday() % 7 + 1), "HH24": f"{moment.hour:02d}", "HH12": moment.strftime("%I"),
        "HH": moment.strftime("%I"), "MI": f"{moment.minute:02d}", "SS": f"{moment.second:02d}", "FF": "000",
        "AM": moment.strftime("%p"), "TZH": "+00", "TZM": "00", "Q": str((moment.month + 2) // 3),
        "SSSSS": str(moment.hour * 3600 + moment.minute * 60 + moment.second),
    }  # fmt: skip
    return "".join(own[element] if element else text for element, text in _tokens(mask))


@lru_cache(maxsize=200)
def _pattern(mask: str) -> tuple[re.Pattern[str], tuple[str, ...]]:
    """What a text of this mask looks like; elements at its end may be missing."""
    pattern, names, depth = "", [], 0
    for element, text in _tokens(mask):
        if not element:
            pattern += r"\s*" if text.isspace() else re.escape(text) + "?"
            continue
        if element not in _READ:
            raise MaskError("ORA-01820: format code cannot appear in date input format")
        names.append(element)
        pattern += f"(?:({_READ[element]})"
        depth += 1
    return re.compile(pattern + ")?" * depth), tuple(names)


def read(text: str, mask: str) -> datetime:
    """The moment that a text says; raises :class:`MaskError`."""
    pattern, names = _pattern(mask)
    match = pattern.fullmatch(text.strip())
    if not match or not match[1]:
        raise MaskError("ORA-01861: literal does not match format string")
    given = {name: value for name, value in zip(names, match.groups(), strict=True) if value}
    hour = int(given.get("HH24") or given.get("HH12") or given.get("HH") or 0)
    if "AM" in given:
        hour = hour % 12 + (12 if given["AM"].lower() == "pm" else 0)
    word = given.get("MON") or given.get("MONTH")
    try:
        month = _MONTHS.index(word[:3].lower()) + 1 if word else int(given.get("MM", 1))
        year = int(given["YYYY"]) if "YYYY" in given else 2000 + int(given.get("YY", 0))
        minute, second = int(given.get("MI", 0)), int(given.get("SS", 0))
        return datetime(year, month, int(given.get("DD", 1)), hour, minute, second)
    except ValueError:
        raise MaskError("ORA-01843: not a valid month, day or time") from None
