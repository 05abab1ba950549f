"""The order in which objects are written: parents before the children that refer to them."""

from __future__ import annotations

from collections.abc import Mapping

from crm_assets.core.model import Object


def parents_first(objects: Mapping[str, Object]) -> list[Object]:
    """All objects, each after the objects it refers to; cycles and self-references are cut where first met."""
    by_name = {obj.name: obj for obj in objects.values()}
    ordered: list[Object] = []
    seen: set[str] = set()

    def visit(obj: Object) -> None:
        if obj.name in seen:
            return
        seen.add(obj.name)
        for fld in obj.fields:
            for target in fld.reference_to:
                if target in by_name and fld.writable:
                    visit(by_name[target])
        ordered.append(obj)

    for name in sorted(by_name):
        visit(by_name[name])
    return ordered
