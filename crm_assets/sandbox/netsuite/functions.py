"""What SQLite lacks of Oracle's functions. Moments are texts as the store keeps them."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from datetime import datetime
from typing import Any

from . import masks

_failed = threading.local()


def failure() -> str | None:
    """Why the last query of this thread failed in one of these functions; asked once."""
    reason: str | None = getattr(_failed, "reason", None)
    _failed.reason = None
    return reason


def _told(function: Callable[..., Any]) -> Callable[..., Any]:
    """SQLite tells only that a function failed; this keeps the reason. Null in, null out."""

    def call(*given: Any) -> Any:
        if given[0] is None:
            return None
        try:
            return function(*given)
        except (ValueError, OverflowError) as failed:
            _failed.reason = str(failed)
            raise

    return call


def _moment(text: Any, mask: str) -> str:
    return masks.read(str(text), mask).isoformat(" ", "seconds")


def _shown(kept: str, mask: str) -> str:
    return masks.render(datetime.fromisoformat(kept), mask)


def _number(text: Any) -> int | float:
    try:
        return int(str(text))
    except ValueError:
        try:
            return float(str(text))
        except ValueError:
            raise ValueError("ORA-01722: invalid number") from None


def register(db: sqlite3.Connection) -> None:
    for name, count, function in (
        ("ns_moment", 2, _moment),
        ("ns_shown", 2, _shown),
        ("ns_number", 1, _number),
    ):
        # Deterministic, so that SQLite computes a bound once and can look it up in an index.
        db.create_function(name, count, _told(function), deterministic=True)
