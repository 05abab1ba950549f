"""The records of a benchmark as each vendor writes them: contacts of 25 fields, the same in every shape.

A page is a template whose ids carry a mark; each page replaces the mark by its number. So a million records cost
next to nothing to make, and their ids are distinct and in order.
"""

from __future__ import annotations

import csv
import io
import json
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

_MARK = "@@@@@@"
_START = datetime(2025, 1, 1, tzinfo=UTC)

TYPES: dict[str, str] = {
    "IsDeleted": "boolean",
    "AccountId": "reference",
    "LastName": "string",
    "FirstName": "string",
    "Salutation": "picklist",
    "Title": "string",
    "Department": "string",
    "Email": "email",
    "Phone": "phone",
    "MobilePhone": "phone",
    "MailingStreet": "textarea",
    "MailingCity": "string",
    "MailingState": "string",
    "MailingPostalCode": "string",
    "MailingCountry": "string",
    "LeadSource": "picklist",
    "Description": "textarea",
    "Birthdate": "date",
    "Income__c": "currency",
    "Score__c": "int",
    "HasOptedOutOfEmail": "boolean",
    "OwnerId": "reference",
    "CreatedDate": "datetime",
    "LastModifiedDate": "datetime",
    "SystemModstamp": "datetime",
}
"""The fields beside the id, with the vendor's types."""

_FIXED = {"IsDeleted", "CreatedDate", "LastModifiedDate", "SystemModstamp"}


def record_id(page: int | str, row: int) -> str:
    """18 characters, in the order of pages and rows."""
    return f"003{page:>06}{row:09d}"


def number_of(identity: str, size: int) -> int:
    """The position of a record among all, from its id."""
    return int(identity[3:9]) * size + int(identity[9:])


def values(row: int, changed: int = 0) -> dict[str, Any]:
    """One record's fields; ``changed`` of a later version have a later cursor and another phone number."""
    modified = _START + timedelta(seconds=row % 50_000, days=changed)
    at = f"{modified:%Y-%m-%dT%H:%M:%S}.000"
    return {
        "IsDeleted": False,
        "AccountId": f"001{row % 9_973:015d}",
        "LastName": f"Müller-{row % 5_003}",
        "FirstName": ("Ada", "Grace", "Edsger", "Barbara", "Tony")[row % 5],
        "Salutation": (None, "Ms.", "Mr.", "Dr.")[row % 4],
        "Title": f"Head of Department {row % 97}" if row % 3 else None,
        "Department": ("Sales", "R&D", "Legal", None)[row % 4],
        "Email": f"person{row}@company{row % 991}.example" if row % 10 else None,
        "Phone": f"+49 30 {changed}{row % 999_983:07d}",
        "MobilePhone": f"+49 170 {row % 999_979:07d}" if row % 2 else None,
        "MailingStreet": f'{row % 211} Long "Old" Street\nBackyard {row % 7}' if row % 5 == 0 else f"{row % 211} Road",
        "MailingCity": f"City {row % 499}",
        "MailingState": ("BE", "NA", None)[row % 3],
        "MailingPostalCode": f"{row % 99_999:05d}",
        "MailingCountry": "Germany",
        "LeadSource": ("Web", "Phone", "Fair", None)[row % 4],
        "Description": f"Met at the fair, wants offer {row % 1_009}, calls back" if row % 4 == 0 else None,
        "Birthdate": f"19{row % 60 + 40}-0{row % 9 + 1}-1{row % 9}" if row % 2 else None,
        "Income__c": round(row % 100_000 + (row % 100) / 100, 2) if row % 3 else None,
        "Score__c": row % 101 if row % 7 else None,
        "HasOptedOutOfEmail": row % 11 == 0,
        "OwnerId": f"005{row % 53:015d}",
        "CreatedDate": "2024-06-01T08:00:00.000",
        "LastModifiedDate": at,
        "SystemModstamp": at,
    }


