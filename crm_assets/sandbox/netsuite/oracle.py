"""Oracle's functions and operators → SQLite's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from . import masks
from .display import shown_name
from .masks import MaskError
from .nodes import Literal
from .schema import Schema
from .suiteql import invalid
from .tables import Column

MOMENTS = frozenset({"date", "datetime"})
NOW = "strftime('%Y-%m-%d %H:%M:%S', 'now')"
WORDS = {
    "sysdate": (NOW, "datetime"),
    "systimestamp": (NOW, "datetime"),
    "current_timestamp": (NOW, "datetime"),
    "current_date": (NOW, "datetime"),
}
_SAME = {"UPPER": "upper", "LOWER": "lower", "LENGTH": "length", "ABS": "abs", "SUBSTR": "substr", "TRIM": "trim",
         "LTRIM": "ltrim", "RTRIM": "rtrim", "ROUND": "round", "INSTR": "instr", "REPLACE": "replace"}  # fmt: skip
_TEXTS = frozenset({"UPPER", "LOWER", "SUBSTR", "TRIM", "LTRIM", "RTRIM", "REPLACE"})
_TRUNC = {"DD": "%Y-%m-%d 00:00:00", "MM": "%Y-%m-01 00:00:00", "MONTH": "%Y-%m-01 00:00:00",
          "YYYY": "%Y-01-01 00:00:00", "YEAR": "%Y-01-01 00:00:00", "HH24": "%Y-%m-%d %H:00:00",
          "HH": "%Y-%m-%d %H:00:00", "MI": "%Y-%m-%d %H:%M:00"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Typed:
    """SQL of an expression, its kind (``any`` for a parameter or null), and the column it is if it is one."""

    sql: str
    kind: str
    column: Column | None = None
    constant: bool = False


class Oracle:
    """Translates calls; ``dates`` is how the user writes dates."""

    def __init__(self, schema: Schema, dates: str) -> None:
        self._schema = schema
        self.dates = text(dates)
        self._dates = masks.strftime(dates)

    def plain(self, typed: Typed) -> str:
        """As text: moments in the user's form."""
        return self._shown(typed.sql) if typed.kind in MOMENTS else typed.sql

    def _shown(self, moment: str) -> str:
        if self._dates is not None:
            return f"strftime({text(self._dates)}, {moment})"
        return f"ns_shown({moment}, {self.dates})"

    def call(self, name: str, arguments: Sequence[Any], given: Sequence[Typed]) -> Typed:
        """A call by name; ``arguments`` are what ``given`` was compiled from."""
        if name == "BUILTIN.DF":
            return self._display(given[0])
        if name in ("TO_DATE", "TO_TIMESTAMP"):
            return self._moment(given)
        if name == "TO_CHAR":
            return self._to_char(arguments, given)
        if name == "TRUNC":
            return self._trunc(arguments, given)
        if name in ("NVL", "COALESCE") and len(given) > 1:
            kind = next((one.kind for one in given if one.kind != "any"), "text")
            return Typed(f"coalesce({', '.join(one.sql for one in given)})", kind)
        if name == "NULLIF" and len(given) == 2:
            return Typed(f"nullif({given[0].sql}, {given[1].sql})", given[0].kind)
        if name == "TO_NUMBER":
            return Typed(f"ns_number({given[0].sql})", "number")
        if name == "SYS_EXTRACT_UTC":
            return given[0]
        if name == "CONCAT" and len(given) == 2:
            return Typed(f"({' || '.join(f'coalesce({one.sql}, {text(str())})' for one in given)})", "text")
        if name == "MOD" and len(given) == 2:
            return Typed(f"({given[0].sql} % {given[1].sql})", "number")
        if name in ("GREATEST", "LEAST") and len(given) > 1:
            own = "max" if name == "GREATEST" else "min"
            return Typed(f"{own}({', '.join(one.sql for one in given)})", given[0].kind)
        if name in _SAME:
            kind = "text" if name in _TEXTS else "number"
            return Typed(f"{_SAME[name]}({', '.join(one.sql for one in given)})", kind)
        raise invalid(f"Unknown function '{name}'")

    def arithmetic(self, sign: str, left: Typed, right: Typed) -> Typed:
        if left.kind in MOMENTS and right.kind in MOMENTS and sign == "-":
            return Typed(f"(julianday({left.sql}) - julianday({right.sql}))", "number")
        if left.kind in MOMENTS and sign in "+-":
            days = f"({right.sql}) * {'-' if sign == '-' else ''}86400.0"
            return Typed(f"strftime('%Y-%m-%d %H:%M:%S', {left.sql}, round({days}) || ' seconds')", "datetime")
        whole = f"({left.sql} * 1.0 / {right.sql})" if sign == "/" else f"({left.sql} {sign} {right.sql})"
        return Typed(whole, "number")

    def _display(self, value: Typed) -> Typed:
        """BUILTIN.DF: what the user interface shows."""
        own = value.column.field if value.column else None
        if value.kind == "boolean":
            return Typed(f"(CASE {value.sql} WHEN 'T' THEN 'Yes' WHEN 'F' THEN 'No' END)", "text")
        if value.kind in MOMENTS:
            return Typed(self._shown(value.sql), "text")
        if own is not None and own.choices:
            whens = " ".join(f"WHEN {text(key)} THEN {text(name)}" for key, name in own.choices)
            return Typed(f"(CASE {value.sql} {whens} ELSE {value.sql} END)", "text")
        if own is not None and own.type == "ref":
            return Typed(shown_name(self._schema, own, value.sql), "text")
        return Typed(value.sql, "text")

    def _moment(self, given: Sequence[Typed]) -> Typed:
        if given[0].kind in MOMENTS:
            return given[0]
        mask = given[1].sql if len(given) > 1 else self.dates
        return Typed(f"ns_moment({given[0].sql}, {mask})", "datetime")

    def _to_char(self, arguments: Sequence[Any], given: Sequence[Typed]) -> Typed:
        value = given[0]
        if value.kind not in MOMENTS:
            if len(given) > 1:
                raise invalid("TO_CHAR with a format takes a date")
            return Typed(f"CAST({value.sql} AS TEXT)", "text")
        if len(given) == 1:
            return Typed(self._shown(value.sql), "text")
        mask = arguments[1]
        if isinstance(mask, Literal) and isinstance(mask.value, str):
            try:
                own = masks.strftime(mask.value)
            except MaskError as failed:
                raise invalid(str(failed)) from None
            if own is not None:
                return Typed(f"strftime({text(own)}, {value.sql})", "text")
        return Typed(f"ns_shown({value.sql}, {given[1].sql})", "text")

    def _trunc(self, arguments: Sequence[Any], given: Sequence[Typed]) -> Typed:
        if given[0].kind not in MOMENTS:
            return Typed(f"CAST({given[0].sql} AS INTEGER)", "number")
        unit = arguments[1].value if len(given) > 1 and isinstance(arguments[1], Literal) else "DD"
        if str(unit).upper() not in _TRUNC:
            raise invalid("ORA-01898: too many precision specifiers")
        return Typed(f"strftime('{_TRUNC[str(unit).upper()]}', {given[0].sql})", "datetime")


def text(value: str) -> str:
    """A text as SQL."""
    return "'" + value.replace("'", "''") + "'"
