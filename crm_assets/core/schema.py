"""Schema drift: from a stored describe and a new one to what is kept, what changed and what must be filled.

Values in, values out. A column is never retyped and never taken away: a field whose type the column cannot hold goes
on in another column, a field that went away leaves its column with its last values.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from crm_assets.core.model import Field, FieldType, Object, Retired


class Kind(StrEnum):
    ADDED = "added"
    DROPPED = "dropped"
    RETURNED = "returned"
    RETYPED = "retyped"
    CHOSEN = "chosen"
    NOT_CHOSEN = "not chosen"
    RIGHTS = "rights"
    PICKLIST = "picklist"
    LENGTH = "length"
    ROWS = "rows"
    """Another ``where``."""


@dataclass(frozen=True, slots=True)
class Change:
    """One difference. ``was`` and ``now`` are in the vendor's words, ``column`` is the mirror's."""

    field: str
    kind: Kind
    was: str
    now: str
    column: str

    def __str__(self) -> str:
        return f"{self.field}: {self.kind}" + (
            f" ({self.was or '-'} → {self.now or '-'})" if self.was != self.now else ""
        )


@dataclass(frozen=True)
class Followed:
    """The object to go on with; ``fill`` are columns whose rows lack the field's values."""

    obj: Object
    changes: tuple[Change, ...] = ()
    fill: tuple[str, ...] = ()


def holds(column: FieldType, kind: FieldType) -> bool:
    """Whether a column made for one type takes every value of another without loss."""
    texts = (FieldType.TEXT, FieldType.REFERENCE)
    if column is kind or column in texts:
        return True
    return column is FieldType.NUMBER and kind is FieldType.INTEGER


def follow(stored: Object, described: Object, chosen: Object, columns: Mapping[str, str], at: str) -> Followed:
    """Take a new describe over. ``described`` has all fields, ``chosen`` those of defs.yaml; ``columns`` are all
    choices of columns so far (``choices``); ``at`` is the time of the describe, ISO 8601."""
    taken = {*columns.values(), *(fld.column for fld in described.fields)}
    retired = {one.field: one for one in stored.retired if one.why != "retyped"}
    left_behind = [one for one in stored.retired if one.why == "retyped"]
    fields: list[Field] = []
    changes: list[Change] = []
    fill: list[str] = []
    for fld in chosen.fields:
        before, gone = stored.by_name.get(fld.name), retired.pop(fld.name, None)
        column, kind = (before.column, before.type) if before else (gone.column, gone.type) if gone else (None, None)
        if column is None or kind is None:
            now = fld
        elif holds(kind, fld.type):
            same = {kind, fld.type} <= {FieldType.TEXT, FieldType.REFERENCE}
            now = replace(fld, column=column, type=fld.type if same else kind)
        else:
            earlier = [one for one in left_behind if one.field == fld.name and one.type is fld.type]
            left_behind = [one for one in left_behind if one not in earlier]
            now = replace(fld, column=earlier[0].column if earlier else _free(column, taken))
            taken.add(now.column)
            left_behind.append(Retired(column, fld.name, kind, "retyped", at))
        fields.append(now)
        if before is None or before.column != now.column:
            fill.append(now.column)
        changes += _changes(before, gone, now)
    for name, old in stored.by_name.items():
        if name not in chosen.by_name:
            why = "not chosen" if name in described.by_name else "dropped"
            retired[name] = Retired(old.column, name, old.type, why, at)
            changes.append(Change(name, Kind.NOT_CHOSEN if why == "not chosen" else Kind.DROPPED, old.vendor_type, "",
                                  old.column))  # fmt: skip
    if stored.where != chosen.where:
        changes.append(Change("*", Kind.ROWS, stored.where or "", chosen.where or "", ""))
    gone_now = tuple(sorted([*left_behind, *retired.values()], key=lambda one: one.column))
    return Followed(replace(chosen, fields=tuple(fields), retired=gone_now), tuple(changes), tuple(fill))


def choices(obj: Object) -> dict[str, str]:
    """The columns chosen for the fields of an object. A column that a field left when its type changed stays chosen,
    under a name that no field can have."""
    left = {f"{one.field} ({one.type})": one.column for one in obj.retired if one.why == "retyped"}
    return left | {fld.name: fld.column for fld in obj.fields}


def _free(column: str, taken: Iterable[str]) -> str:
    """``<column>_2``, or the next number that is free. A name of 63 characters gives up its end."""
    used, n = set(taken), 2
    while (name := f"{column[: 62 - len(str(n))]}_{n}") in used:
        n += 1
    return name


def _changes(before: Field | None, gone: Retired | None, now: Field) -> Iterable[Change]:
    def change(kind: Kind, was: str, becomes: str) -> Change:
        return Change(now.name, kind, was, becomes, now.column)

    if before is None:
        if gone is not None:
            yield change(Kind.CHOSEN if gone.why == "not chosen" else Kind.RETURNED, "", now.vendor_type)
        else:
            yield change(Kind.ADDED, "", now.vendor_type)
        return
    if before.vendor_type != now.vendor_type or before.column != now.column:
        yield change(Kind.RETYPED, before.vendor_type, now.vendor_type)
    elif before.length != now.length:
        yield change(Kind.LENGTH, str(before.length), str(now.length))
    if (before.createable, before.updateable) != (now.createable, now.updateable):
        yield change(Kind.RIGHTS, _rights(before), _rights(now))
    if (before.picklist, before.restricted) != (now.picklist, now.restricted):
        yield change(Kind.PICKLIST, _values(before), _values(now))


def _rights(fld: Field) -> str:
    return "writable" if fld.createable and fld.updateable else "read-only" if not fld.writable else "partly writable"


def _values(fld: Field) -> str:
    shown = ", ".join(fld.picklist)
    return (shown if len(shown) <= 200 else f"{shown[:200]}…") + (" (restricted)" if fld.restricted else "")
