"""Comparing both ends: from ids and differing fields to findings. Values in, values out."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    MISSING = "missing"
    """The CRM has it, the mirror does not."""
    EXTRA = "extra"
    """The mirror has it, the CRM does not."""
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One record (``id``) that is not the same on both ends; ``field`` is a column for ``differs``, else empty."""

    id: str
    kind: Kind
    field: str = ""


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


def count(findings: Iterable[Finding], kind: Kind) -> int:
    """Records (not fields) of one kind."""
    return len({finding.id for finding in findings if finding.kind is kind})
