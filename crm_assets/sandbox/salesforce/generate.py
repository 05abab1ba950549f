"""A plausible company for a sandbox without seed files: the same one every time."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

from faker import Faker

from . import clock, ids
from .objects import INDUSTRIES, RATINGS, SALUTATIONS, SOURCES, STAGES, STANDARD
from .schema import Schema, quote

_SEED = 20260101
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_SHARES = {"Account": 0.15, "Contact": 0.35, "Lead": 0.15, "Opportunity": 0.25, "Task": 0.08}
_PREFIX = {
    "User": "005",
    "Account": "001",
    "Contact": "003",
    "Lead": "00Q",
    "Opportunity": "006",
    "Product2": "01t",
    "Campaign": "701",
    "Task": "00T",
}
Row = dict[str, Any]


class Company:
    """Draws records. Names come from pools made once, since making each name anew is what costs."""

    def __init__(self, rows: int) -> None:
        self._random = random.Random(_SEED)
        fake = Faker("en_GB")
        fake.seed_instance(_SEED)
        self._first = [fake.first_name() for _ in range(200)]
        self._last = [fake.last_name() for _ in range(300)]
        self._companies = [fake.company() for _ in range(min(1000, max(50, rows // 6)))]
        self._cities = [(fake.city(), fake.postcode()) for _ in range(100)]
        self._streets = [fake.street_address().replace("\n", ", ") for _ in range(200)]
        self._jobs = [fake.job()[:80] for _ in range(100)]
        self._counts = {name: max(1, round(rows * share)) for name, share in _SHARES.items()}
        self._counts |= {"User": min(40, max(3, rows // 200)), "Product2": 12, "Campaign": 8}

    def object(self, name: str) -> Iterator[Row]:
        """All records of an object; a fresh company has none of some."""
        if name not in self._counts:
            return
        make = getattr(self, f"_{name.lower()}")
        for number in range(1, self._counts.get(name, 0) + 1):
            created = _EPOCH - timedelta(seconds=self._random.randrange(3 * 365 * 86400))
            changed = created + (_EPOCH - created) * self._random.random()
            yield {
                "Id": self._id(name, number),
                "CreatedDate": clock.stored(created),
                "LastModifiedDate": clock.stored(changed),
                "SystemModstamp": clock.stored(changed),
            } | make(number)

    def _id(self, name: str, number: int) -> str:
        return ids.make(_PREFIX[name], number, "5g0")

    def _any(self, name: str) -> str:
        return self._id(name, self._random.randint(1, self._counts[name]))

    def _day(self, around: date, days: int) -> str:
        return (around + timedelta(days=self._random.randint(-days, days))).isoformat()

    def _maybe(self, value: Any, share: float = 0.7) -> Any:
        return value if self._random.random() < share else None

    def _person(self) -> Row:
        first, last = self._random.choice(self._first), self._random.choice(self._last)
        mail = f"{first}.{last}{self._random.randint(1, 9999)}@example.com".lower().replace(" ", "").replace("'", "")
        return {"FirstName": first, "LastName": last, "Name": f"{first} {last}", "Email": mail}

    def _phone(self) -> str:
        return f"+44 20 7946 {self._random.randint(0, 9999):04d}"

    def _address(self, prefix: str) -> Row:
        city, code = self._random.choice(self._cities)
        return {
            f"{prefix}Street": self._random.choice(self._streets),
            f"{prefix}City": city,
            f"{prefix}PostalCode": code,
            f"{prefix}Country": "United Kingdom",
        }

    def _user(self, number: int) -> Row:
        person = self._person()
        return person | {
            "Username": person["Email"],
            "IsActive": 1,
            "Title": self._random.choice(("Sales Agent", "Sales Manager")),
            "Alias": f"user{number}"[:8],
            "ManagerId": self._id("User", 1) if number > 1 else None,
            "TimeZoneSidKey": "Europe/London",
            "LocaleSidKey": "en_GB",
        }

    def _account(self, number: int) -> Row:
        name = self._companies[(number - 1) % len(self._companies)]
        if number > len(self._companies):
            name = f"{name} {number // len(self._companies) + 1}"
        return self._address("Billing") | {
            "Name": name,
            "OwnerId": self._any("User"),
            "Phone": self._maybe(self._phone()),
            "Industry": self._maybe(self._random.choice(INDUSTRIES)),
            "Rating": self._maybe(self._random.choice(RATINGS), 0.5),
            "AnnualRevenue": self._maybe(float(self._random.randint(50, 90_000) * 1000)),
            "NumberOfEmployees": self._maybe(self._random.randint(2, 20_000)),
            "Type": self._random.choice(("Prospect", "Customer - Direct", "Customer - Channel")),
            "ParentId": self._maybe(self._id("Account", self._random.randint(1, number)), 0.1) if number > 20 else None,
        }

    def _contact(self, number: int) -> Row:
        return (
            self._person()
            | self._address("Mailing")
            | {
                "AccountId": self._maybe(self._any("Account"), 0.95),
                "OwnerId": self._any("User"),
                "Salutation": self._maybe(self._random.choice(SALUTATIONS), 0.5),
                "Phone": self._maybe(self._phone()),
                "Title": self._maybe(self._random.choice(self._jobs)),
                "Birthdate": self._maybe(self._day(date(1980, 1, 1), 7000), 0.4),
                "LeadSource": self._maybe(self._random.choice(SOURCES), 0.5),
                "HasOptedOutOfEmail": int(self._random.random() < 0.1),
            }
        )

    def _lead(self, number: int) -> Row:
        return (
            self._person()
            | self._address("")
            | {
                "Company": self._random.choice(self._companies),
                "OwnerId": self._any("User"),
                "Status": self._random.choice(
                    ("Open - Not Contacted", "Working - Contacted", "Closed - Not Converted")
                ),
                "LeadSource": self._maybe(self._random.choice(SOURCES)),
                "Phone": self._maybe(self._phone()),
                "Industry": self._maybe(self._random.choice(INDUSTRIES)),
                "Rating": self._maybe(self._random.choice(RATINGS), 0.4),
            }
        )

    def _opportunity(self, number: int) -> Row:
        stage = self._random.choice(list(STAGES))
        purpose = self._random.choice(("New", "Renewal", "Upgrade"))
        return {
            "Name": f"{self._random.choice(self._companies)[:90]} - {purpose} {number}",
            "AccountId": self._maybe(self._any("Account"), 0.95),
            "OwnerId": self._any("User"),
            "StageName": stage,
            "Amount": self._maybe(self._random.randint(100, 5_000_000) / 100, 0.9),
            "Probability": float(STAGES[stage]),
            "CloseDate": self._day(_EPOCH.date(), 400),
            "IsClosed": int(stage.startswith("Closed")),
            "IsWon": int(stage == "Closed Won"),
            "Type": self._random.choice(("New Business", "Existing Business")),
        }

    def _product2(self, number: int) -> Row:
        return {
            "Name": f"Model {chr(64 + number)}",
            "ProductCode": f"M-{number:03d}",
            "Family": "None",
            "IsActive": 1,
        }

    def _campaign(self, number: int) -> Row:
        return {
            "Name": f"Campaign {2020 + number}",
            "Type": "Email",
            "Status": "Completed",
            "IsActive": 0,
            "OwnerId": self._any("User"),
            "BudgetedCost": 1000.0 * number,
        }

    def _task(self, number: int) -> Row:
        return {
            "Subject": self._random.choice(("Call", "Email", "Send Quote", "Follow up")),
            "Priority": "Normal",
            "WhoId": self._any("Contact"),
            "WhatId": self._maybe(self._any("Opportunity")),
            "OwnerId": self._any("User"),
            "Status": self._random.choice(("Not Started", "Completed")),
            "ActivityDate": self._day(_EPOCH.date(), 300),
        }


def load(db: sqlite3.Connection, schema: Schema, rows: int) -> int:
    """Makes the tables and fills them; returns the number of records."""
    schema.create(STANDARD)
    company = Company(rows)
    user = ids.make(_PREFIX["User"], 1, "5g0")
    before = db.total_changes
    for kind in STANDARD:
        names = [field.name for field in kind.stored]
        empty: Row = {field.name: 0 if field.type == "boolean" else None for field in kind.stored}
        empty |= {"CreatedById": user, "LastModifiedById": user}
        columns = ", ".join(map(quote, ["_at", *names]))
        marks = ", ".join("?" * (len(names) + 1))
        db.executemany(
            f"INSERT INTO {quote(kind.name)} ({columns}) VALUES ({marks})",
            ((row["SystemModstamp"][:-1] + ".000Z", *(empty | row).values()) for row in company.object(kind.name)),
        )
    count = db.total_changes - before
    schema.indexes()
    return count
