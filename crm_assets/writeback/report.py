"""What a drain of the outbox did."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field, replace

COUNTS = ("sent", "confirmed", "rejected", "conflicts", "unknown", "retried")


@dataclass(frozen=True)
class ObjectReport:
    """Numbers of writes of one object. ``sent`` counts what went to the CRM, the others what became of it."""

    sent: int = 0
    confirmed: int = 0
    rejected: int = 0
    conflicts: int = 0
    unknown: int = 0
    retried: int = 0

    @property
    def worked(self) -> bool:
        return any(getattr(self, name) for name in COUNTS)


@dataclass
class WritebackReport:
    """Totals, and the same per object (by table name). ``stopped`` says why the drain ended before the outbox did.
    Several threads may add to it."""

    objects: dict[str, ObjectReport] = field(default_factory=dict)
    api_calls: int = 0
    stopped: str | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False, repr=False, compare=False)

    def add(self, table: str, **counts: int) -> None:
        with self._lock:
            now = self.objects.get(table, ObjectReport())
            self.objects[table] = replace(now, **{name: getattr(now, name) + n for name, n in counts.items()})

    def total(self, name: str) -> int:
        return sum(getattr(report, name) for report in self.objects.values())

    @property
    def worked(self) -> bool:
        return any(report.worked for report in self.objects.values())
