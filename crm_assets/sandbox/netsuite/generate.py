"""A plausible company for a sandbox without seed files: the same one every time."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from faker import Faker

from . import clock, loading
from .lists import LISTS
from .objects import ADDRESS_BOOK, ITEM_LINES, ORDER_STATUS, STANDARD
from .schema import Schema
from .store import FIRST_ID, Row

_SEED = 20260101
_EPOCH = datetime(2026, 1, 1, tzinfo=UTC)
_SHARES = {"customer": 0.2, "vendor": 0.03, "contact": 0.27, "salesOrder": 0.3, "invoice": 0.15,
           "customerPayment": 0.05}  # fmt: skip
_CURRENCIES = (("British pound", "GBP", 1.0), ("US Dollar", "USD", 0.8), ("Euro", "EUR", 0.85))
_ITEMS = {"inventoryItem": 8, "nonInventorySaleItem": 6, "serviceSaleItem": 4}


class Company:
    """Draws records. Names come from pools made once, since making each name anew is what costs."""

    def __init__(self, rows: int) -> None:
        self._random = random.Random(_SEED)
        fake = Faker("en_GB")
        fake.seed_instance(_SEED)
        self._first = [fake.first_name() for _ in range(200)]
        self._last = [fake.last_name() for _ in range(300)]
        self._companies = [fake.company() for _ in range(min(1000, max(50, rows // 6)))]
        self._places = [(fake.street_address().replace("\n", ", "), fake.city(), fake.postcode()) for _ in range(200)]
        self._jobs = [fake.job()[:80] for _ in range(100)]
        counts = {"currency": len(_CURRENCIES), "subsidiary": 2, "employee": min(40, max(3, rows // 100))} | _ITEMS
        counts |= {name: max(1, round(rows * share)) for name, share in _SHARES.items()}
        self._ids: dict[str, range] = {}
        start = FIRST_ID
        for name, count in counts.items():
            # Currencies and subsidiaries are numbered by themselves: id 1 is the default of the account.
            first = 1 if name in ("currency", "subsidiary") else start
            self._ids[name] = range(first, first + count)
            start += 0 if first == 1 else count

    def rows(self, name: str) -> Iterator[Row]:
        """The values of all records of a type, by column."""
        make = getattr(self, f"_{name.lower()}", None) or self._item
        for number, record_id in enumerate(self._ids[name], 1):
            created = _EPOCH - timedelta(seconds=self._random.randrange(3 * 365 * 86400))
            changed = created + (_EPOCH - created) * self._random.random()
            dates = {"datecreated": clock.stored(created), "createddate": clock.stored(created)}
            yield {"id": record_id, "lastmodifieddate": clock.stored(changed)} | dates | make(number)

    def _any(self, *names: str) -> int:
        return self._random.choice(self._ids[self._random.choice(names)])

    def _maybe(self, value: Any, share: float = 0.7) -> Any:
        return value if self._random.random() < share else None

    def _of(self, name: str) -> int:
        return self._random.randint(1, len(LISTS[name]))

    def _person(self) -> Row:
        first, last = self._random.choice(self._first), self._random.choice(self._last)
        mail = f"{first}.{last}{self._random.randint(1, 9999)}@example.com".lower().replace(" ", "").replace("'", "")
        return {"firstname": first[:32], "lastname": last[:32], "email": mail}

    def _phone(self) -> str:
        return f"+44 20 7946 {self._random.randint(0, 9999):04d}"

    def _day(self) -> str:
        return f"{_EPOCH + timedelta(days=self._random.randint(-900, 0)):%Y-%m-%d} 00:00:00"

    def _company(self, number: int, start: str) -> Row:
        name = self._companies[(number - 1) % len(self._companies)]
        if number > len(self._companies):
            name = f"{name} {number // len(self._companies) + 1}"
        return {
            "companyname": name[:83], "entityid": f"{start}{number:05d}", "subsidiary": self._any("subsidiary"),
            "currency": self._any("currency"), "terms": self._maybe(self._of("term")),
            "email": f"accounts{number}@example.com", "phone": self._maybe(self._phone()),
            "isinactive": "T" if self._random.random() < 0.03 else "F",
        }  # fmt: skip

    def _currency(self, number: int) -> Row:
        name, symbol, rate = _CURRENCIES[number - 1]
        return {"name": name, "symbol": symbol, "exchangerate": rate, "isbasecurrency": "T" if number == 1 else "F"}

    def _subsidiary(self, number: int) -> Row:
        name = "Parent Company" if number == 1 else "Trading Company"
        return {"name": name, "legalname": f"{name} Ltd", "parent": None if number == 1 else 1, "currency": 1,
                "country": "GB"}  # fmt: skip

    def _employee(self, number: int) -> Row:
        return self._person() | {
            "title": self._random.choice(("Sales Agent", "Accountant", "Sales Manager")), "subsidiary": 1,
            "supervisor": None if number == 1 else self._ids["employee"][0], "department": self._of("department"),
            "hiredate": self._day(), "issalesrep": self._random.choice(("T", "F")),
        }  # fmt: skip

    def _customer(self, number: int) -> Row:
        return self._company(number, "C") | {
            "entitystatus": self._of("customerStatus"), "salesrep": self._maybe(self._any("employee")),
            "category": self._maybe(self._of("customerCategory")), "pricelevel": self._of("priceLevel"),
            "creditlimit": self._maybe(self._random.randint(5, 500) * 100),
            "balance": self._random.randint(0, 900_000) / 100, "emailpreference": "DEFAULT",
            "creditholdoverride": "AUTO", "globalsubscriptionstatus": self._random.choice("1234"),
            "taxable": "T", "parent": self._ids["customer"][0] if number % 50 == 0 else None,
            "leadsource": self._maybe(self._of("leadSource"), 0.4),
        }  # fmt: skip

    def _vendor(self, number: int) -> Row:
        return self._company(number, "V") | {"category": self._of("vendorCategory")}

    def _contact(self, number: int) -> Row:
        person = self._person()
        return person | {
            "entityid": f"{person['firstname']} {person['lastname']}",
            "title": self._maybe(self._random.choice(self._jobs)),
            "company": self._maybe(self._any("customer", "customer", "vendor"), 0.95), "subsidiary": 1,
            "phone": self._maybe(self._phone()), "mobilephone": self._maybe(self._phone(), 0.3),
        }  # fmt: skip

    def _item(self, number: int) -> Row:
        code = f"{self._random.choice('ABCDEFGH')}{self._random.randint(1000, 9999)}-{number}"
        return {"itemid": code, "displayname": f"Model {code}", "salesdescription": self._maybe(f"The model {code}"),
                "subsidiary": 1, "cost": self._random.randint(100, 90_000) / 100}  # fmt: skip

    def _transaction(self, number: int) -> Row:
        return {
            "trandate": self._day(), "entity": self._any("customer"), "currency": self._any("currency"),
            "exchangerate": 1, "subsidiary": self._any("subsidiary"), "memo": self._maybe(f"Order {number}", 0.5),
        }  # fmt: skip

    def _salesorder(self, number: int) -> Row:
        return self._transaction(number) | {
            "status": self._random.choice(ORDER_STATUS)[0], "otherrefnum": self._maybe(f"PO-{number:06d}"),
            "location": self._of("location"), "department": self._of("department"),
        }  # fmt: skip

    def _invoice(self, number: int) -> Row:
        paid = self._random.random() < 0.6
        return self._transaction(number) | {
            "createdfrom": self._maybe(self._any("salesOrder"), 0.6), "duedate": self._day(),
            "status": "B" if paid else "A",
        }  # fmt: skip

    def _customerpayment(self, number: int) -> Row:
        return self._transaction(number) | {"status": "C", "total": self._random.randint(100, 900_000) / 100}

    def lines(self) -> list[Row]:
        """The lines of one transaction."""
        found = []
        for number in range(1, self._random.randint(1, 4) + 1):
            quantity, rate = self._random.randint(1, 20), self._random.randint(100, 50_000) / 100
            found.append({"line": number, "item": self._any(*_ITEMS), "quantity": quantity, "rate": rate,
                          "amount": round(quantity * rate, 2)})  # fmt: skip
        return found

    def address(self) -> Row:
        street, city, code = self._random.choice(self._places)
        return {"internalid": 1, "defaultbilling": "T", "defaultshipping": "T", "isresidential": "F",
                "label": "Main", "addr1": street, "city": city, "zip": code, "country": "GB"}  # fmt: skip


def load(db: sqlite3.Connection, schema: Schema, rows: int) -> int:
    """Makes the tables and fills them; returns the number of records."""
    schema.create(STANDARD)
    company, count = Company(rows), 0
    for kind in STANDARD:
        made, lines, addresses = [], [], []
        columns = {field.column for field in kind.fields} | {kind.modified.column}
        for given in company.rows(kind.name):
            row = loading.complete(kind, {name: value for name, value in given.items() if name in columns})
            stamp = row["lastmodifieddate"]
            if kind.sublist("item"):
                own = company.lines()
                row["subtotal"] = row["total"] = round(sum(one["amount"] for one in own), 2)
                if "amountremaining" in row:
                    row["amountpaid"] = row["total"] if row["status"] == "B" else 0
                    row["amountremaining"] = row["total"] - row["amountpaid"]
                lines += [(row["id"], stamp, one) for one in own]
            elif kind.sublist("addressBook") and kind.name == "customer":
                addresses.append((row["id"], stamp, company.address()))
            made.append(row)
        count += loading.records(db, kind, made)
        loading.lines(db, ITEM_LINES, lines)
        loading.lines(db, ADDRESS_BOOK, addresses)
    schema.indexes()
    return count
