"""Formula and roll-up fields: SQL that computes them when a record is read, so that no stamp moves with their values.

Source: Object Reference, "Field Types" (calculated fields have no stored value); Salesforce Help, "Formula Operators
and Functions". Of the formula language: texts, numbers, fields over any number of parents, ``+ - * / &``, brackets
and TODAY(). Of roll-ups: COUNT, SUM, MIN and MAX over the live records that refer to this one.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from .fields import Field, of_type

if TYPE_CHECKING:
    from .objects import SObject
    from .schema import Schema

_TOKEN = re.compile(r"""\s*(?:(?P<text>"[^"]*"|'[^']*')|(?P<number>\d+(?:\.\d+)?)|(?P<today>TODAY\(\s*\))
    |(?P<path>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*)|(?P<sign>[-+*/&()]))""", re.VERBOSE)  # fmt: skip
_DEEPEST = 10
_FUNCTIONS = frozenset({"COUNT", "SUM", "MIN", "MAX"})


def make(name: str, kind: str, body: Mapping[str, Any]) -> Field:
    """The field that an admin's order describes: ``formula`` is a text, ``rollup`` names ``function``, ``object``,
    ``field`` (of that object, referring to this one) and ``of`` (what is summed up)."""
    field = of_type(name, kind).but(
        calculated=True,
        createable=False,
        updateable=False,
        nillable=True,
        defaulted_on_create=False,
        default=None,
        formula=body.get("formula"),
    )
    if rollup := body.get("rollup"):
        function = str(rollup.get("function") or "COUNT").upper()
        if function not in _FUNCTIONS:
            raise ValueError(f"rollup: {function!r} is none of {', '.join(sorted(_FUNCTIONS))}")
        parts = (function, str(rollup.get("object")), str(rollup.get("field")), str(rollup.get("of") or "Id"))
        field = field.but(rollup=parts)
    return field


def sql(schema: Schema, kind: SObject, field: Field, alias: str, depth: int = 0) -> str:
    """The expression that reads a field of the row ``alias``."""
    if depth > _DEEPEST:
        raise ValueError(f"{kind.name}.{field.name} is calculated from itself, or over more than {_DEEPEST} steps")
    if field.formula is not None:
        return f"({_Parser(schema, kind, field, alias, depth).whole()})"
    if field.rollup is not None:
        return _rolled_up(schema, field, alias, depth)
    return f"{alias}.{_quote(field.name)}"


def check(schema: Schema) -> None:
    """ValueError if a formula names what is not there (any more): such a field cannot be taken away."""
    for kind in schema.objects.values():
        for field in kind.fields:
            if field.derived:
                sql(schema, kind, field, "t")


def _rolled_up(schema: Schema, field: Field, alias: str, depth: int) -> str:
    assert field.rollup is not None
    function, name, link, of = field.rollup
    child = schema.find(name)
    if child is None or child.find(link) is None or child.find(of) is None:
        raise ValueError(f"{field.name} rolls up {name}.{of} by {link}, which is not there")
    inner = f"r{depth}"
    value = sql(schema, child, child.index[of.lower()], inner, depth + 1)
    result = f"{function}({value})" if function != "SUM" else f"coalesce(SUM({value}), 0)"
    alive = f' AND {inner}."IsDeleted" = 0' if child.deletable else ""
    where = f'{inner}.{_quote(child.index[link.lower()].name)} = {alias}."Id"{alive}'
    return f"(SELECT {result} FROM {_quote(child.name)} {inner} WHERE {where})"


class _Parser:
    """One formula, left to right; ``&`` binds least."""

    def __init__(self, schema: Schema, kind: SObject, field: Field, alias: str, depth: int) -> None:
        self._schema, self._kind, self._field, self._alias, self._depth = schema, kind, field, alias, depth
        self._text = field.formula or ""
        self._at = 0

    def whole(self) -> str:
        result = self._joined()
        if self._text[self._at :].strip():
            raise self._wrong()
        return result

    def _joined(self) -> str:
        parts = [self._sum()]
        while self._take("&"):
            parts.append(self._sum())
        return parts[0] if len(parts) == 1 else " || ".join(f"coalesce({part}, '')" for part in parts)

    def _sum(self) -> str:
        result = self._product()
        while sign := self._take("+", "-"):
            result = f"coalesce({result}, 0) {sign} coalesce({self._product()}, 0)"
        return result

    def _product(self) -> str:
        result = self._value()
        while sign := self._take("*", "/"):
            result = f"coalesce({result}, 0) * 1.0 {sign} coalesce({self._value()}, 0)"
        return result

    def _value(self) -> str:
        found = _TOKEN.match(self._text, self._at)
        if found is None or (found["sign"] and found["sign"] != "("):
            raise self._wrong()
        self._at = found.end()
        if found["sign"]:
            inner = self._joined()
            if not self._take(")"):
                raise self._wrong()
            return f"({inner})"
        if found["text"]:
            return "'" + found["text"][1:-1].replace("'", "''") + "'"
        if found["number"]:
            return found["number"]
        if found["today"]:
            return "date('now')"
        return self._path(self._kind, found["path"].split("."), self._alias, self._depth)

    def _path(self, kind: SObject, path: list[str], alias: str, depth: int) -> str:
        if len(path) == 1:
            field = kind.find(path[0])
            if field is None or not (field.stored or field.derived):
                raise ValueError(f"formula of {self._field.name}: {kind.name} has no field {path[0]}")
            return sql(self._schema, kind, field, alias, depth + 1)
        link = kind.relation(path[0])
        if link is None:
            raise ValueError(f"formula of {self._field.name}: {kind.name} has no parent {path[0]}")
        parent, inner = self._schema.objects[link.reference_to[0]], f"f{depth}"
        value = self._path(parent, path[1:], inner, depth + 1)
        where = f'{inner}."Id" = {alias}.{_quote(link.name)}'
        return f"(SELECT {value} FROM {_quote(parent.name)} {inner} WHERE {where})"

    def _take(self, *signs: str) -> str | None:
        rest = self._text[self._at :]
        found = next((sign for sign in signs if rest.lstrip().startswith(sign)), None)
        if found:
            self._at += len(rest) - len(rest.lstrip()) + 1
        return found

    def _wrong(self) -> ValueError:
        return ValueError(f"formula of {self._field.name}: cannot be read at {self._text[self._at :]!r}")


def _quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
