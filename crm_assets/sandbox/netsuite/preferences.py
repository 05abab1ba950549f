"""What a user of the account has set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from . import masks
from .wire import MOST_RESULTS


@dataclass(slots=True)
class Preferences:
    """``date_format`` is how dates are read in ``q`` and shown by SuiteQL: an Oracle mask such as ``MM/DD/YYYY``.
    ``empty_orders`` says whether a transaction may be saved without lines; many accounts refuse that. ``result_rows``
    is where a result of SuiteQL ends: the vendor's to say, and moved by tests."""

    date_format: str = "MM/DD/YYYY"
    empty_orders: bool = True
    result_rows: int = MOST_RESULTS

    def change(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Sets what an order names; ValueError for what cannot be set."""
        for name, value in order.items():
            match name:
                case "date_format":
                    masks.strftime(str(value))
                    self.date_format = str(value)
                case "empty_orders":
                    self.empty_orders = bool(value)
                case "result_rows":
                    self.result_rows = int(value)
                case _:
                    raise ValueError(f"unknown preference {name!r}; known: {', '.join(asdict(self))}")
        return asdict(self)
