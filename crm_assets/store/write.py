"""A write of the product on its way to the CRM."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from crm_assets.core.model import Op


@dataclass(frozen=True, slots=True)
class Write:
    """A claimed outbox row. ``base``, ``new`` and ``theirs`` are JSON values by column name."""

    seq: int
    op: Op
    row_id: UUID
    id: str | None
    base: Mapping[str, Any]
    new: Mapping[str, Any]
    created_at: datetime
    attempts: int
    theirs: Mapping[str, Any] = field(default_factory=dict)
    theirs_since: Mapping[str, str] = field(default_factory=dict)
    sent_at: datetime | None = None
    claimed_at: datetime | None = None
    """When it was last taken to be sent: its call cannot have left earlier."""
