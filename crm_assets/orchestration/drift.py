"""How an object in the CRM differs from its stored describe."""

from __future__ import annotations

from crm_assets.core.model import Field, Object


def changes(stored: Object, now: Object) -> list[str]:
    """One line per field that came, went, or changed in a way that its column feels."""
    lines = [
        f"new field {name} ({now.by_name[name].vendor_type})" for name in now.by_name if name not in stored.by_name
    ]
    for name, before in stored.by_name.items():
        after = now.by_name.get(name)
        if after is None:
            lines.append(f"field {name} is gone")
        elif after.type is not before.type:
            lines.append(f"field {name} was {before.vendor_type}, is {after.vendor_type}")
        elif _rights(after) != _rights(before):
            lines.append(f"field {name} is now {'writable' if after.writable else 'read-only'}")
    return lines


def _rights(field: Field) -> tuple[bool, bool]:
    return field.createable, field.updateable
