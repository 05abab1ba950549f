"""The ``q`` of a list → a condition in SQL."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, Transformer
from lark.exceptions import UnexpectedInput, VisitError

from . import masks
from .errors import ApiError, parameter
from .fields import Field, RecordType
from .schema import quote

Condition = tuple[str, list[Any]]

_TEXT = {
    "IS": ("{c} = ? COLLATE NOCASE", "{v}"),
    "CONTAIN": ("instr(lower({c}), lower(?)) > 0", "{v}"),
    "START_WITH": ("lower(substr({c}, 1, length(?1))) = lower(?1)", "{v}"),
    "END_WITH": ("lower(substr({c}, -length(?1))) = lower(?1)", "{v}"),
}
_NUMBER = {"EQUAL": "=", "GREATER": ">", "GREATER_OR_EQUAL": ">=", "LESS": "<", "LESS_OR_EQUAL": "<="}
_DATE = frozenset({"ON", "AFTER", "ON_OR_AFTER", "BEFORE", "ON_OR_BEFORE"})


class _Build(Transformer[Any, Condition]):  # type: ignore[misc]  # lark has no types here
    def __init__(self, kind: RecordType, dates: str) -> None:
        super().__init__()
        self._kind = kind
        self._dates = dates

    def start(self, parts: list[Condition]) -> Condition:
        return parts[0]

    def disjunction(self, parts: list[Condition]) -> Condition:
        return _join(" OR ", parts)

    def conjunction(self, parts: list[Condition]) -> Condition:
        return _join(" AND ", parts)

    def one(self, parts: list[Any]) -> list[str]:
        return [_bare(str(parts[0]))]

    def several(self, parts: list[Any]) -> list[str]:
        return [_bare(str(one)) for one in parts]

    def comparison(self, parts: list[Any]) -> Condition:
        name, word = str(parts[0]), str(parts[1])
        values: list[str] = parts[2] if len(parts) > 2 else []
        field = self._kind.find("id" if name.lower() == "internalid" else name)
        if field is None:
            raise parameter(f"Invalid search query: the field '{name}' does not exist or cannot be searched.", "q")
        negated = word.endswith("_NOT")
        sql, params = self._one(field, word.removesuffix("_NOT"), values)
        # A missing value is not equal to any: NOT includes it.
        return (f"NOT coalesce({sql}, 0)" if negated else sql), params

    def _one(self, field: Field, word: str, values: list[str]) -> Condition:
        column = quote(field.column)
        if word == "EMPTY" and not values:
            return f"({column} IS NULL)", []
        if word == "ANY_OF" and values and field.type not in ("boolean", "date", "date-time"):
            return f"({column} IN ({', '.join('?' * len(values))}))", list(values)
        found: Condition | None = None
        if field.type == "boolean" and word == "IS" and len(values) == 1:
            found = f"({column} = ?)", ["T" if values[0].lower() in ("true", "t") else "F"]
        elif field.type in ("date", "date-time"):
            found = self._date(column, word, values)
        elif field.type in ("number", "integer", "ref"):
            found = _numeric(column, "EQUAL" if word == "IS" else word, values)
        elif word in _TEXT and len(values) == 1:
            sql = "{c} = ?" if word == "IS" and field.name == "externalId" else _TEXT[word][0]
            count = sql.count("?")
            found = f"({sql.replace('?1', '?').format(c=column)})", [values[0]] * count
        if found is None:
            raise parameter(f"Invalid search query: {word} does not fit the field '{field.name}'.", "q")
        return found

    def _date(self, column: str, word: str, values: list[str]) -> Condition | None:
        if word == "BETWEEN" and len(values) == 2:
            low, high = self._moment(values[0])[0], self._moment(values[1])[1]
            return f"({column} >= ? AND {column} < ?)", [low, high]
        if word not in _DATE or len(values) != 1:
            return None
        start, end = self._moment(values[0])
        if word == "ON":
            return f"({column} >= ? AND {column} < ?)", [start, end]
        sign, bound = {"AFTER": (">=", end), "ON_OR_AFTER": (">=", start), "BEFORE": ("<", start),
                       "ON_OR_BEFORE": ("<", end)}[word]  # fmt: skip
        return f"({column} {sign} ?)", [bound]

    def _moment(self, text: str) -> tuple[str, str]:
        """Start and end of the day, or of the minute or second, that a text names."""
        for mask, span in (
            (self._dates, timedelta(days=1)),
            (f"{self._dates} HH12:MI AM", timedelta(minutes=1)),
            (f"{self._dates} HH24:MI:SS", timedelta(seconds=1)),
        ):
            try:
                start: datetime = masks.read(text, mask)
            except masks.MaskError:
                continue
            if len(mask) > len(self._dates) and ":" not in text:
                continue
            return start.isoformat(" ", "seconds"), (start + span).isoformat(" ", "seconds")
        raise parameter(f"Invalid search query: the date '{text}' has to be given as {self._dates}.", "q")


def _numeric(column: str, word: str, values: list[str]) -> Condition | None:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        return None
    if word == "BETWEEN" and len(numbers) == 2:
        return f"({column} BETWEEN ? AND ?)", list(numbers)
    if word in _NUMBER and len(numbers) == 1:
        return f"({column} {_NUMBER[word]} ?)", list(numbers)
    return None


def _join(word: str, parts: list[Condition]) -> Condition:
    return f"({word.join(sql for sql, _ in parts)})", [value for _, values in parts for value in values]


def _bare(text: str) -> str:
    if text[:1] in ("'", '"'):
        return re.sub(r"\\(.)", r"\1", text[1:-1])
    return text


@cache
def _parser() -> Lark:
    grammar = Path(__file__).with_name("filters.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", maybe_placeholders=False)


def condition(kind: RecordType, text: str, dates: str) -> Condition:
    """SQL and its parameters; :class:`ApiError` INVALID_PARAMETER. ``dates`` is how the user writes dates."""
    try:
        found: Condition = _Build(kind, dates).transform(_parser().parse(text))
        return found
    except VisitError as failed:
        if isinstance(failed.orig_exc, ApiError):
            raise failed.orig_exc from None
        raise
    except UnexpectedInput:
        raise parameter("Invalid search query: it cannot be read.", "q") from None
