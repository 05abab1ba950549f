"""SuiteQL text → a query as values."""

from __future__ import annotations

import itertools
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

from lark import Lark, Transformer, Tree
from lark.exceptions import UnexpectedInput

from .errors import ApiError, parameter
from .nodes import (
    Among,
    Between,
    Binary,
    Call,
    Case,
    Column,
    Exists,
    IsNull,
    Literal,
    Minus,
    Not,
    Ordering,
    Parameter,
    Query,
    Reference,
    Scalar,
    Source,
    Star,
)


class _Build(Transformer[Any, Query]):  # type: ignore[misc]  # lark has no types here
    def __init__(self) -> None:
        super().__init__()
        self._numbers = itertools.count(1)

    def start(self, parts: list[Any]) -> Query:
        query: Query = parts[0]
        return query

    def query(self, parts: list[Any]) -> Query:
        select, trees = parts[0], {one.data: one.children for one in parts[1:]}
        ordered = trees.get("order", ())
        fetch = int(trees["fetch"][1]) if "fetch" in trees else None
        return Query(**select, order=tuple(ordered), fetch=fetch)

    def select(self, parts: list[Any]) -> dict[str, Any]:
        trees = {one.data: one.children for one in parts}
        return {
            "columns": tuple(trees["columns"]),
            "sources": tuple(trees["tables"]),
            "where": trees["where"][0] if "where" in trees else None,
            "group": tuple(trees.get("group", ())),
            "having": trees["having"][0] if "having" in trees else None,
            "top": int(trees["top"][0]) if "top" in trees else None,
            "distinct": "distinct" in trees,
        }

    def star(self, _: list[Any]) -> Star:
        return Star(None)

    def star_of(self, parts: list[Any]) -> Star:
        return Star(str(parts[0]).lower())

    def name(self, parts: list[Any]) -> str:
        return str(parts[0]).strip('"').lower()

    def column(self, parts: list[Any]) -> Column:
        return Column(parts[0], parts[1] if len(parts) > 1 else None)

    def table(self, parts: list[Any]) -> Source:
        return Source(str(parts[0]).lower(), parts[1] if len(parts) > 1 else None)

    def derived(self, parts: list[Any]) -> Source:
        return Source(parts[0], parts[1] if len(parts) > 1 else None)

    def join(self, parts: list[Any]) -> Source:
        kind, table, on = parts if len(parts) == 3 else (None, *parts)
        word = "LEFT" if kind is not None and kind.children else "INNER"
        return Source(table.what, table.alias, word, on)

    def ordering(self, parts: list[Any]) -> Ordering:
        words = {str(one).lower() for one in parts[1:]}
        descending = "desc" in words
        # Oracle sorts nulls as the largest of all values.
        nulls = words & {"first", "last"} or {"first" if descending else "last"}
        return Ordering(parts[0], descending, nulls.pop().upper())

    def number(self, parts: list[Any]) -> Literal:
        text = str(parts[0])
        return Literal(int(text) if text.isdigit() else float(text))

    def string(self, parts: list[Any]) -> Literal:
        return Literal(str(parts[0])[1:-1].replace("''", "'"))

    def parameter(self, _: list[Any]) -> Parameter:
        return Parameter(next(self._numbers))

    def null(self, _: list[Any]) -> Literal:
        return Literal(None)

    def reference(self, parts: list[Any]) -> Reference:
        names = [str(one).lower() for one in parts]
        return Reference(names[0] if len(names) == 2 else None, names[-1])

    def call(self, parts: list[Any]) -> Call:
        name, given = str(parts[0]).upper(), parts[-1]
        return Call(name, tuple(given.children), given.data == "everything", given.data == "distinct_of")

    def call_of(self, parts: list[Any]) -> Call:
        return self.call([f"{parts[0]}.{parts[1]}", parts[2]])

    def disjunction(self, parts: list[Any]) -> Any:
        return _fold("OR", parts)

    def conjunction(self, parts: list[Any]) -> Any:
        return _fold("AND", parts)

    def negated(self, parts: list[Any]) -> Not:
        return Not(parts[0])

    def compare(self, parts: list[Any]) -> Binary:
        operator = str(parts[1])
        return Binary("<>" if operator in ("!=", "^=") else operator, parts[0], parts[2])

    def is_null(self, parts: list[Any]) -> IsNull:
        return IsNull(parts[0])

    def not_null(self, parts: list[Any]) -> Not:
        return Not(IsNull(parts[0]))

    def members(self, parts: list[Any]) -> tuple[Any, ...]:
        return tuple(parts)

    def among(self, parts: list[Any]) -> Among:
        return Among(parts[0], parts[1])

    def not_among(self, parts: list[Any]) -> Not:
        return Not(self.among(parts))

    def like(self, parts: list[Any]) -> Binary:
        return Binary("LIKE", parts[0], parts[1])

    def not_like(self, parts: list[Any]) -> Not:
        return Not(self.like(parts))

    def between(self, parts: list[Any]) -> Between:
        return Between(*parts)

    def not_between(self, parts: list[Any]) -> Not:
        return Not(Between(*parts))

    def exists(self, parts: list[Any]) -> Exists:
        return Exists(parts[0])

    def scalar(self, parts: list[Any]) -> Scalar:
        return Scalar(parts[0])

    def chain(self, parts: list[Any]) -> Any:
        left = parts[0]
        for operator, right in zip(parts[1::2], parts[2::2], strict=True):
            left = Binary(str(operator), left, right)
        return left

    def minus(self, parts: list[Any]) -> Minus:
        return Minus(parts[0])

    def when(self, parts: list[Any]) -> tuple[Any, Any]:
        return parts[0], parts[1]

    def case(self, parts: list[Any]) -> Case:
        whens = tuple(one for one in parts if isinstance(one, tuple))
        rest = [one for one in parts if not isinstance(one, tuple)]
        last = rest[-1] if rest and isinstance(rest[-1], Tree) else None
        subject = next((one for one in rest if one is not last), None)
        return Case(subject, whens, last.children[0] if last is not None else None)


def _fold(operator: str, parts: list[Any]) -> Any:
    left = parts[0]
    for right in parts[1:]:
        left = Binary(operator, left, right)
    return left


@cache
def _parser() -> Lark:
    grammar = Path(__file__).with_name("suiteql.lark").read_text(encoding="utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", maybe_placeholders=False)


@lru_cache(maxsize=500)
def parse(text: str) -> Query:
    """A query; :class:`ApiError` INVALID_PARAMETER if it is none."""
    try:
        query: Query = _Build().transform(_parser().parse(text))
        return query
    except UnexpectedInput as failed:
        at = failed.pos_in_stream
        token = getattr(getattr(failed, "token", None), "type", "")
        found = re.match(r"\w+|\S", text[at:]) if at is not None and at >= 0 and token != "$END" else None
        raise invalid(f"syntax error, unexpected '{found[0]}'" if found else "syntax error, unexpected end") from None


def invalid(reason: str) -> ApiError:
    """The refusal of a query."""
    detail = f"Invalid search query. Detailed unprocessed description follows. Search error occurred: {reason}."
    return parameter(detail, "q")
