"""SOQL conditions → SQL conditions, with the vendor's checks of types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from . import clock, ids
from .errors import error
from .fields import NUMBERS, Field
from .relative import span
from .soql import Aggregate, Among, Compare, Includes, Join, Literal, Negated, Operand

Resolve = Callable[[Operand], tuple[str, Field]]
_TYPE_NAMES = {"datetime": "dateTime", "id": "ID", "reference": "reference"}


class Conditions:
    """Builds the WHERE and the HAVING clause of a query and collects their parameters."""

    def __init__(self, resolve: Resolve) -> None:
        self._resolve = resolve
        self.params: list[Any] = []

    def sql(self, node: Any) -> str:
        if isinstance(node, Join):
            return "(" + f" {node.word} ".join(self.sql(part) for part in node.parts) + ")"
        if isinstance(node, Negated):
            # SQL's NOT of an unknown is unknown; SOQL knows only yes and no.
            return f"(NOT coalesce({self.sql(node.part)}, 0))"
        if isinstance(node, Compare):
            return self._compare(node)
        if isinstance(node, Among):
            return self._among(node)
        return self._includes(node)

    def _field(self, path: Operand) -> tuple[str, Field]:
        column, field = self._resolve(path)
        if not field.filterable and not isinstance(path, Aggregate):
            name = ".".join(path)
            raise error(400, "INVALID_FIELD", f"field '{name}' can not be filtered in a query call")
        return column, field

    def _compare(self, node: Compare) -> str:
        column, field = self._field(node.path)
        literal = node.value
        if literal.kind == "null":
            if node.operator not in ("=", "!="):
                raise error(400, "INVALID_OPERATOR", "operator not valid with null")
            return f"({column} IS {'NOT ' if node.operator == '!=' else ''}NULL)"
        if literal.kind == "relative":
            return self._relative(column, field, node.operator, literal)
        if node.operator == "LIKE":
            if literal.kind != "string" or field.type in NUMBERS | {
                "boolean",
                "date",
                "datetime",
                "id",
                "reference",
            }:
                raise error(400, "INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on {field.name} field")
            self.params.append(literal.value)
            return f"({column} LIKE ? ESCAPE '\\')"
        if field.type == "datetime":
            return self._datetime(column, field, node.operator, literal)
        value = self._value(field, literal)
        self.params.append(value)
        # In SOQL "is not x" is true for an empty field too.
        return f"({column} {'IS NOT' if node.operator == '!=' else node.operator} ?)"

    def _datetime(self, column: str, field: Field, operator: str, literal: Literal) -> str:
        self._must(field, literal, literal.kind == "datetime")
        try:
            moment = clock.parse(literal.value)
        except ValueError:
            raise error(400, "MALFORMED_QUERY", f"Invalid datetime: {literal.value}") from None
        # Stored stamps are whole seconds, so a fraction only decides on which side of the second we are.
        if moment.microsecond:
            if operator == "=":
                return "0"
            if operator == "!=":
                return "1"
            operator = {">=": ">", ">": ">", "<": "<=", "<=": "<="}[operator]
        self.params.append(clock.stored(moment))
        return f"({column} {'IS NOT' if operator == '!=' else operator} ?)"

    def _relative(self, column: str, field: Field, operator: str, literal: Literal) -> str:
        name, n = literal.value
        days = span(name, n, clock.now().date())
        if days is None or field.type not in ("date", "datetime"):
            raise error(400, "MALFORMED_QUERY", f"unexpected token: '{name}'")
        first, end = (day.isoformat() + ("T00:00:00Z" if field.type == "datetime" else "") for day in days)
        if operator in ("<", ">="):
            self.params.append(first)
            return f"({column} {operator} ?)"
        if operator in ("<=", ">"):
            self.params.append(end)
            return f"({column} {'<' if operator == '<=' else '>='} ?)"
        self.params += [first, end]
        inside = f"({column} >= ? AND {column} < ?)"
        return inside if operator == "=" else f"(NOT coalesce({inside}, 0))"

    def _among(self, node: Among) -> str:
        column, field = self._field(node.path)
        values = [self._value(field, one) for one in node.values if one.kind != "null"]
        null = any(one.kind == "null" for one in node.values)
        self.params += values
        marks = ", ".join("?" * len(values))
        if node.negated:
            return (
                f"({column} IS NOT NULL AND {column} NOT IN ({marks}))"
                if null
                else (f"({column} IS NULL OR {column} NOT IN ({marks}))")
            )
        return f"({column} IS NULL OR {column} IN ({marks}))" if null else f"({column} IN ({marks}))"

    def _includes(self, node: Includes) -> str:
        column, field = self._field(node.path)
        if field.type != "multipicklist":
            raise error(400, "INVALID_QUERY_FILTER_OPERATOR", f"invalid operator on {field.name} field")
        choices = []
        for one in node.values:
            parts = str(one.value).split(";")
            self.params += [f";{part};" for part in parts]
            choices.append("(" + " AND ".join(f"instr(';' || {column} || ';', ?)" for _ in parts) + ")")
        found = "(" + " OR ".join(choices) + ")"
        return f"(NOT coalesce({found}, 0))" if node.negated else found

    def _must(self, field: Field, literal: Literal, good: bool) -> None:
        if good:
            return
        quotes = "should not be" if field.type in NUMBERS | {"boolean", "date", "datetime"} else "should be"
        kind = _TYPE_NAMES.get(field.type, field.type if quotes == "should not be" else "string")
        raise error(
            400,
            "INVALID_FIELD",
            f"value of filter criterion for field '{field.name}' must be of type {kind} and {quotes} "
            "enclosed in quotes",
        )

    def _value(self, field: Field, literal: Literal) -> Any:
        if field.type == "datetime":
            self._must(field, literal, literal.kind == "datetime")
            return clock.stored(clock.parse(literal.value))
        if field.type == "date":
            self._must(field, literal, literal.kind == "date")
        elif field.type in NUMBERS:
            self._must(field, literal, literal.kind == "number")
        elif field.type == "boolean":
            self._must(field, literal, literal.kind == "boolean")
            return int(literal.value)
        else:
            self._must(field, literal, literal.kind == "string")
        if field.type in ("id", "reference"):
            found = ids.full(literal.value) if literal.value else ""
            if found is None:
                raise error(400, "INVALID_QUERY_FILTER_OPERATOR", f"invalid ID field: {literal.value}")
            return found
        return literal.value
