"""Values on their way in and out: what a field takes, how it keeps it, and how it shows it."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any

from . import clock
from .errors import ApiError, user_error
from .fields import Field

_EMAIL = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\"]+\.[^@\s,;<>\"]+")
_WORDS = {True: "T", False: "F", "T": "T", "F": "F", "true": "T", "false": "F"}


def accept(field: Field, value: Any) -> Any:
    """The value as it is kept; raises :class:`ApiError`. A reference stays as it is given: who resolves it must know
    the records. Null and the empty text clear a field."""
    if value is None or value == "":
        return "F" if field.type == "boolean" else None
    if field.type == "ref":
        return value
    try:
        return _ACCEPT[field.type](field, value)
    except (ValueError, TypeError, OverflowError):
        raise bad_value(field, value) from None


def bad_value(field: Field, value: Any) -> ApiError:
    if isinstance(value, Mapping):
        value = value.get("id") or value.get("externalId") or "{}"
    return user_error(f"Invalid Field Value {value} for the following field: {field.name}", field.name)


def _text(field: Field, value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError
    text = str(value)
    if field.length and len(text) > field.length:
        raise user_error(
            f"The field {field.column} contains more than the maximum number ( {field.length} ) of characters allowed.",
            field.name,
        )
    if field.name == "email" and not _EMAIL.fullmatch(text):
        raise bad_value(field, text)
    return text


def _integer(field: Field, value: Any) -> int:
    number = _number(field, value)
    if number != int(number):
        raise ValueError
    return int(number)


def _number(_: Field, value: Any) -> float | int:
    if isinstance(value, bool):
        raise TypeError
    number = float(value)
    if not math.isfinite(number):
        raise ValueError
    return int(number) if number == int(number) and abs(number) < 2**53 else number


def _boolean(_: Field, value: Any) -> str:
    if not isinstance(value, bool | str) or value not in _WORDS:
        raise ValueError
    return _WORDS[value]


def _date(_: Field, value: Any) -> str:
    return f"{clock.parse_date(value).isoformat()} 00:00:00"


def _moment(_: Field, value: Any) -> str:
    return clock.stored(clock.parse(value))


def _choice(field: Field, value: Any) -> str:
    key = str(value.get("id") if isinstance(value, Mapping) else value)
    if key not in {one for one, _ in field.choices}:
        raise ValueError
    return key


_ACCEPT = {"string": _text, "integer": _integer, "number": _number, "boolean": _boolean, "date": _date,
           "date-time": _moment, "enum": _choice}  # fmt: skip


def plain(field: Field, kept: Any) -> Any:
    """A kept value as JSON; a reference or an enum is its id, as a text."""
    if kept is None:
        return None
    if field.type == "boolean":
        return kept == "T"
    if field.type == "number":
        return float(kept)
    if field.type == "date":
        return kept[:10]
    if field.type == "date-time":
        return clock.rest(kept)
    return kept if field.type == "integer" and field.name != "id" else str(kept)
