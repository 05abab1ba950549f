"""What a user of the account has set."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from . import masks


@dataclass(slots=True)
class Preferences:
    """``date_format`` is how dates are read in ``q`` and shown by SuiteQL: an Oracle mask such as ``MM/DD/YYYY``.
    ``empty_orders`` says whether a transaction may be saved without lines; many accounts refuse that."""

    date_format: str = "MM/DD/YYYY"
    empty_orders: bool = True

    def change(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Sets what an order names; ValueError for what cannot be set."""
        for name, value in order.items():
            if name == "empty_orders":
                self.empty_orders = bool(value)
            elif name == "date_format":
                masks.strftime(str(value))
                self.date_format = str(value)
            else:
                raise ValueError(f"unknown preference {name!r}; known: date_format, empty_orders")
        return {"date_format": self.date_format, "empty_orders": self.empty_orders}
