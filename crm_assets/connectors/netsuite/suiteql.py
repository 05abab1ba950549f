"""Queries: literals, conditions, column lists, and pages by key.

Source: "SuiteQL" and "Executing SuiteQL Queries Through REST Web Services". A result ends after 100,000 rows, and rows
move between its pages while others write; so every page is a query of its own, for what lies behind the last id.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from crm_assets.connectors.netsuite.kinds import Kind
from crm_assets.core.model import FieldType, Object, Window

_SECOND = timedelta(seconds=1)


@dataclass(frozen=True, slots=True)
class Query:
    """What to ask of one table: ``select`` lists its columns, ``where`` its conditions."""

    table: str
    select: str
    where: tuple[str, ...]
    key: str = "id"

    def page(self, behind: str | None) -> str:
        """The rows behind a key, in the order of keys."""
        where = self.where if behind is None else (*self.where, f"{self.key} > {number(behind)}")
        return f"SELECT {self.select} FROM {self.table}{_conditions(where)} ORDER BY {self.key}"

    def place(self, last: str | None) -> str | None:
        """The place behind a key, for this choice of columns and records only."""
        return None if last is None else f"{self._choice}:{last}"

    def behind(self, after: str | None) -> str | None:
        """The key of a place; None if it belongs to another choice."""
        choice, _, last = (after or "").partition(":")
        return last if last and choice == self._choice else None

    @property
    def _choice(self) -> str:
        return hashlib.blake2b(self.page(None).encode(), digest_size=8).hexdigest()


def counting(table: str, where: Sequence[str]) -> str:
    return f"SELECT COUNT(*) AS n FROM {table}{_conditions(where)}"


def columns(kind: Kind, obj: Object) -> str:
    """The id and every field, dates in a form that no user's preference changes."""
    shown = [f"{column(kind, f.name, f.type)} AS {kind.column(f.name)}" for f in obj.fields]
    return ", ".join(["id", *shown])


def column(kind: Kind, name: str, type_: FieldType) -> str:
    at = kind.column(name)
    match type_:
        case FieldType.DATE:
            return f"TO_CHAR({at}, 'YYYY-MM-DD')"
        case FieldType.TIMESTAMP:
            return moment(at)
        case _:
            return at


def moment(expression: str) -> str:
    """An instant as text, to the second, in the account's time zone."""
    return f"TO_CHAR({expression}, 'YYYY-MM-DD\"T\"HH24:MI:SS')"


def restriction(kind: Kind, obj: Object) -> list[str]:
    """Which records of the table are the object's."""
    return [condition for condition in (kind.where, obj.where and f"({obj.where})") if condition]


def within(at: str, window: Window | None, zone: ZoneInfo) -> list[str]:
    """The window as conditions on a column. Stamps are whole seconds, so both ends are rounded up to one."""
    if window is None:
        return []
    low = [] if window.low is None else [f"{at} >= {instant(window.low, zone)}"]
    return [*low, f"{at} < {instant(window.high, zone)}"]


def instant(value: datetime, zone: ZoneInfo) -> str:
    whole = value.replace(microsecond=0)
    local = (whole if whole == value else whole + _SECOND).astimezone(UTC).astimezone(zone)
    return f"TO_TIMESTAMP('{local:%Y-%m-%d %H:%M:%S}', 'YYYY-MM-DD HH24:MI:SS')"


def number(value: str) -> str:
    """An id. Nothing but digits goes into a statement, whatever it is said to be."""
    if not value.isascii() or not value.isdecimal():
        raise ValueError("an id of NetSuite is a number")
    return value


def among(expression: str, literals: Sequence[str]) -> str:
    return f"{expression} IN ({', '.join(literals)})"


def text(value: str) -> str:
    """A text literal."""
    return "'" + value.replace("'", "''") + "'"


def _conditions(where: Sequence[str]) -> str:
    return f" WHERE {' AND '.join(where)}" if where else ""
