"""Places: where a read that stopped goes on. Text for others, of meaning only here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass

from crm_assets.core.model import Object


@dataclass(frozen=True, slots=True)
class Found:
    """Ids, and what the next of them lie behind: the vendor's mark of a list, or an id of a search.
    ``behind`` is None after the last ones."""

    ids: Sequence[str]
    behind: str | None


def place(obj: Object, behind: str | None) -> str | None:
    """The place behind a page, for this choice of fields and records only."""
    return None if behind is None else f"{_choice(obj)}:{behind}"


def behind(obj: Object, after: str | None) -> str | None:
    """The place as it was; None if it belongs to another choice."""
    choice, _, at = (after or "").partition(":")
    return at if choice == _choice(obj) else None


def _choice(obj: Object) -> str:
    chosen = json.dumps([obj.where, *(fld.name for fld in obj.fields)])
    return hashlib.blake2b(chosen.encode(), digest_size=8).hexdigest()
