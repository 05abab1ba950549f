"""What the CRM would refuse for certain: no call is spent on it."""

from __future__ import annotations

from collections.abc import Sequence

from crm_assets.core.model import Object
from crm_assets.core.preflight import problems
from crm_assets.core.values import record_from_json
from crm_assets.store.write import Write


def unsendable(obj: Object, writes: Sequence[Write]) -> list[tuple[Write, str]]:
    """Writes that the CRM would refuse for certain, with the reason."""
    refused = []
    for write in writes:
        try:
            values = record_from_json(obj, write.new)
        except (ValueError, ArithmeticError) as error:
            refused.append((write, f"not sent: {error}"))
            continue
        if len(values) < len(write.new):
            values |= {column: None for column in write.new if column not in obj.by_column}
        reasons = problems(obj, write.op, values)
        if reasons:
            refused.append((write, f"not sent: {'; '.join(reasons)}"))
    return refused
