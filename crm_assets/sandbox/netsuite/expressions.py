"""Conditions and values of a query → SQL."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .nodes import (
    Among,
    Between,
    Binary,
    Call,
    Case,
    Exists,
    IsNull,
    Literal,
    Minus,
    Not,
    Parameter,
    Query,
    Reference,
    Scalar,
)
from .oracle import MOMENTS, WORDS, Oracle, Typed, text
from .suiteql import invalid
from .tables import Column


@dataclass(frozen=True, slots=True)
class Select:
    """A compiled SELECT; ``core`` is all of it from FROM on but the order, ``plain`` that each row of it is a row."""

    sql: str
    names: list[str]
    kinds: list[str]
    core: str
    limited: bool
    plain: bool


@dataclass(slots=True)
class Scope:
    """What names mean inside one SELECT; ``above`` is that of the query around it."""

    tables: dict[str, tuple[str, Mapping[str, Column]]] = field(default_factory=dict)
    above: Scope | None = None
    aggregated: bool = False


class Expressions(ABC):
    """Compiles what stands inside a SELECT; what a subquery is, its subclass knows."""

    def __init__(self, oracle: Oracle) -> None:
        self._oracle = oracle
        self._parameters = 0

    @abstractmethod
    def subquery(self, query: Query, scope: Scope) -> Select:
        """A query inside of another one, whose names it may use."""

    def condition(self, node: Any, scope: Scope) -> str:
        """A condition; in parentheses where it needs them."""
        match node:
            case Binary("AND" | "OR" as word, left, right):
                return f"({self.condition(left, scope)} {word} {self.condition(right, scope)})"
            case Not(part):
                return f"NOT ({self.condition(part, scope)})"
            case Binary("LIKE", left, right):
                return f"({self.value(left, scope).sql} LIKE {self.value(right, scope).sql})"
            case Binary(operator, left, right) if operator in ("=", "<>", "<", "<=", ">", ">="):
                one, other = self._pair(self.value(left, scope), self.value(right, scope))
                return f"({one} {operator} {other})"
            case IsNull(part):
                return f"({self.value(part, scope).sql} IS NULL)"
            case Between(part, low, high):
                value = self.value(part, scope)
                lower = self._pair(value, self.value(low, scope))[1]
                upper = self._pair(value, self.value(high, scope))[1]
                return f"({value.sql} BETWEEN {lower} AND {upper})"
            case Among(part, (Query() as query,)):
                return f"({self.value(part, scope).sql} IN ({self.subquery(query, scope).sql}))"
            case Among(part, members):
                if len(members) > 1000:
                    raise invalid("ORA-01795: maximum number of expressions in a list is 1000")
                value = self.value(part, scope)
                among = ", ".join(self._pair(value, self.value(one, scope))[1] for one in members)
                return f"({value.sql} IN ({among}))"
            case Exists(query):
                return f"EXISTS ({self.subquery(query, scope).sql})"
        raise invalid("a condition is needed")

    def _pair(self, left: Typed, right: Typed) -> tuple[str, str]:
        """Both sides of a comparison, made comparable as the vendor does it."""
        return self._beside(left, right), self._beside(right, left)

    def _beside(self, own: Typed, other: Typed) -> str:
        if other.kind in MOMENTS and own.kind not in MOMENTS:
            # A text beside a date is read in the user's own form.
            return f"ns_moment({own.sql}, {self._oracle.dates})"
        if other.kind == "number" and own.constant and own.kind in ("any", "text"):
            return f"CAST({own.sql} AS NUMERIC)"
        return own.sql

    def value(self, node: Any, scope: Scope) -> Typed:
        match node:
            case Literal(None) | Literal(""):
                return Typed("NULL", "any", constant=True)
            case Literal(str(value)):
                return Typed(text(value), "text", constant=True)
            case Literal(number):
                return Typed(str(number), "number", constant=True)
            case Parameter(number):
                self._parameters = max(self._parameters, number)
                return Typed(f"?{number}", "any", constant=True)
            case Reference():
                return self._reference(node, scope)
            case Minus(part):
                return Typed(f"(-{self.value(part, scope).sql})", "number")
            case Binary("||", left, right):
                parts = (f"coalesce({self._oracle.plain(self.value(one, scope))}, '')" for one in (left, right))
                return Typed(f"({' || '.join(parts)})", "text")
            case Binary("+" | "-" | "*" | "/" as sign, left, right):
                return self._oracle.arithmetic(sign, self.value(left, scope), self.value(right, scope))
            case Case():
                return self._case(node, scope)
            case Call():
                return self._call(node, scope)
            case Scalar(query):
                made = self.subquery(query, scope)
                return Typed(f"({made.sql})", made.kinds[0])
        raise invalid("a value is needed")

    def _reference(self, node: Reference, scope: Scope | None) -> Typed:
        if node.table is None and node.name in WORDS:
            sql, kind = WORDS[node.name]
            return Typed(sql, kind)
        if node.table is None and node.name == "rownum":
            return Typed("row_number() OVER ()", "number")
        while scope is not None:
            for name, (alias, columns) in scope.tables.items():
                if node.table in (None, name) and node.name in columns:
                    column = columns[node.name]
                    return Typed(column.sql.format(t=alias), column.kind, column)
            scope = scope.above
        whole = f"{node.table}.{node.name}" if node.table else node.name
        raise invalid(f"Unknown identifier '{whole}'")

    def _case(self, node: Case, scope: Scope) -> Typed:
        subject = self.value(node.subject, scope) if node.subject is not None else None
        text, kind = "CASE", "any"
        for condition, result in node.whens:
            if subject is None:
                test = self.condition(condition, scope)
            else:
                test = " = ".join(self._pair(subject, self.value(condition, scope)))
            value = self.value(result, scope)
            kind = value.kind if kind == "any" else kind
            text += f" WHEN {test} THEN {value.sql}"
        if node.otherwise is not None:
            value = self.value(node.otherwise, scope)
            kind = value.kind if kind == "any" else kind
            text += f" ELSE {value.sql}"
        return Typed(f"({text} END)", "text" if kind == "any" else kind)

    def _call(self, node: Call, scope: Scope) -> Typed:
        if node.name in ("COUNT", "MIN", "MAX", "SUM", "AVG"):
            return self._aggregate(node, scope)
        if node.star or node.distinct or not node.arguments:
            raise invalid(f"{node.name} cannot be called so")
        given = [self.value(one, scope) for one in node.arguments]
        return self._oracle.call(node.name, node.arguments, given)

    def _aggregate(self, node: Call, scope: Scope) -> Typed:
        scope.aggregated = True
        if node.star and node.name == "COUNT":
            return Typed("count(*)", "number")
        if len(node.arguments) != 1:
            raise invalid(f"{node.name} takes one argument")
        value = self.value(node.arguments[0], scope)
        distinct = "DISTINCT " if node.distinct else ""
        kind = value.kind if node.name in ("MIN", "MAX") else "number"
        return Typed(f"{node.name.lower()}({distinct}{value.sql})", kind)
