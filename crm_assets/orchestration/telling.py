"""What a dispatcher has told and asked so far: its cursor, and the asset events that follow from it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

import dagster as dg

from crm_assets.connections import ConnectionSpec
from crm_assets.orchestration.metadata import table_metadata
from crm_assets.orchestration.naming import mirror_key, writeback_key

if TYPE_CHECKING:
    from crm_assets.core.model import Object
    from crm_assets.store.activity import Activity

EVERY_SECONDS = 60.0
"""Dagster keeps asset events for ever: at most one per asset in this time."""

_MIRROR = ("inserted", "updated", "deleted", "undeleted")
_WRITEBACK = ("sent", "confirmed", "rejected", "conflicts", "unknown")
_FIRST_PAUSE = 10.0
_LONGEST_PAUSE = 300.0


@dataclass
class Position:
    """The sensor's cursor. Counts are summed per asset until they are told; it stays a few hundred bytes."""

    seq: int = 0
    """The last activity that was taken."""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    """Not told yet, by ``mirror/<table>`` or ``writeback/<table>``."""
    told: dict[str, float] = field(default_factory=dict)
    """When each was told last."""
    asked: dict[str, list[Any]] = field(default_factory=dict)
    """Per kind of work: what was due when a run was asked for, how often, and when it may be asked for again."""

    @classmethod
    def parse(cls, cursor: str | None) -> Position:
        return cls(**json.loads(cursor)) if cursor else cls()

    def dump(self) -> str:
        return json.dumps(asdict(self), separators=(",", ":"))

    def take(self, activities: Iterable[Activity]) -> None:
        """Add what happened. Only what changed something counts: a read that changed nothing is no event."""
        for one in activities:
            self.seq = max(self.seq, one.seq)
            kind, names = ("writeback", _WRITEBACK) if one.kind == "writeback" else ("mirror", _MIRROR)
            changed = {name: int(one.counts[name]) for name in names if one.counts.get(name)}
            if changed:
                sums = self.counts.setdefault(f"{kind}/{one.table}", {})
                for name, count in changed.items():
                    sums[name] = sums.get(name, 0) + count

    def untold(self, now: float) -> list[str]:
        """What may be told now."""
        return [key for key in self.counts if now - self.told.get(key, 0.0) >= EVERY_SECONDS]

    def tell(self, key: str, now: float) -> dict[str, int]:
        """The counts to tell; they begin anew."""
        self.told[key] = now
        return self.counts.pop(key)

    def attempt(self, what: str, due: tuple[int, ...], now: float) -> int | None:
        """The number of the attempt that may be asked for now; None while the same work that got nowhere must wait.

        Work that changed since the last attempt starts again at 1.
        """
        before, number, not_before = self.asked.get(what, [[], 0, 0.0])
        if tuple(before) != due:
            number = 0
        elif now < not_before:
            return None
        pause = min(_FIRST_PAUSE * 2.0**number, _LONGEST_PAUSE)
        self.asked[what] = [list(due), number + 1, now + pause]
        return int(number) + 1

    def done(self, what: str) -> None:
        self.asked.pop(what, None)


def asset_events(
    spec: ConnectionSpec, position: Position, objects: Mapping[str, Object], now: float
) -> list[dg.AssetMaterialization]:
    """One materialization for each asset that may be told of, with the columns, so that a comparison of two events
    never lacks them."""
    events = []
    for key in position.untold(now):
        kind, _, table = key.partition("/")
        counts = position.tell(key, now)
        if table not in spec.tables():
            continue
        metadata: dict[str, Any] = {f"rows_{name}": count for name, count in counts.items()}
        metadata["by"] = "relay or command line"
        if kind == "mirror" and table in objects:
            metadata |= table_metadata(spec, objects[table])
        asset_key = mirror_key if kind == "mirror" else writeback_key
        events.append(dg.AssetMaterialization(asset_key(spec.connection, table), metadata=metadata))
    return events
