"""A SuiteQL query → SQL over the store's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .oracle import MOMENTS, WORDS, Oracle, Typed, text
from .schema import Schema, quote
from .suiteql import (
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
    invalid,
)
from .tables import Column as TableColumn
from .tables import Table


@dataclass(frozen=True, slots=True)
class Compiled:
    """``counted`` has the same number of rows, for counting; ``limited`` tells that the query itself cuts them off;
    ``parameters`` is how many ``?`` it has."""

    sql: str
    counted: str
    names: tuple[str, ...]
    limited: bool
    parameters: int


@dataclass(frozen=True, slots=True)
class _Select:
    sql: str
    names: list[str]
    kinds: list[str]
    core: str
    limited: bool
    plain: bool


@dataclass(slots=True)
class _Scope:
    """What names mean inside one SELECT; ``above`` is that of the query around it."""

    tables: dict[str, tuple[str, Mapping[str, TableColumn]]] = field(default_factory=dict)
    above: _Scope | None = None
    aggregated: bool = False


class Compiler:
    """Compiles one query; ``date_format`` is how the user writes dates."""

    def __init__(self, schema: Schema, tables: Mapping[str, Table], date_format: str) -> None:
        self._oracle = Oracle(schema, date_format)
        self._tables = tables
        self._parameters = 0
        self._aliases = 0

    def compile(self, query: Query) -> Compiled:
        made = self._query(query, None, outermost=True)
        counted = f"SELECT 1{made.core}" if made.plain and not made.limited else made.sql
        return Compiled(made.sql, counted, tuple(made.names), made.limited, self._parameters)

    def _query(self, query: Query, above: _Scope | None, outermost: bool = False) -> _Select:
        scope = _Scope(above=above)
        source = self._from(query.sources, scope)
        where, limit = self._where(query.where, scope)
        names, found = self._selected(query, scope)
        group = ", ".join(self._value(one, scope).sql for one in query.group)
        core = f" FROM {source}"
        core += f" WHERE {where}" if where else ""
        core += f" GROUP BY {group}" if group else ""
        core += f" HAVING {self._condition(query.having, scope)}" if query.having is not None else ""
        # Moments that reach the caller as they are come in the form that the user set.
        shown = [self._oracle.plain(one) if outermost else one.sql for one in found]
        columns = [f"{sql} AS {quote(name)}" for sql, name in zip(shown, names, strict=True)]
        distinct = "DISTINCT " if query.distinct else ""
        keys = [self._ordered(one, scope, names, found).sql for one in query.order]
        turns = [_turn(one) for one in query.order]
        if limit is not None and keys:
            # ROWNUM counts the rows before they are sorted.
            inner = ", ".join(columns + [f"{sql} AS _o{i}" for i, sql in enumerate(keys)])
            core = f" FROM (SELECT {inner}{core} LIMIT {limit})"
            columns, keys, limit = [quote(name) for name in names], [f"_o{i}" for i in range(len(keys))], None
            limited = True
        else:
            limited = False
        order = ", ".join(f"{sql}{turn}" for sql, turn in zip(keys, turns, strict=True))
        cuts = [str(one) for one in (limit, query.top, query.fetch) if one is not None]
        tail = f" ORDER BY {order}" if order else ""
        tail += f" LIMIT {cuts[0] if len(cuts) == 1 else f'min({chr(44).join(cuts)})'}" if cuts else ""
        plain = not (group or query.distinct or scope.aggregated)
        sql = f"SELECT {distinct}{', '.join(columns)}{core}{tail}"
        return _Select(sql, names, [one.kind for one in found], core, limited or bool(cuts), plain)

    def _from(self, sources: tuple[Source, ...], scope: _Scope) -> str:
        text = ""
        for i, one in enumerate(sources):
            sql = self._source(one, scope)
            if i:
                text += {",": ", ", "INNER": " JOIN ", "LEFT": " LEFT JOIN "}[one.join]
            text += sql
            if one.on is not None:
                text += f" ON {self._condition(one.on, scope)}"
        return text

    def _source(self, one: Source, scope: _Scope) -> str:
        self._aliases += 1
        alias = f"t{self._aliases}"
        if isinstance(one.what, Query):
            made = self._query(one.what, scope.above)
            columns = {
                name: TableColumn("{t}." + quote(name), kind) for name, kind in zip(made.names, made.kinds, strict=True)
            }
            scope.tables[one.alias or alias] = (alias, columns)
            return f"({made.sql}) {alias}"
        table = self._tables.get(one.what)
        if table is None:
            raise invalid(f"Record '{one.what}' was not found")
        name = one.alias or one.what
        if name in scope.tables:
            raise invalid(f"Ambiguous table '{name}'")
        scope.tables[name] = (alias, table.columns)
        return f"{table.source} {alias}"

    def _selected(self, query: Query, scope: _Scope) -> tuple[list[str], list[Typed]]:
        names: list[str] = []
        found: list[Typed] = []
        for one in query.columns:
            if isinstance(one, Star):
                self._starred(one, scope, names, found)
                continue
            typed = self._value(one.expression, scope)
            names.append(_free(one.alias or self._own_name(one, found), names))
            found.append(typed)
        return names, found

    def _own_name(self, one: Column, found: list[Typed]) -> str:
        return one.expression.name if isinstance(one.expression, Reference) else f"expr{len(found) + 1}"

    def _starred(self, star: Star, scope: _Scope, names: list[str], found: list[Typed]) -> None:
        if star.table is not None and star.table not in scope.tables:
            raise invalid(f"Unknown identifier '{star.table}'")
        for name, (alias, columns) in scope.tables.items():
            if star.table not in (None, name):
                continue
            for own, column in columns.items():
                if own not in names:
                    names.append(own)
                    found.append(Typed(column.sql.format(t=alias), column.kind, column))

    def _where(self, where: Any, scope: _Scope) -> tuple[str, str | None]:
        """The condition, and the number of rows that ROWNUM allows."""
        limit: str | None = None
        kept = []
        for one in _conjuncts(where):
            if isinstance(one, Binary) and isinstance(one.left, Reference) and one.left.name == "rownum":
                if one.operator not in ("<", "<=", "=") or limit is not None:
                    raise invalid("ROWNUM can be compared once, by < or <=")
                bound = f"CAST({self._value(one.right, scope).sql} AS INTEGER)"
                limit = f"{bound} - 1" if one.operator == "<" else bound
            else:
                kept.append(self._condition(one, scope))
        return " AND ".join(kept), limit

    def _ordered(self, one: Ordering, scope: _Scope, names: list[str], selected: list[Typed]) -> Typed:
        expression = one.expression
        if isinstance(expression, Literal) and isinstance(expression.value, int):
            if not 1 <= expression.value <= len(selected):
                raise invalid("ORA-01785: ORDER BY item must be the number of a SELECT-list expression")
            return selected[expression.value - 1]
        if isinstance(expression, Reference) and expression.table is None and expression.name in names:
            return selected[names.index(expression.name)]
        return self._value(expression, scope)

    def _condition(self, node: Any, scope: _Scope) -> str:
        """A condition; in parentheses where it needs them."""
        match node:
            case Binary("AND" | "OR" as word, left, right):
                return f"({self._condition(left, scope)} {word} {self._condition(right, scope)})"
            case Not(part):
                return f"NOT ({self._condition(part, scope)})"
            case Binary("LIKE", left, right):
                return f"({self._value(left, scope).sql} LIKE {self._value(right, scope).sql})"
            case Binary(operator, left, right) if operator in ("=", "<>", "<", "<=", ">", ">="):
                one, other = self._pair(self._value(left, scope), self._value(right, scope))
                return f"({one} {operator} {other})"
            case IsNull(part):
                return f"({self._value(part, scope).sql} IS NULL)"
            case Between(part, low, high):
                value = self._value(part, scope)
                lower = self._pair(value, self._value(low, scope))[1]
                upper = self._pair(value, self._value(high, scope))[1]
                return f"({value.sql} BETWEEN {lower} AND {upper})"
            case Among(part, (Query() as query,)):
                return f"({self._value(part, scope).sql} IN ({self._query(query, scope).sql}))"
            case Among(part, members):
                if len(members) > 1000:
                    raise invalid("ORA-01795: maximum number of expressions in a list is 1000")
                value = self._value(part, scope)
                among = ", ".join(self._pair(value, self._value(one, scope))[1] for one in members)
                return f"({value.sql} IN ({among}))"
            case Exists(query):
                return f"EXISTS ({self._query(query, scope).sql})"
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

    def _value(self, node: Any, scope: _Scope) -> Typed:
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
                return Typed(f"(-{self._value(part, scope).sql})", "number")
            case Binary("||", left, right):
                parts = (f"coalesce({self._oracle.plain(self._value(one, scope))}, '')" for one in (left, right))
                return Typed(f"({' || '.join(parts)})", "text")
            case Binary("+" | "-" | "*" | "/" as sign, left, right):
                return self._oracle.arithmetic(sign, self._value(left, scope), self._value(right, scope))
            case Case():
                return self._case(node, scope)
            case Call():
                return self._call(node, scope)
            case Scalar(query):
                made = self._query(query, scope)
                return Typed(f"({made.sql})", made.kinds[0])
        raise invalid("a value is needed")

    def _reference(self, node: Reference, scope: _Scope | None) -> Typed:
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

    def _case(self, node: Case, scope: _Scope) -> Typed:
        subject = self._value(node.subject, scope) if node.subject is not None else None
        text, kind = "CASE", "any"
        for condition, result in node.whens:
            if subject is None:
                test = self._condition(condition, scope)
            else:
                test = " = ".join(self._pair(subject, self._value(condition, scope)))
            value = self._value(result, scope)
            kind = value.kind if kind == "any" else kind
            text += f" WHEN {test} THEN {value.sql}"
        if node.otherwise is not None:
            value = self._value(node.otherwise, scope)
            kind = value.kind if kind == "any" else kind
            text += f" ELSE {value.sql}"
        return Typed(f"({text} END)", "text" if kind == "any" else kind)

    def _call(self, node: Call, scope: _Scope) -> Typed:
        if node.name in ("COUNT", "MIN", "MAX", "SUM", "AVG"):
            return self._aggregate(node, scope)
        if node.star or node.distinct or not node.arguments:
            raise invalid(f"{node.name} cannot be called so")
        given = [self._value(one, scope) for one in node.arguments]
        return self._oracle.call(node.name, node.arguments, given)

    def _aggregate(self, node: Call, scope: _Scope) -> Typed:
        scope.aggregated = True
        if node.star and node.name == "COUNT":
            return Typed("count(*)", "number")
        if len(node.arguments) != 1:
            raise invalid(f"{node.name} takes one argument")
        value = self._value(node.arguments[0], scope)
        distinct = "DISTINCT " if node.distinct else ""
        kind = value.kind if node.name in ("MIN", "MAX") else "number"
        return Typed(f"{node.name.lower()}({distinct}{value.sql})", kind)


def _turn(one: Ordering) -> str:
    return f"{' DESC' if one.descending else ''} NULLS {one.nulls}"


def _conjuncts(node: Any) -> list[Any]:
    if node is None:
        return []
    if isinstance(node, Binary) and node.operator == "AND":
        return [*_conjuncts(node.left), *_conjuncts(node.right)]
    return [node]


def _free(name: str, taken: list[str]) -> str:
    """A name that no earlier column has."""
    found, count = name, 0
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    return found
