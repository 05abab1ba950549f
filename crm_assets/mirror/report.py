"""What one sync of one object did."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True)
class SyncReport:
    """Numbers are records unless named otherwise. ``partial``: it stopped early, ``reason`` says why; the cursor
    stands where it stood, and the next run goes on in the same window (it is then ``resumed``)."""

    connection: str
    object: str
    mode: str
    rows_read: int = 0
    inserted: int = 0
    updated: int = 0
    unchanged: int = 0
    deleted: int = 0
    undeleted: int = 0
    set_aside: int = 0
    waiting: int = 0
    """Still in the stage: the product holds their rows, or another apply is under way."""
    api_calls: int = 0
    seconds: float = 0.0
    low: datetime | None = None
    high: datetime | None = None
    cursor: str | None = None
    resumed: bool = False
    filled: int = 0
    """Rows that got a value in a column that came new."""
    left: int = 0
    """Records that are not within ``where`` any more and left the mirror."""
    filling: tuple[str, ...] = ()
    """Columns that are not filled to the end yet; the next runs go on."""
    partial: bool = False
    reason: str | None = None
    until: datetime | None = None
    """When a stop for quota ends, if the vendor said so."""

    @property
    def applied(self) -> int:
        """Records written to the mirror, deletions aside."""
        return self.inserted + self.updated + self.undeleted

    @property
    def rows_per_second(self) -> float:
        return self.rows_read / self.seconds if self.seconds > 0 else 0.0
