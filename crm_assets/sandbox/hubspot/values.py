"""What a property takes, and the text it keeps: every value is a text or absent."""

from __future__ import annotations

import re
from typing import Any

from . import clock
from .errors import BadValue
from .properties import Property

LONGEST = 65_536
_EMAIL = re.compile(r"[^@\s,;<>\"']+@[^@\s,;<>\"']+\.[^@\s,;<>\"'.]{2,}")
_NUMBER = re.compile(r"[+-]?(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d{1,3})?")


class RefusedError(Exception):
    """A value is not taken."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code


def text(value: Any) -> str | None:
    """A JSON value as text; None for nothing, which clears a property."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value)
    raise RefusedError("INVALID_STRING", "Property values have to be texts, numbers or booleans")


def accept(one: Property, value: Any) -> str | None:
    """The text to keep; RefusedError if the property does not take the value."""
    given = text(value)
    if given is None:
        return None
    match one.type:
        case "number":
            if not _NUMBER.fullmatch(given.strip()):
                raise RefusedError("INVALID_LONG", f"{given} was not a valid long.")
            return given.strip()
        case "bool":
            if given.lower() not in ("true", "false"):
                raise RefusedError("INVALID_OPTION", f"{given} was not one of the allowed options: [true, false]")
            return given.lower()
        case "date" | "datetime":
            try:
                return clock.parse_date(given) if one.type == "date" else clock.iso(clock.parse(given))
            except ValueError:
                raise RefusedError("INVALID_DATE", f"{given} was not a valid {one.type}.") from None
        case "enumeration":
            return _choice(one, given)
    if len(given) > LONGEST:
        raise RefusedError("INVALID_STRING_LENGTH", f"The value is longer than {LONGEST} characters")
    if one.name == "email":
        # Addresses are kept in lower case, whoever writes them.
        given = given.strip().lower()
        if not _EMAIL.fullmatch(given):
            raise RefusedError("INVALID_EMAIL", f"Email address {given} is invalid")
    return given


def _choice(one: Property, given: str) -> str:
    if not one.closed:
        return given
    allowed = {value for value, _ in one.options}
    chosen = [part for part in given.split(";") if part] if one.several else [given]
    for part in chosen:
        if part not in allowed:
            listed = ", ".join(value for value, _ in one.options)
            raise RefusedError("INVALID_OPTION", f"{part} was not one of the allowed options: [{listed}]")
    return ";".join(dict.fromkeys(chosen)) if one.several else given


def checked(one: Property, value: Any) -> str | BadValue | None:
    """The text to keep, or what is wrong with the value."""
    try:
        return accept(one, value)
    except RefusedError as failed:
        return BadValue(one.name, value, failed.code, str(failed))