@dataclass(frozen=True)
class Template:
    """Pages of up to ``size`` records, each of which is one of ``rows``; ``head`` and ``between`` stand around them."""

    rows: tuple[bytes, ...]
    between: bytes
    head: bytes = b""

    @property
    def size(self) -> int:
        return len(self.rows)

    @cached_property
    def _whole(self) -> bytes:
        return self.head + self.between.join(self.rows)

    def of(self, page: int, total: int) -> bytes:
        """The page with that number, of ``total`` records in all."""
        left = total - page * self.size
        body = self._whole if left >= self.size else self.head + self.between.join(self.rows[:left])
        return body.replace(_MARK.encode(), b"%06d" % page)

    def follows(self, page: int, total: int) -> bool:
        """Whether there is a page behind this one."""
        return (page + 1) * self.size < total


def bulk(size: int) -> Template:
    """A page of Bulk results: everything quoted, empty for null."""
    return Template(
        tuple(
            _line([record_id(_MARK, row), *(_csv(name, value) for name, value in values(row).items())])
            for row in range(size)
        ),
        b"",
        _line(["Id", *TYPES]),
    )


def _line(cells: list[str]) -> bytes:
    out = io.StringIO()
    csv.writer(out, quoting=csv.QUOTE_ALL, lineterminator="\n").writerow(cells)
    return out.getvalue().encode()


def _csv(name: str, value: Any) -> str:
    match value:
        case None:
            return ""
        case bool():
            return str(value).lower()
        case _ if TYPES[name] == "datetime":
            return f"{value}Z"
        case _:
            return str(value)


def query(size: int, changed: int = 0) -> Template:
    """The records of a query reply, without the frame around them."""
    return Template(tuple(salesforce(record_id(_MARK, row), row, changed).encode() for row in range(size)), b",")


def salesforce(identity: str, row: int, changed: int = 0) -> str:
    """One record as the REST API shows it."""
    shown = {
        name: f"{value}+0000" if TYPES[name] == "datetime" else value for name, value in values(row, changed).items()
    }
    attributes = {"type": "Contact", "url": f"/services/data/v67.0/sobjects/Contact/{identity}"}
    return json.dumps({"attributes": attributes, "Id": identity, **shown}, ensure_ascii=False, separators=(",", ":"))


def listed(size: int) -> Template:
    """The records of a HubSpot list, without the frame around them: every value is text."""
    return Template(tuple(hubspot(_MARK, row).encode() for row in range(size)), b",")


def hubspot(page: str, row: int) -> str:
    identity = f"1{page}{row:05d}"
    shown = {hubspot_name(name): _csv(name, value) or None for name, value in values(row).items()}
    record = {
        "id": identity,
        "properties": {**shown, "hs_object_id": identity, "hs_merged_object_ids": None},
        "createdAt": "2024-06-01T08:00:00.000Z",
        "updatedAt": shown["lastmodifieddate"],
        "archived": False,
    }
    return json.dumps(record, ensure_ascii=False, separators=(",", ":"))


def hubspot_name(name: str) -> str:
    """Property names of that vendor are in lower case; the cursor is ``lastmodifieddate``."""
    return name.lower()


def describe_salesforce() -> dict[str, Any]:
    """The reply of describe."""
    fields = [{"name": "Id", "type": "id", "nillable": False}]
    for name, kind in TYPES.items():
        free = name not in _FIXED
        fields.append(
            {"name": name, "type": kind, "nillable": True, "createable": free, "updateable": free, "scale": 2}
        )
    return {"name": "Contact", "fields": fields, "createable": True, "updateable": True, "deletable": True}


_HUBSPOT_TYPES = {"boolean": "bool", "currency": "number", "int": "number", "date": "date", "datetime": "datetime"}


def describe_hubspot() -> dict[str, Any]:
    """The reply of the properties API."""
    return {
        "results": [
            {"name": hubspot_name(name), "type": _HUBSPOT_TYPES.get(kind, "string"), "options": []}
            for name, kind in TYPES.items()
        ]
    }
