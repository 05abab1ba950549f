"""Comparing both ends: from counts, ids and differing fields to findings with likely causes. Values in, values out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

from crm_assets.core.model import Field, FieldType, Window


class Kind(StrEnum):
    MISSING = "missing"
    """The CRM has it, the mirror does not."""
    EXTRA = "extra"
    """The mirror has it, the CRM does not."""
    STALE = "stale"
    """The mirror has an older version."""
    DIFFERS = "differs"
    """The same version with another value."""
    WRONG_REFERENCE = "wrong_reference"
    """The same version referring to another record."""
    ASSOCIATION_MISSING = "association_missing"
    """The CRM associates two records, the mirror does not."""
    ASSOCIATION_EXTRA = "association_extra"
    """The mirror associates two records, the CRM does not."""
    DUPLICATE = "duplicate_external_id"
    """Another record carries the same external id, so that a write cannot tell them apart."""


class Cause(StrEnum):
    """Why both ends may have come to differ; a guess from what is known, for the person who looks into it."""

    LATE_COMMIT = "late commit"
    """The record appeared with a version that the reads had already passed."""
    LOST_EVENT = "lost event"
    """It changed after the last read, and no event told of it."""
    UNVERSIONED = "changed without its version"
    CALCULATED = "calculated field"
    UNSENT = "unsent write"
    REJECTED = "rejected write"
    SCHEMA = "schema drift"
    """The field came later than the record's last read."""
    UNEXPLAINED = "unexplained"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One record (``id``) that is not the same on both ends; ``field`` is a column, or empty for the whole record."""

    id: str
    kind: Kind
    field: str = ""
    cause: Cause = Cause.UNEXPLAINED


@dataclass(frozen=True, slots=True)
class Counted:
    """How many live records both ends have in a window of the version."""

    window: Window
    remote: int
    local: int


@dataclass(frozen=True, slots=True)
class Step:
    """What to do with windows whose counts differ: halve some further, compare others id by id."""

    split: tuple[Counted, ...] = ()
    compare: tuple[Counted, ...] = ()


def next_step(counted: Iterable[Counted], leaf: int) -> Step:
    """Equal counts are done. A window is compared by ids once that costs a call or two (``leaf`` records), or when so
    much of it differs that counting smaller parts would tell nothing."""
    split, compare = [], []
    for one in counted:
        largest = max(one.remote, one.local)
        if one.remote == one.local:
            continue
        if largest <= leaf or abs(one.remote - one.local) * 2 > largest:
            compare.append(one)
        else:
            split.append(one)
    return Step(tuple(split), tuple(compare))


def by_ids(remote: Collection[str], local: Collection[str], excluded: Collection[str] = ()) -> list[Finding]:
    """Records that only one end has; ``excluded`` ones are under way and say nothing."""
    there, here, out = set(remote), set(local), set(excluded)
    missing = [Finding(i, Kind.MISSING) for i in there - here - out]
    extra = [Finding(i, Kind.EXTRA) for i in here - there - out]
    return sorted(missing + extra)


def by_fields(differing: Mapping[str, Iterable[str]], excluded: Collection[str] = ()) -> list[Finding]:
    """Fields that differ, from the columns per id."""
    out = set(excluded)
    return sorted(
        Finding(record_id, Kind.DIFFERS, column)
        for record_id, columns in differing.items()
        if record_id not in out
        for column in columns
    )


WHOLE = ""
"""In place of a column: the record itself."""


@dataclass(frozen=True)
class Evidence:
    """What is known of one record that was found different: its versions on both ends as text that sorts (None: not
    there; empty: the record has none), where the reads have come to, and the writes that did not arrive, by column
    (``WHOLE``: a deletion). ``edge``: the record associates two others."""

    remote_version: str | None = None
    local_version: str | None = None
    cursor: str | None = None
    pushed: bool = False
    unsent: frozenset[str] = frozenset()
    rejected: frozenset[str] = frozenset()
    filled_later: frozenset[str] = frozenset()
    edge: bool = False


def explain(record_id: str, columns: Sequence[str], fields: Mapping[str, Field], known: Evidence) -> list[Finding]:
    """Findings of one record from the columns that differ (none: the record itself is on one end only)."""
    passed = known.cursor is not None and bool(known.remote_version) and (known.remote_version or "") < known.cursor
    unread = Cause.LATE_COMMIT if passed else Cause.LOST_EVENT if known.pushed else Cause.UNEXPLAINED
    if known.remote_version is None:
        kind = Kind.ASSOCIATION_EXTRA if known.edge else Kind.EXTRA
        return [Finding(record_id, kind, cause=Cause.LOST_EVENT)]
    if known.local_version is None:
        kind = Kind.ASSOCIATION_MISSING if known.edge else Kind.MISSING
        return [Finding(record_id, kind, cause=_of_deletion(known) or unread)]
    if known.local_version < known.remote_version:
        return [Finding(record_id, Kind.STALE, cause=unread)]
    return [
        Finding(record_id, _kind(fields.get(column)), column, _cause(column, fields.get(column), known))
        for column in sorted(columns)
    ]


def _of_deletion(known: Evidence) -> Cause | None:
    """Why a record that the product deleted is still there."""
    return Cause.UNSENT if WHOLE in known.unsent else Cause.REJECTED if WHOLE in known.rejected else None


def _kind(fld: Field | None) -> Kind:
    return Kind.WRONG_REFERENCE if fld is not None and fld.type is FieldType.REFERENCE else Kind.DIFFERS


def _cause(column: str, fld: Field | None, known: Evidence) -> Cause:
    if column in known.unsent:
        return Cause.UNSENT
    if column in known.rejected:
        return Cause.REJECTED
    if column in known.filled_later:
        return Cause.SCHEMA
    return Cause.CALCULATED if fld is not None and fld.calculated else Cause.UNVERSIONED


def count(findings: Iterable[Finding], *kinds: Kind) -> int:
    """Records (not fields) of these kinds."""
    return len({finding.id for finding in findings if finding.kind in kinds})
