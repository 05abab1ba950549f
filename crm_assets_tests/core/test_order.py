from __future__ import annotations

from crm_assets.core.model import Field, FieldType, Object
from crm_assets.writeback.order import parents_first


def _object(name: str, *parents: str) -> Object:
    fields = tuple(
        Field(p, p.lower(), FieldType.REFERENCE, "reference", createable=True, reference_to=(p,)) for p in parents
    )
    return Object(name, name.lower(), fields)


def test_parents_come_before_children_and_cycles_end() -> None:
    objects = {
        o.table: o for o in (_object("Contact", "Account"), _object("Account", "Account", "User"), _object("User"))
    }
    assert [o.name for o in parents_first(objects)] == ["User", "Account", "Contact"]
    cycle = {o.table: o for o in (_object("A", "B"), _object("B", "A"))}
    assert sorted(o.name for o in parents_first(cycle)) == ["A", "B"]
