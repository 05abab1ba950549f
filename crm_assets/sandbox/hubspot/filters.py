"""Filters of a search as conditions in SQL."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from . import clock
from .errors import invalid
from .kinds import Kind
from .properties import Property
from .wire import strings

Params = list[Any]
_COMPARE = {"EQ": "=", "NEQ": "<>", "LT": "<", "LTE": "<=", "GT": ">", "GTE": ">="}
_GROUPS, _FILTERS, _ALL = 5, 6, 18


def column(kind: Kind, one: Property) -> tuple[str, str]:
    """The SQL of a property's value, and how values compare with it: ``number``, ``ms``, ``moment``, ``date`` or
    ``text``. Ids and the stamp of the last change have columns of their own, so that an index serves them."""
    if one.name == "hs_object_id":
        return "id", "number"
    if one.name == kind.modified:
        return "updated", "ms"
    path = "$." + '"' + one.name.replace('"', "") + '"'
    value = f"json_extract(props, '{path}')"
    if one.type == "number":
        return f"CAST({value} AS REAL)", "number"
    if one.type == "datetime":
        # Without the Z a time with a fraction sorts behind the same time without one.
        return f"rtrim({value}, 'Z')", "moment"
    return value, "date" if one.type == "date" else "text"


def operand(form: str, name: str, given: Any) -> Any:
    """A filter's value in the form its property is compared in."""
    shown = str(given).lower() if isinstance(given, bool) else str(given)
    try:
        if form == "number":
            return float(shown) if "." in shown or "e" in shown.lower() else int(shown)
        if form == "ms":
            return clock.parse(shown)
        if form == "moment":
            return clock.iso(clock.parse(shown)).rstrip("Z")
        if form == "date":
            return clock.iso(clock.parse(shown))[:10]
    except ValueError:
        raise invalid(f"{shown} is no value to compare {name} with", propertyName=[name]) from None
    return shown


def conditions(kind: Kind, live: Mapping[str, Property], body: Mapping[str, Any]) -> tuple[str, Params]:
    """The filters of a search: groups are alternatives, the filters of a group all have to fit."""
    groups = body.get("filterGroups") or ([{"filters": body["filters"]}] if body.get("filters") else [])
    if not isinstance(groups, list) or not all(isinstance(one, dict) for one in groups):
        raise invalid("filterGroups has to be a list of objects")
    filters = [one.get("filters") or [] for one in groups]
    if len(groups) > _GROUPS or any(len(one) > _FILTERS for one in filters) or sum(map(len, filters)) > _ALL:
        raise invalid(f"A search has at most {_GROUPS} groups of {_FILTERS} filters, {_ALL} in all")
    parts, params = list[str](), Params()
    for group in filters:
        if not group:
            continue
        made = [_condition(kind, live, one) for one in group]
        parts.append(" AND ".join(f"({sql})" for sql, _ in made))
        params += [value for _, values in made for value in values]
    sql = " OR ".join(f"({part})" for part in parts) if len(parts) > 1 else "".join(parts)
    if query := str(body.get("query") or "").strip():
        fits = " OR ".join("has_token(json_extract(props, ?), ?)" for _ in kind.searched)
        params += [value for name in kind.searched for value in (f'$."{name}"', f"{query}*")]
        sql = f"({sql}) AND ({fits})" if sql else f"({fits})"
    return sql, params


def _condition(kind: Kind, live: Mapping[str, Property], one: Mapping[str, Any]) -> tuple[str, Params]:
    name, operator = str(one.get("propertyName")), str(one.get("operator"))
    known = live.get(name)
    if known is None:
        raise invalid(f"There is no property {name} to search {kind.name} by", propertyName=[name])
    sql, form = column(kind, known)
    text = form == "text"
    if operator in ("HAS_PROPERTY", "NOT_HAS_PROPERTY"):
        return f"{sql} {'NOTNULL' if operator == 'HAS_PROPERTY' else 'ISNULL'}", []
    if operator in ("IN", "NOT_IN"):
        values = [operand(form, name, value) for value in strings(one.get("values"))]
        if not values:
            raise invalid(f"{operator} needs values", propertyName=[name])
        # Only what is stored is put in lower case, not what it is compared with.
        stored = f"lower({sql})" if text else sql
        marks = ", ".join("?" * len(values))
        return f"{stored} {'NOT IN' if operator == 'NOT_IN' else 'IN'} ({marks})", values
    if one.get("value") is None:
        raise invalid(f"{operator} needs a value", propertyName=[name])
    value = operand(form, name, one["value"])
    if operator in _COMPARE:
        folded = " COLLATE NOCASE" if text and operator in ("EQ", "NEQ") else ""
        return f"{sql} {_COMPARE[operator]} ?{folded}", [value]
    if operator == "BETWEEN":
        return f"{sql} BETWEEN ? AND ?", [value, operand(form, name, one.get("highValue"))]
    if operator in ("CONTAINS_TOKEN", "NOT_CONTAINS_TOKEN"):
        wanted = operator == "CONTAINS_TOKEN"
        return f"{'' if wanted else 'NOT '}has_token({sql}, ?)", [str(value)]
    raise invalid(f"{operator} is no operator", operator=[operator])
