"""What kinds of record there are: their tables in SuiteQL, and how deletions and scripts call them.

Source: REST API Browser and Records Catalog. A type that is not named here (``customrecord_x``) has
the table of its name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Kind:
    """``types`` are the REST record types whose schemas describe it; ``where`` tells its records in ``table`` apart.

    ``columns`` are those whose name in SuiteQL is not the lower-case name of the field; ``extra`` are fields that only
    the table has; ``lines`` are names of sublists.
    """

    name: str
    table: str
    types: tuple[str, ...]
    where: str | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    extra: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()
    writable: bool = True

    def column(self, name: str) -> str:
        return self.columns.get(name, name.lower())


_TOTAL = {"total": "foreigntotal"}
_ITEMS = ("inventoryItem", "nonInventorySaleItem", "serviceSaleItem")

KINDS = {
    kind.name: kind
    for kind in (
        Kind("customer", "customer", ("customer",)),
        Kind("contact", "contact", ("contact",)),
        Kind("vendor", "vendor", ("vendor",)),
        Kind("employee", "employee", ("employee",)),
        Kind("subsidiary", "subsidiary", ("subsidiary",), writable=False),
        Kind("currency", "currency", ("currency",), writable=False),
        # All items are one table; which type a new one is to be, only the types of their own can say.
        Kind("item", "item", _ITEMS, extra=("itemType",), writable=False),
        Kind("inventoryItem", "item", ("inventoryItem",), where="itemtype = 'InvtPart'"),
        Kind("salesOrder", "transaction", ("salesOrder",), "type = 'SalesOrd'", _TOTAL, lines=("item",)),
        Kind("invoice", "transaction", ("invoice",), "type = 'CustInvc'", _TOTAL, lines=("item",)),
        Kind(
            "customerPayment",
            "transaction",
            ("customerPayment",),
            "type = 'CustPymt'",
            {"customer": "entity", "payment": "foreigntotal"},
        ),
    )
}

# Fields whose schema does not say what they hold the id of.
_TARGETS: Mapping[str, tuple[str, ...]] = {
    "subsidiary": ("subsidiary",),
    "currency": ("currency",),
    "salesRep": ("employee",),
    "supervisor": ("employee",),
    "company": ("customer",),
    "customer": ("customer",),
    "entity": ("customer",),
    "createdFrom": ("salesOrder",),
    "item": ("item", "inventoryItem"),
}
_PARENTS = ("customer", "vendor", "subsidiary")

_BETWEEN = "_"


def kind_of(name: str) -> Kind:
    return KINDS.get(name) or Kind(name, name.lower(), (name,))


def lines_of(name: str) -> tuple[Kind, str] | None:
    """The kind and the sublist that a name such as ``salesOrder_item`` stands for; None for another name."""
    parent, between, sublist = name.rpartition(_BETWEEN)
    kind = KINDS.get(parent)
    return (kind, sublist) if between and kind is not None and sublist in kind.lines else None


def lines_name(kind: Kind, sublist: str) -> str:
    return f"{kind.name}{_BETWEEN}{sublist}"


def target(kind: str, name: str) -> tuple[str, ...]:
    """What a reference of a kind may point to, as far as it has a table here."""
    if name == "parent" and kind in _PARENTS:
        return (kind,)
    return _TARGETS.get(name, ())


def usual_names(types: Sequence[str]) -> list[str]:
    """Names of all objects that an account with these record types has."""
    known = [kind for kind in KINDS.values() if any(name in types for name in kind.types)]
    described = {name for kind in known for name in kind.types}
    custom = [name for name in types if name.startswith("customrecord") and name not in described]
    return [*(k.name for k in known), *(lines_name(k, sublist) for k in known for sublist in k.lines), *custom]


def told_as(record_type: str) -> list[str]:
    """Objects that a change of a record type is about; scripts write types in lower case."""
    wanted = record_type.lower()
    kinds = [kind for kind in KINDS.values() if any(name.lower() == wanted for name in kind.types)]
    if not kinds:
        return [record_type]
    return [name for k in kinds for name in (k.name, *(lines_name(k, sublist) for sublist in k.lines))]
