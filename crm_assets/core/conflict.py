"""Conflicts: what to do with a write when both sides may have changed. Values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from crm_assets.core.model import Field, Object, Value

Same = Callable[[Field, Value, Value], bool]
"""The connector's equality: whether the CRM would store the first value as the second."""


class Policy(StrEnum):
    HOLD = "hold"
    """Both values are kept; a person decides."""


@dataclass(frozen=True)
class Verdict:
    """The columns of one write, sorted. All four together are the write's columns."""

    send: frozenset[str] = field(default_factory=frozenset)
    done: frozenset[str] = field(default_factory=frozenset)
    """The CRM has our value already."""
    conflict: frozenset[str] = field(default_factory=frozenset)


def judge(
    obj: Object, base: Mapping[str, Value], ours: Mapping[str, Value], theirs: Mapping[str, Value], same: Same
) -> Verdict:
    """Conflict = base ≠ theirs and ours ≠ theirs; everything else may be sent or has been.

    Columns that the CRM no longer shows are sent, so that the CRM itself refuses them by name.
    """
    send, done, conflict = set(), set(), set()
    for column, our_value in ours.items():
        fld = obj.by_column.get(column)
        if fld is None or column not in theirs:
            send.add(column)
        elif same(fld, our_value, theirs[column]):
            done.add(column)
        elif column in base and not same(fld, base[column], theirs[column]):
            conflict.add(column)
        else:
            send.add(column)
    return Verdict(frozenset(send), frozenset(done), frozenset(conflict))


def changed_since(obj: Object, base: Mapping[str, Value], theirs: Mapping[str, Value], same: Same) -> frozenset[str]:
    """Writable columns whose CRM value is no longer the base: what a delete would take away unseen."""
    return frozenset(
        f.column
        for f in obj.fields
        if f.writable and f.column in base and f.column in theirs and not same(f, base[f.column], theirs[f.column])
    )


class Unknown(StrEnum):
    """What a re-read says about a write without a reply."""

    DONE = "done"
    NOT_DONE = "not done"
    CONFLICT = "conflict"


def judge_unknown(verdict: Verdict) -> Unknown:
    """theirs = ours → done, theirs = base → not done, else conflict."""
    if verdict.conflict:
        return Unknown.CONFLICT
    return Unknown.NOT_DONE if verdict.send else Unknown.DONE
