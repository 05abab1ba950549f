"""What the account fills in by itself: defaults, names, and totals; and what it insists on."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from .fields import Field, RecordType
from .store import Row

_PERSONS = frozenset({"contact", "employee"})
_COMPANIES = frozenset({"customer", "vendor"})
_STATUS = {"salesOrder": "B", "invoice": "A", "customerPayment": "C"}
_SHOWN = {"salesOrder": "Sales Order", "invoice": "Invoice", "customerPayment": "Payment"}


def defaults(kind: RecordType, moment: datetime) -> Row:
    """The values of a new record before those that are given; ids 1 are what every account has."""
    row: Row = {}
    if kind.name not in ("subsidiary", "currency"):
        row["subsidiary"] = 1
    if "currency" in kind.index and kind.name != "subsidiary":
        row["currency"] = 1
    if kind.name == "customer":
        row |= {"entitystatus": 1, "emailpreference": "DEFAULT", "creditholdoverride": "AUTO",
                "globalsubscriptionstatus": "2"}  # fmt: skip
    if kind.table == "transaction":
        row |= {"trandate": f"{moment:%Y-%m-%d} 00:00:00", "exchangerate": 1, "status": _STATUS[kind.name]}
    if kind.name == "invoice":
        row |= {"amountpaid": 0}
    return row


def identity(kind: RecordType, row: Row) -> Row:
    """With the names that follow from other values: the record's own number, and what references to it show."""
    row = dict(row)
    if kind.table == "transaction":
        row["tranid"] = row["tranid"] or f"{kind.label}{row['id']}"
        row["_name"] = f"{_SHOWN[kind.name]} #{row['tranid']}"
    elif kind.table == "item":
        row["_name"] = row["itemid"]
    elif kind.name in _PERSONS:
        row["entityid"] = row["entityid"] or " ".join(one for one in (row["firstname"], row["lastname"]) if one) or None
        row["_name"] = row["entityid"]
    elif kind.name in _COMPANIES:
        row["entityid"] = row["entityid"] or f"{kind.label}{row['id']}"
        row["_name"] = row["entityid"]
    else:
        row["_name"] = row["name"]
    return row


def missing(kind: RecordType, row: Row) -> list[Field]:
    """The fields without which the record cannot be saved."""
    needed = [field for field in kind.fields if field.required]
    if kind.name in _COMPANIES:
        names = ("firstname", "lastname") if row["isperson"] == "T" else ("companyname",)
        needed += [kind.index[name] for name in names]
    if kind.name in _PERSONS:
        needed.append(kind.index["entityid"])
    return [field for field in needed if row[field.column] is None]


def totals(row: Row, lines: Sequence[Row]) -> Row:
    """The amounts of a transaction from its lines."""
    subtotal = round(sum(line["amount"] or 0 for line in lines), 2)
    total = round(subtotal - (row.get("discounttotal") or 0) + (row.get("taxtotal") or 0), 2)
    changed: Row = {"subtotal": subtotal, "total": total}
    if "amountremaining" in row:
        changed["amountremaining"] = round(total - (row.get("amountpaid") or 0), 2)
    return changed
