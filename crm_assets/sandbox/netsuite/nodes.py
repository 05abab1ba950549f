"""A SuiteQL query as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Literal:
    """A text, a number, or null."""

    value: str | int | float | None


@dataclass(frozen=True, slots=True)
class Parameter:
    """The ``?`` of this number, counted from 1."""

    number: int


@dataclass(frozen=True, slots=True)
class Reference:
    """A column, or a word such as ROWNUM; names are lower case."""

    table: str | None
    name: str


@dataclass(frozen=True, slots=True)
class Call:
    """A function, upper case; ``star`` for COUNT(*)."""

    name: str
    arguments: tuple[Any, ...]
    star: bool = False
    distinct: bool = False


@dataclass(frozen=True, slots=True)
class Binary:
    """Comparison, arithmetic, concatenation, AND or OR."""

    operator: str
    left: Any
    right: Any


@dataclass(frozen=True, slots=True)
class Not:
    part: Any


@dataclass(frozen=True, slots=True)
class Minus:
    part: Any


@dataclass(frozen=True, slots=True)
class IsNull:
    part: Any


@dataclass(frozen=True, slots=True)
class Among:
    part: Any
    members: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Between:
    part: Any
    low: Any
    high: Any


@dataclass(frozen=True, slots=True)
class Exists:
    query: Query


@dataclass(frozen=True, slots=True)
class Scalar:
    query: Query


@dataclass(frozen=True, slots=True)
class Case:
    """``subject`` is None where each condition stands for itself."""

    subject: Any
    whens: tuple[tuple[Any, Any], ...]
    otherwise: Any


@dataclass(frozen=True, slots=True)
class Star:
    """All columns, of one table or of all."""

    table: str | None


@dataclass(frozen=True, slots=True)
class Column:
    expression: Any
    alias: str | None


@dataclass(frozen=True, slots=True)
class Source:
    """A table or a query in FROM, and how it is joined: ``,``, INNER or LEFT."""

    what: str | Query
    alias: str | None
    join: str = ","
    on: Any = None


@dataclass(frozen=True, slots=True)
class Ordering:
    expression: Any
    descending: bool
    nulls: str


@dataclass(frozen=True, slots=True)
class Query:
    columns: tuple[Star | Column, ...]
    sources: tuple[Source, ...]
    where: Any = None
    group: tuple[Any, ...] = ()
    having: Any = None
    order: tuple[Ordering, ...] = ()
    top: int | None = None
    fetch: int | None = None
    distinct: bool = False
