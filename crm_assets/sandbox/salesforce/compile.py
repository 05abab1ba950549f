"""A query → SQL over the store's tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from . import formulas
from .conditions import Conditions
from .errors import error
from .fields import NUMBERS, Field
from .objects import SObject
from .schema import Schema, quote
from .soql import Aggregate, AllFields, Operand, Path_, Query

ADDRESS_PARTS = ("Street", "City", "State", "PostalCode", "Country")
_FUNCTIONS = {"COUNT", "COUNT_DISTINCT", "MIN", "MAX", "SUM", "AVG"}
_NUMBER, _DAY = Field("", "int"), Field("", "date")
_DATE_FUNCTIONS = {
    "CALENDAR_YEAR": "CAST(substr({0}, 1, 4) AS INTEGER)",
    "CALENDAR_QUARTER": "(CAST(substr({0}, 6, 2) AS INTEGER) + 2) / 3",
    "CALENDAR_MONTH": "CAST(substr({0}, 6, 2) AS INTEGER)",
    "DAY_IN_MONTH": "CAST(substr({0}, 9, 2) AS INTEGER)",
    "DAY_IN_WEEK": "CAST(strftime('%w', {0}) AS INTEGER) + 1",
    "DAY_IN_YEAR": "CAST(strftime('%j', {0}) AS INTEGER)",
    "WEEK_IN_MONTH": "(CAST(substr({0}, 9, 2) AS INTEGER) + 6) / 7",
    "WEEK_IN_YEAR": "(CAST(strftime('%j', {0}) AS INTEGER) + 6) / 7",
    "HOUR_IN_DAY": "CAST(substr({0}, 12, 2) AS INTEGER)",
    "DAY_ONLY": "substr({0}, 1, 10)",
}
"""Of stored dates and times. Days begin at midnight UTC; the fiscal year of a fresh org is the calendar's."""


@dataclass(frozen=True, slots=True)
class Column:
    """One selected field: its canonical path, and the SQL that reads it (several for an address)."""

    path: Path_
    field: Field
    sql: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Select:
    """A compiled query. ``rows`` selects row numbers; ``page`` reads columns of given rows."""

    kind: SObject
    columns: tuple[Column, ...]
    parents: tuple[tuple[Path_, SObject, str], ...]
    source: str
    where: str
    tail: str
    params: tuple[Any, ...]
    alive: str
    aggregates: tuple[tuple[str, str, Field], ...] = ()
    count_only: bool = False

    def rows(self) -> str:
        return f"SELECT t._row FROM {self.source} WHERE {self.where}{self.tail}"

    def reads(self) -> list[str]:
        """All SQL expressions of a row: the columns, then the id of each parent."""
        return [one for column in self.columns for one in column.sql] + [sql for _, _, sql in self.parents]

    def page(self, count: int) -> str:
        """Row number, columns, parents' ids and the record's own id of some rows."""
        marks = ", ".join("?" * count)
        reads = ", ".join(["t._row", *self.reads(), 't."Id"'])
        return f"SELECT {reads} FROM {self.source} WHERE t._row IN ({marks}) AND {self.alive}"


