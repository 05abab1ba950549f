"""Values on their way in: what a field takes, and how it keeps it."""

from __future__ import annotations

import base64
import re
from decimal import ROUND_HALF_UP, Decimal, InvalidOperation
from typing import Any

from . import clock, ids
from .errors import Fault
from .fields import NUMBERS, TEXTS, Field

_EMAIL = re.compile(r"[^@\s,;<>\"]+@[^@\s,;<>\"]+\.[^@\s,;<>\"]+")
_JSON_KIND = {
    bool: "VALUE_TRUE",
    int: "VALUE_NUMBER_INT",
    float: "VALUE_NUMBER_FLOAT",
    str: "VALUE_STRING",
    dict: "START_OBJECT",
    list: "START_ARRAY",
}


class RefusedError(Exception):
    """A value that the field does not take."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault.message)
        self.fault = fault


def accept(field: Field, value: Any) -> Any:
    """The value as it is kept; raises :class:`RefusedError`.

    Text loses the spaces at both ends, and empty text is null: so does the real system.
    """
    if isinstance(value, str):
        value = value.strip()
    if value is None or value == "":
        if field.type == "boolean":
            raise RefusedError(
                Fault(
                    "INVALID_TYPE_ON_FIELD_IN_RECORD",
                    f"{field.title}: value not of required type: ",
                    (field.name,),
                )
            )
        return None
    if field.type in TEXTS:
        return _text(field, value)
    if field.type in NUMBERS:
        return _number(field, value)
    if field.type == "boolean":
        return _boolean(field, value)
    if field.type in ("date", "datetime"):
        return _moment(field, value)
    if field.type == "base64":
        return _base64(field, value)
    return _reference(field, value)


def _mismatch(field: Field, value: Any) -> RefusedError:
    kind = _JSON_KIND.get(type(value), "VALUE_NULL")
    shown = value if isinstance(value, str | int | float) else ""
    return RefusedError(
        Fault(
            "JSON_PARSER_ERROR",
            f"Cannot deserialize instance of {field.type} from {kind} value {shown} or request may be missing "
            "a required field at [line:1, column:1]",
        )
    )


def _text(field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise _mismatch(field, value)
    if field.length and len(value) > field.length:
        message = f"{field.title}: data value too large: {value} (max length={field.length})"
        raise RefusedError(Fault("STRING_TOO_LONG", message, (field.name,)))
    if field.restricted:
        chosen = value.split(";") if field.type == "multipicklist" else [value]
        if any(one not in field.picklist for one in chosen):
            message = f"{field.title}: bad value for restricted picklist field: {value}"
            raise RefusedError(Fault("INVALID_OR_NULL_FOR_RESTRICTED_PICKLIST", message, (field.name,)))
    if field.type == "email" and not _EMAIL.fullmatch(value):
        message = f"{field.title}: invalid email address: {value}"
        raise RefusedError(Fault("INVALID_EMAIL_ADDRESS", message, (field.name,)))
    return value


def _base64(field: Field, value: Any) -> str:
    """Bytes as text; what is no base64 is a parser error."""
    if not isinstance(value, str):
        raise _mismatch(field, value)
    try:
        base64.b64decode(value, validate=True)
    except ValueError:
        raise _mismatch(field, "") from None
    return value


def _number(field: Field, value: Any) -> float | int:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        raise _mismatch(field, value)
    try:
        number = Decimal(str(value))
    except InvalidOperation:
        raise _mismatch(field, value) from None
    if not number.is_finite():
        raise _mismatch(field, value)
    outside = RefusedError(
        Fault(
            "NUMBER_OUTSIDE_VALID_RANGE",
            f"{field.title}: value outside of valid range on numeric field: {value}",
            (field.name,),
        )
    )
    if field.type == "int":
        if number != number.to_integral_value():
            raise _mismatch(field, value)
        if abs(number) >= 2**31:
            raise outside
        return int(number)
    if number and number.adjusted() >= (field.precision or 18) - field.scale:
        raise outside
    return float(number.quantize(Decimal(1).scaleb(-field.scale), rounding=ROUND_HALF_UP))


def _boolean(field: Field, value: Any) -> int:
    if isinstance(value, bool):
        return int(value)
    known = {"true": 1, "1": 1, "false": 0, "0": 0}
    if isinstance(value, str) and value.lower() in known:
        return known[value.lower()]
    raise _mismatch(field, value)


def _moment(field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise _mismatch(field, value)
    try:
        year = int(value[:4])
        kept = clock.parse_date(value).isoformat() if field.type == "date" else clock.stored(clock.parse(value))
    except ValueError:
        raise _mismatch(field, value) from None
    if not 1700 <= year <= 4000:
        message = f"{field.title}: invalid date: {value}"
        raise RefusedError(Fault("INVALID_TYPE_ON_FIELD_IN_RECORD", message, (field.name,)))
    return kept


def _reference(field: Field, value: Any) -> str:
    if not isinstance(value, str):
        raise _mismatch(field, value)
    found = ids.full(value)
    if found is None:
        message = f"{field.title}: id value of incorrect type: {value}"
        raise RefusedError(Fault("MALFORMED_ID", message, (field.name,)))
    return found
