"""SOQL text → a query as values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from lark import Lark, Transformer, Tree
from lark.exceptions import UnexpectedInput, VisitError

from .errors import ApiError, error

Path_ = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Literal:
    """A value in a condition; ``kind`` is string, number, boolean, null, date, datetime or relative."""

    kind: str
    value: Any = None


@dataclass(frozen=True, slots=True)
class Aggregate:
    """A function of a field: of the rows of a group, or of a date."""

    function: str
    path: Path_ | None
    alias: str | None = None


Operand = Path_ | Aggregate


@dataclass(frozen=True, slots=True)
class Compare:
    path: Operand
    operator: str
    value: Literal


@dataclass(frozen=True, slots=True)
class Among:
    path: Path_
    values: tuple[Literal, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class Includes:
    path: Path_
    values: tuple[Literal, ...]
    negated: bool


@dataclass(frozen=True, slots=True)
class Join:
    """AND or OR of conditions."""

    word: str
    parts: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Negated:
    part: Any


@dataclass(frozen=True, slots=True)
class AllFields:
    which: str


@dataclass(frozen=True, slots=True)
class Ordering:
    path: Operand
    descending: bool
    nulls: str


@dataclass(frozen=True, slots=True)
class Query:
    object: str
    selected: tuple[Path_ | Aggregate | AllFields, ...]
    where: Any = None
    group: tuple[Operand, ...] = ()
    having: Any = None
    order: tuple[Ordering, ...] = ()
    limit: int | None = None
    offset: int = 0
    alias: str | None = None
    all_rows: bool = False


_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", "b": "\b", "f": "\f"}


def _unescape(text: str) -> str:
    def one(match: re.Match[str]) -> str:
        letter = match[1]
        if letter.startswith("u") and len(letter) == 5:
            return chr(int(letter[1:], 16))
        return _ESCAPES.get(letter.lower(), letter)

    return re.sub(r"\\(u[0-9A-Fa-f]{4}|.)", one, text, flags=re.DOTALL)


def _unescape_like(text: str) -> str:
    """As above, but ``\\%`` and ``\\_`` stay escaped: LIKE reads them later."""
    return "".join(
        part if part in ("\\%", "\\_", "\\\\") else _unescape(part)
        for part in re.findall(r"\\u[0-9A-Fa-f]{4}|\\.|[^\\]+", text, flags=re.DOTALL)
    )


class _Build(Transformer[Any, Query]):  # type: ignore[misc]  # lark has no types here
    def path(self, names: list[Any]) -> Path_:
        return tuple(str(name) for name in names)

    def aggregate(self, parts: list[Any]) -> Aggregate:
        path = next((one for one in parts[1:] if isinstance(one, tuple)), None)
        alias = str(parts[-1]) if len(parts) > 1 and not isinstance(parts[-1], tuple) else None
        return Aggregate(str(parts[0]).upper(), path, alias)

    def call(self, parts: list[Any]) -> Aggregate:
        return Aggregate(str(parts[0]).upper(), parts[1] if len(parts) > 1 else None)

    def all_fields(self, parts: list[Any]) -> AllFields:
        return AllFields(str(parts[0]).upper())

    def alias(self, parts: list[Any]) -> Tree[Any]:
        return Tree("alias", [str(parts[0])])

    def string(self, parts: list[Any]) -> Literal:
        return Literal("string", str(parts[0])[1:-1])

    def datetime(self, parts: list[Any]) -> Literal:
        return Literal("datetime", str(parts[0]))

    def date(self, parts: list[Any]) -> Literal:
        return Literal("date", str(parts[0]))

    def number(self, parts: list[Any]) -> Literal:
        text = str(parts[0])
        return Literal("number", int(text) if text.lstrip("+-").isdigit() else float(text))

    def true(self, _: list[Any]) -> Literal:
        return Literal("boolean", True)

    def false(self, _: list[Any]) -> Literal:
        return Literal("boolean", False)

    def null(self, _: list[Any]) -> Literal:
        return Literal("null")

    def relative(self, parts: list[Any]) -> Literal:
        return Literal("relative", (str(parts[0]).upper(), int(parts[1]) if len(parts) > 1 else None))

    def compare(self, parts: list[Any]) -> Compare:
        return Compare(parts[0], str(parts[1]).replace("<>", "!="), _plain(parts[2]))

    def like(self, parts: list[Any]) -> Compare:
        value = parts[1]
        if value.kind == "string":
            value = Literal("string", _unescape_like(value.value))
        return Compare(parts[0], "LIKE", value)

    def among(self, parts: list[Any]) -> Among:
        return Among(parts[0], tuple(_plain(one) for one in parts[1:]), False)

    def not_among(self, parts: list[Any]) -> Among:
        return Among(parts[0], tuple(_plain(one) for one in parts[1:]), True)

    def includes(self, parts: list[Any]) -> Includes:
        return Includes(parts[0], tuple(_plain(one) for one in parts[1:]), False)

    def excludes(self, parts: list[Any]) -> Includes:
        return Includes(parts[0], tuple(_plain(one) for one in parts[1:]), True)

    def disjunction(self, parts: list[Any]) -> Join:
        return Join("OR", tuple(parts))

    def conjunction(self, parts: list[Any]) -> Join:
        return Join("AND", tuple(parts))

    def negated(self, parts: list[Any]) -> Negated:
        return Negated(parts[0])

    def ordering(self, parts: list[Any]) -> Ordering:
        words = {str(one).lower() for one in parts[1:]}
        # Salesforce puts nulls first unless told otherwise, in both directions.
        return Ordering(parts[0], "desc" in words, "LAST" if "last" in words else "FIRST")

    def query(self, parts: list[Any]) -> Query:
        trees: dict[str, list[Any]] = {one.data: one.children for one in parts if isinstance(one, Tree)}
        plain = [one for one in parts if not isinstance(one, Tree)]
        return Query(
            object=str(plain[-1]),
            selected=tuple(plain[:-1]),
            where=trees["where"][0] if "where" in trees else None,
            group=tuple(trees.get("group", ())),
            having=trees["having"][0] if "having" in trees else None,
            order=tuple(trees.get("order", ())),
            limit=int(trees["limit"][0]) if "limit" in trees else None,
            offset=int(trees["offset"][0]) if "offset" in trees else 0,
            alias=trees["alias"][0] if "alias" in trees else None,
            all_rows="forview" in trees,
        )


def _plain(value: Literal) -> Literal:
    return Literal("string", _unescape(value.value)) if value.kind == "string" else value


@cache
def _parser() -> Lark:
    grammar = Path(__file__).with_name("soql.lark").read_text(encoding="utf-8")
    return Lark(grammar, start="query", parser="lalr", lexer="contextual", maybe_placeholders=False)


def parse(text: str) -> Query:
    """A query; :class:`ApiError` MALFORMED_QUERY if it is none."""
    try:
        query: Query = _Build().transform(_parser().parse(text))
        return query
    except VisitError as failed:
        if isinstance(failed.orig_exc, ApiError):
            raise failed.orig_exc from None
        raise error(400, "MALFORMED_QUERY", str(failed.orig_exc)) from None
    except UnexpectedInput as failed:
        at = failed.pos_in_stream if failed.pos_in_stream is not None and failed.pos_in_stream >= 0 else len(text)
        if at >= len(text) or getattr(getattr(failed, "token", None), "type", "") == "$END":
            raise error(400, "MALFORMED_QUERY", "unexpected token: '<EOF>'") from None
        found = re.match(r"\w+|.", text[at:], flags=re.DOTALL)
        line = f"\n{text[max(0, at - 40) : at + 40]}\n^\nERROR at Row:1:Column:{at + 1}\n"
        word = found[0] if found else ""
        raise error(400, "MALFORMED_QUERY", f"{line}unexpected token: '{word}'") from None
