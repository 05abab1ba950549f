"""SOQL's relative dates: ``TODAY``, ``LAST_N_DAYS:3``, ``THIS_MONTH`` as spans of days."""

from __future__ import annotations

from datetime import date, timedelta

_MONTHS = {"MONTH": 1, "QUARTER": 3, "YEAR": 12}
_DAY = timedelta(days=1)


def span(name: str, n: int | None, today: date) -> tuple[date, date] | None:
    """First day and the day after the last one; None for a name SOQL does not have."""
    days = {"YESTERDAY": -1, "TODAY": 0, "TOMORROW": 1}
    if name in days:
        first = today + days[name] * _DAY
        return first, first + _DAY
    words = name.split("_")
    if name in ("LAST_90_DAYS", "NEXT_90_DAYS"):
        words, n = [words[0], "N", "DAYS"], 90
    if len(words) == 3 and words[1] == "N" and n is not None and words[0] in ("LAST", "NEXT"):
        return _many(words[0], words[2].removesuffix("S"), n, today)
    if len(words) == 2 and words[0] in ("LAST", "THIS", "NEXT"):
        step = {"LAST": -1, "THIS": 0, "NEXT": 1}[words[0]]
        return _one(words[1], step, today)
    return None


def _many(word: str, unit: str, n: int, today: date) -> tuple[date, date] | None:
    if unit == "DAY":
        if word == "LAST":
            return today - n * _DAY, today + _DAY
        return today + _DAY, today + (n + 1) * _DAY
    if unit == "WEEK" or unit in _MONTHS:
        near = _one(unit, -1 if word == "LAST" else 1, today)
        far = _one(unit, -n if word == "LAST" else n, today)
        if near and far:
            return (far[0], near[1]) if word == "LAST" else (near[0], far[1])
    return None


def _one(unit: str, step: int, today: date) -> tuple[date, date] | None:
    if unit == "WEEK":
        # Weeks begin on Sunday, as in the locale of a fresh org.
        first = today - ((today.weekday() + 1) % 7) * _DAY + 7 * step * _DAY
        return first, first + 7 * _DAY
    if unit in _MONTHS:
        size = _MONTHS[unit]
        index = (today.year * 12 + today.month - 1) // size * size + step * size
        return _month(index), _month(index + size)
    return None


def _month(index: int) -> date:
    return date(index // 12, index % 12 + 1, 1)
