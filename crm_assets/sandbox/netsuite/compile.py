"""A SuiteQL query → SQL over the store's tables."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from .expressions import Expressions, Scope, Select
from .nodes import (
    Binary,
    Column,
    Literal,
    Ordering,
    Query,
    Reference,
    Source,
    Star,
)
from .oracle import Oracle, Typed
from .schema import Schema, quote
from .suiteql import invalid
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


class Compiler(Expressions):
    """Compiles one query; ``date_format`` is how the user writes dates."""

    def __init__(self, schema: Schema, tables: Mapping[str, Table], date_format: str) -> None:
        super().__init__(Oracle(schema, date_format))
        self._tables = tables
        self._aliases = 0

    def compile(self, query: Query) -> Compiled:
        made = self._query(query, None, outermost=True)
        counted = f"SELECT 1{made.core}" if made.plain and not made.limited else made.sql
        return Compiled(made.sql, counted, tuple(made.names), made.limited, self._parameters)

    def _query(self, query: Query, above: Scope | None, outermost: bool = False) -> Select:
        scope = Scope(above=above)
        source = self._from(query.sources, scope)
        where, limit = self._where(query.where, scope)
        names, found = self._selected(query, scope)
        group = ", ".join(self.value(one, scope).sql for one in query.group)
        core = f" FROM {source}"
        core += f" WHERE {where}" if where else ""
        core += f" GROUP BY {group}" if group else ""
        core += f" HAVING {self.condition(query.having, scope)}" if query.having is not None else ""
        # Moments that reach the caller as they are come in the form that the user set.
        shown = [self._oracle.plain(one) if outermost else one.sql for one in found]
        columns = [f"{sql} AS {quote(name)}" for sql, name in zip(shown, names, strict=True)]
        distinct = "DISTINCT " if query.distinct else ""
        ordered = [self._ordered(one, scope, names, found) for one in query.order]
        keys = [one.sql for one in ordered]
        turns = [_turn(one, typed) for one, typed in zip(query.order, ordered, strict=True)]
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
        return Select(sql, names, [one.kind for one in found], core, limited or bool(cuts), plain)

    def subquery(self, query: Query, scope: Scope) -> Select:
        return self._query(query, scope)

    def _from(self, sources: tuple[Source, ...], scope: Scope) -> str:
        text = ""
        for i, one in enumerate(sources):
            sql = self._source(one, scope)
            if i:
                text += {",": ", ", "INNER": " JOIN ", "LEFT": " LEFT JOIN "}[one.join]
            text += sql
            if one.on is not None:
                text += f" ON {self.condition(one.on, scope)}"
        return text

    def _source(self, one: Source, scope: Scope) -> str:
        self._aliases += 1
        alias = f"t{self._aliases}"
        if isinstance(one.what, Query):
            made = self._query(one.what, scope.above)
            selected = zip(made.names, made.kinds, strict=True)
            scope.tables[one.alias or alias] = (
                alias,
                {name: TableColumn("{t}." + quote(name), kind) for name, kind in selected},
            )
            return f"({made.sql}) {alias}"
        table = self._tables.get(one.what)
        if table is None:
            raise invalid(f"Record '{one.what}' was not found")
        name = one.alias or one.what
        if name in scope.tables:
            raise invalid(f"Ambiguous table '{name}'")
        columns = table.columns
        if one.join == "LEFT":
            columns = {own: replace(column, sure=False) for own, column in columns.items()}
        scope.tables[name] = (alias, columns)
        return f"{table.source} {alias}"

    def _selected(self, query: Query, scope: Scope) -> tuple[list[str], list[Typed]]:
        names: list[str] = []
        found: list[Typed] = []
        for one in query.columns:
            if isinstance(one, Star):
                self._starred(one, scope, names, found)
                continue
            typed = self.value(one.expression, scope)
            names.append(_free(one.alias or self._own_name(one, found), names))
            found.append(typed)
        return names, found

    def _own_name(self, one: Column, found: list[Typed]) -> str:
        return one.expression.name if isinstance(one.expression, Reference) else f"expr{len(found) + 1}"

    def _starred(self, star: Star, scope: Scope, names: list[str], found: list[Typed]) -> None:
        if star.table is not None and star.table not in scope.tables:
            raise invalid(f"Unknown identifier '{star.table}'")
        for name, (alias, columns) in scope.tables.items():
            if star.table not in (None, name):
                continue
            for own, column in columns.items():
                if own not in names:
                    names.append(own)
                    found.append(Typed(column.sql.format(t=alias), column.kind, column))

    def _where(self, where: Any, scope: Scope) -> tuple[str, str | None]:
        """The condition, and the number of rows that ROWNUM allows."""
        limit: str | None = None
        kept = []
        for one in _conjuncts(where):
            if isinstance(one, Binary) and isinstance(one.left, Reference) and one.left.name == "rownum":
                if one.operator not in ("<", "<=", "=") or limit is not None:
                    raise invalid("ROWNUM can be compared once, by < or <=")
                bound = f"CAST({self.value(one.right, scope).sql} AS INTEGER)"
                limit = f"{bound} - 1" if one.operator == "<" else bound
            else:
                kept.append(self.condition(one, scope))
        return " AND ".join(kept), limit

    def _ordered(self, one: Ordering, scope: Scope, names: list[str], selected: list[Typed]) -> Typed:
        expression = one.expression
        if isinstance(expression, Literal) and isinstance(expression.value, int):
            if not 1 <= expression.value <= len(selected):
                raise invalid("ORA-01785: ORDER BY item must be the number of a SELECT-list expression")
            return selected[expression.value - 1]
        if isinstance(expression, Reference) and expression.table is None and expression.name in names:
            return selected[names.index(expression.name)]
        return self.value(expression, scope)


def _turn(one: Ordering, typed: Typed) -> str:
    # Where there are no nulls an index may give the order, if they are not asked for.
    nulls = "" if typed.column is not None and typed.column.sure else f" NULLS {one.nulls}"
    return f"{' DESC' if one.descending else ''}{nulls}"


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
