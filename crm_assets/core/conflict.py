"""Conflicts: what to do with a write when both sides may have changed. Values in, values out."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from crm_assets.core.model import Field, Object, Policy, Rules, Value

Same = Callable[[Field, Value, Value], bool]
"""The connector's equality: whether the CRM would store the first value as the second."""


@dataclass(frozen=True)
class Verdict:
    """The columns of one write, sorted. All three together are the write's columns."""

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


@dataclass(frozen=True)
class Ruling:
    """Conflicting columns by who wins; those of ``hold`` wait for a person."""

    hold: frozenset[str] = field(default_factory=frozenset)
    crm: frozenset[str] = field(default_factory=frozenset)
    product: frozenset[str] = field(default_factory=frozenset)

    @property
    def stopped(self) -> frozenset[str]:
        """Columns that are not sent."""
        return self.hold | self.crm


NO_RULING = Ruling()


def rule(rules: Rules, conflicting: Iterable[str], written_at: datetime, since: Mapping[str, str | None]) -> Ruling:
    """Apply the policies to the conflicting columns of one update.

    ``since`` is, per column, the version that first had the CRM's value. ``newest_wins`` holds a field whose version
    is no time; at the same moment the CRM wins.
    """
    winners = {column: _winner(rules.policy(column), written_at, since.get(column)) for column in conflicting}
    return _sorted(winners) if winners else NO_RULING


def rule_delete(rules: Rules, changed: Iterable[str], written_at: datetime, version: str | None) -> Ruling:
    """The same for a delete of a record that the CRM has changed: one winner for the whole record."""
    winner = _winner(rules.conflict, written_at, version)
    return _sorted(dict.fromkeys(changed, winner))


def _winner(policy: Policy, written_at: datetime, since: str | None) -> str:
    match policy:
        case Policy.CRM_WINS:
            return "crm"
        case Policy.PRODUCT_WINS:
            return "product"
        case Policy.NEWEST_WINS if (moment := _moment(since)) is not None:
            return "product" if written_at > moment else "crm"
        case _:
            return "hold"


def _moment(version: str | None) -> datetime | None:
    try:
        moment = datetime.fromisoformat(version or "")
    except ValueError:
        return None
    return moment if moment.tzinfo is not None else None


def _sorted(winners: Mapping[str, str]) -> Ruling:
    def won(name: str) -> frozenset[str]:
        return frozenset(column for column, winner in winners.items() if winner == name)

    return Ruling(hold=won("hold"), crm=won("crm"), product=won("product"))


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