class Compiler:
    """Compiles one query: resolves names, adds the joins that parent paths need."""

    def __init__(self, schema: Schema, query: Query, deleted: bool) -> None:
        self._schema = schema
        self._query = query
        kind = schema.visible(query.object)
        if kind is None:
            raise error(
                400,
                "INVALID_TYPE",
                f"sObject type '{query.object}' is not supported. If you are attempting to use a custom object, "
                "be sure to append the '__c' after the entity name. Please reference your WSDL or the "
                "describe call for the appropriate names.",
            )
        self._kind = kind
        self._deleted = deleted or query.all_rows
        self._joins: dict[Path_, tuple[str, SObject]] = {(): ("t", kind)}
        self._sql_joins: list[str] = []

    def _entity(self, prefix: Path_) -> tuple[str, SObject]:
        """Alias and object of a parent path, joined when it is first named."""
        key = tuple(part.lower() for part in prefix)
        if key in self._joins:
            return self._joins[key]
        alias, kind = self._entity(prefix[:-1])
        link = kind.relation(prefix[-1])
        if link is None:
            raise error(
                400,
                "INVALID_FIELD",
                f"Didn't understand relationship '{prefix[-1]}' in field path. If you are attempting to use "
                "a custom relationship, be sure to append the '__r' after the custom relationship name. Please "
                "reference your WSDL or the describe call for the appropriate names.",
            )
        parent = self._schema.objects[link.reference_to[0]]
        name = f"p{len(self._sql_joins)}"
        self._sql_joins.append(f'LEFT JOIN {quote(parent.name)} {name} ON {name}."Id" = {alias}.{quote(link.name)}')
        self._joins[key] = (name, parent)
        return self._joins[key]

    def _strip(self, path: Path_) -> Path_:
        """A path may start with the object's name or its alias."""
        if (
            len(path) > 1
            and path[0].lower() in (self._kind.name.lower(), (self._query.alias or "").lower())
            and (self._kind.relation(path[0]) is None)
        ):
            return path[1:]
        return path

    def resolve(self, path: Path_) -> tuple[str, Field]:
        path = self._strip(path)
        alias, kind = self._entity(path[:-1])
        field = kind.find(path[-1])
        if field is None or field.hidden:
            raise error(
                400,
                "INVALID_FIELD",
                f"No such column '{path[-1]}' on entity '{kind.name}'. If you are attempting to use a custom "
                "field, be sure to append the '__c' after the custom field name. Please reference your WSDL or the "
                "describe call for the appropriate names.",
            )
        return formulas.sql(self._schema, kind, field, alias), field

    def operand(self, one: Operand) -> tuple[str, Field]:
        """The SQL of a field or of a function of one, and what comes out of it."""
        if not isinstance(one, Aggregate):
            return self.resolve(one)
        name = one.function.replace("FISCAL_", "CALENDAR_")
        if one.path is None:
            if name != "COUNT":
                raise error(400, "MALFORMED_QUERY", f"unknown function {one.function}")
            return "count(*)", _NUMBER
        column, field = self.resolve(one.path)
        if name in _DATE_FUNCTIONS:
            if field.type not in ("date", "datetime") or (name == "HOUR_IN_DAY" and field.type == "date"):
                raise error(400, "INVALID_FIELD", f"field {field.name} does not support the function {one.function}")
            return _DATE_FUNCTIONS[name].format(column), _DAY if name == "DAY_ONLY" else _NUMBER
        if name not in _FUNCTIONS:
            raise error(400, "MALFORMED_QUERY", f"unknown function {one.function}")
        if not field.filterable or (name in ("SUM", "AVG") and field.type not in NUMBERS):
            raise error(400, "INVALID_FIELD", f"field {field.name} does not support aggregate operator {name}")
        if name.startswith("COUNT"):
            return f"count({'DISTINCT ' if name == 'COUNT_DISTINCT' else ''}{column})", _NUMBER
        return f"{name.lower()}({column})", field

    def _of_row(self, one: Operand) -> tuple[str, Field]:
        """An operand of WHERE, which looks at one row."""
        if isinstance(one, Aggregate) and one.function in _FUNCTIONS:
            raise error(400, "MALFORMED_QUERY", f"unexpected token: '{one.function}'")
        return self.operand(one)

    def _column(self, path: Path_) -> Column:
        sql, field = self.resolve(path)
        path = self._strip(path)
        alias, _ = self._entity(path[:-1])
        names = []
        for i in range(len(path) - 1):
            _, above = self._entity(path[:i])
            link = above.relation(path[i])
            names.append(link.relationship or path[i] if link else path[i])
        parts: tuple[str, ...] = (sql,)
        if field.type == "address":
            start = field.name.removesuffix("Address")
            parts = tuple(f"{alias}.{quote(start + part)}" for part in ADDRESS_PARTS)
        return Column((*names, field.name), field, parts)

    def _fields(self) -> list[Column]:
        columns: list[Column] = []
        for one in self._query.selected:
            if isinstance(one, AllFields):
                columns += self._everything(one)
            elif not isinstance(one, Aggregate):
                columns.append(self._column(one))
        seen = set()
        for column in columns:
            if column.path in seen:
                message = f"duplicate field selected: {column.path[-1]}"
                raise error(400, "MALFORMED_QUERY", message)
            seen.add(column.path)
        return columns

    def _everything(self, one: AllFields) -> list[Column]:
        if one.which not in ("ALL", "STANDARD", "CUSTOM"):
            raise error(400, "MALFORMED_QUERY", f"unexpected token: '{one.which}'")
        if one.which != "STANDARD" and not (self._query.limit and self._query.limit <= 200):
            raise error(
                400,
                "MALFORMED_QUERY",
                f"The SOQL FIELDS function with {one.which} must have a LIMIT of at most 200",
            )
        wanted = {"ALL": (True, False), "STANDARD": (False,), "CUSTOM": (True,)}[one.which]
        return [self._column((field.name,)) for field in self._kind.seen if field.custom in wanted]

    def _aggregates(self) -> list[tuple[str, str, Field]]:
        """Names, SQL and kinds of the columns of an aggregate query."""
        grouped = {self.operand(one)[0] for one in self._query.group}
        out: list[tuple[str, str, Field]] = []
        number = 0
        for one in self._query.selected:
            if isinstance(one, AllFields):
                raise error(400, "MALFORMED_QUERY", "Field must be grouped or aggregated: FIELDS")
            sql, field = self.operand(one)
            plain = not isinstance(one, Aggregate) or one.function not in _FUNCTIONS
            if plain and sql not in grouped:
                name = f"{one.function}({'.'.join(one.path or ())})" if isinstance(one, Aggregate) else ".".join(one)
                raise error(400, "MALFORMED_QUERY", f"Field must be grouped or aggregated: {name}")
            if isinstance(one, Aggregate):
                out.append((one.alias or f"expr{number}", sql, field))
                number += one.alias is None
            else:
                out.append((one[-1], sql, field))
        return out

    def compile(self) -> Select:
        query = self._query
        grouped = bool(query.group) or any(isinstance(one, Aggregate) for one in query.selected)
        count_only = len(query.selected) == 1 and query.selected[0] == Aggregate("COUNT", None, None)
        aggregates = self._aggregates() if grouped else []
        columns = [] if grouped else self._fields()
        conditions, having = Conditions(self._of_row), Conditions(self.operand)
        alive = "1" if self._deleted or not self._kind.deletable else 't."IsDeleted" = 0'
        where = alive if query.where is None else f"{alive} AND {conditions.sql(query.where)}"
        tail = ""
        if query.group:
            tail += " GROUP BY " + ", ".join(self.operand(one)[0] for one in query.group)
        if query.having is not None:
            tail += f" HAVING {having.sql(query.having)}"
        if query.order:
            tail += " ORDER BY " + ", ".join(
                f"{self.operand(one.path)[0]} {'DESC' if one.descending else 'ASC'} NULLS {one.nulls}"
                for one in query.order
            )
        if query.limit is not None or query.offset:
            tail += f" LIMIT {-1 if query.limit is None else query.limit} OFFSET {query.offset}"
        prefixes = dict.fromkeys(column.path[:i] for column in columns for i in range(1, len(column.path)))
        parents = []
        for prefix in prefixes:
            alias, kind = self._entity(prefix)
            parents.append((prefix, kind, f'{alias}."Id"'))
        source = " ".join([f"{quote(self._kind.name)} t", *self._sql_joins])
        return Select(
            self._kind,
            tuple(columns),
            tuple(parents),
            source,
            where,
            tail,
            (*conditions.params, *having.params),
            alive,
            tuple(aggregates),
            count_only,
        )


def compile_query(schema: Schema, query: Query, deleted: bool = False) -> Select:
    """SQL for a query; ``deleted`` includes the recycle bin (queryAll)."""
    return Compiler(schema, query, deleted).compile()
