"""A plausible company for a sandbox without seed files: the same one every time."""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Iterator
from datetime import UTC, datetime

from . import clock, owners, pipelines
from .filling import Filling
from .kinds import (
    CALLS,
    COMPANIES,
    CONTACTS,
    DEALS,
    EMAILS,
    KINDS,
    LINE_ITEMS,
    MEETINGS,
    NOTES,
    PRODUCTS,
    TASKS,
    TICKETS,
    Kind,
)
from .schema import Schema
from .standard import INDUSTRIES, LEAD_STATUS, LIFECYCLE, all_properties
from .store import Props

_SEED = 20260101
_EPOCH = clock.millis(datetime(2026, 1, 1, tzinfo=UTC))
_YEARS_MS = 3 * 365 * 86_400_000
_SHARES = {
    CONTACTS: 0.4, COMPANIES: 0.12, DEALS: 0.2, TICKETS: 0.06, LINE_ITEMS: 0.08, CALLS: 0.03, EMAILS: 0.03,
    MEETINGS: 0.02, NOTES: 0.03, TASKS: 0.02,
}  # fmt: skip
_FIRST_ID: dict[Kind, int] = {kind: 1000 * 7**number for number, kind in enumerate(KINDS)}
_FIRST_OWNER = 7001
_FIRST = (
    "Ana", "Ben", "Carla", "Dev", "Eva", "Finn", "Grace", "Hugo", "Ines", "Jonas", "Kira", "Leo", "Mia", "Nils",
    "Olga", "Pavel", "Rosa", "Sam", "Tara", "Uma", "Vera", "Wim",
)  # fmt: skip
_LAST = (
    "Adler", "Bauer", "Costa", "Diaz", "Evans", "Fischer", "Gupta", "Haas", "Ivanov", "Jensen", "Kim", "Lopez",
    "Moreau", "Nowak", "Okafor", "Petit", "Quinn", "Ruiz", "Silva", "Tanaka", "Ueda", "Varga", "Weber", "Xu", "Young",
    "Zeller",
)  # fmt: skip
_TRADES = (
    "Systems", "Foods", "Logistics", "Textiles", "Energy", "Robotics", "Health", "Media", "Travel", "Paper", "Optics",
    "Marine", "Glass", "Seeds",
)  # fmt: skip
_CITIES = (("Dublin", "Ireland"), ("Porto", "Portugal"), ("Leeds", "United Kingdom"), ("Graz", "Austria"),
           ("Lyon", "France"), ("Utrecht", "Netherlands"), ("Boston", "United States"))  # fmt: skip
_JOBS = ["Buyer", "Head of Sales", "Engineer", "Office Manager", "Founder", "Controller", "Analyst", "Support Lead"]
_STAGES = tuple(stage["id"] for stage in pipelines.standard()["deals"]["stages"])


class Company:
    """Draws records of all objects."""

    def __init__(self, rows: int) -> None:
        self._random = random.Random(_SEED)
        self.counts = {kind: max(1, round(rows * share)) for kind, share in _SHARES.items()} | {PRODUCTS: 12}
        self.owners = min(40, max(3, rows // 200))

    def any(self, kind: Kind) -> int:
        return _FIRST_ID[kind] + self._random.randrange(self.counts[kind])

    def chance(self, share: float) -> bool:
        return self._random.random() < share

    def ids(self, kind: Kind) -> range:
        return range(_FIRST_ID[kind], _FIRST_ID[kind] + self.counts[kind])

    def records(self, kind: Kind) -> Iterator[tuple[int, Props]]:
        make = getattr(self, f"_{kind.name}")
        for number, record_id in enumerate(self.ids(kind), 1):
            created = _EPOCH - self._random.randrange(_YEARS_MS)
            changed = created + int((_EPOCH - created) * self._random.random())
            props: Props = {kind.created: clock.iso(created), kind.modified: clock.iso(changed)}
            props["hubspot_owner_id"] = str(_FIRST_OWNER + self._random.randrange(self.owners))
            props |= {name: value for name, value in make(number).items() if value}
            yield record_id, props

    def owner(self, number: int) -> dict[str, str]:
        first, last = self._one(_FIRST), self._one(_LAST)
        return {"firstName": first, "lastName": last, "email": f"{first}.{last}{number}@acme.example".lower()}

    def _one(self, options: tuple[str, ...] | list[str]) -> str:
        return options[int(self._random.random() * len(options))]

    def _maybe(self, value: str, share: float = 0.7) -> str:
        return value if self._random.random() < share else ""

    def _moment(self) -> str:
        return clock.iso(_EPOCH + self._random.randrange(-_YEARS_MS, _YEARS_MS // 3) // 1000 * 1000)

    def _contacts(self, number: int) -> Props:
        first, last, (city, country) = self._one(_FIRST), self._one(_LAST), self._random.choice(_CITIES)
        return {
            "firstname": first,
            "lastname": last,
            "email": self._maybe(f"{first}.{last}{number}@example.com".lower(), 0.95),
            "phone": self._maybe(f"+44 20 7946 {number % 10_000:04d}"),
            "jobtitle": self._maybe(self._one(_JOBS)),
            "city": city,
            "country": country,
            "lifecyclestage": self._one(LIFECYCLE),
            "hs_lead_status": self._maybe(self._one(LEAD_STATUS), 0.5),
        }

    def _companies(self, number: int) -> Props:
        name, (city, country) = f"{self._one(_LAST)} {self._one(_TRADES)}", self._random.choice(_CITIES)
        return {
            "name": f"{name} {number}",
            "domain": f"{name.replace(' ', '-').lower()}-{number}.example.com",
            "industry": self._maybe(self._one(INDUSTRIES)),
            "phone": self._maybe(f"+44 20 7946 {number % 10_000:04d}"),
            "city": city,
            "country": country,
            "numberofemployees": self._maybe(str(self._random.randint(2, 20_000))),
            "annualrevenue": self._maybe(str(self._random.randint(50, 90_000) * 1000)),
        }

    def _deals(self, number: int) -> Props:
        return {
            "dealname": f"{self._one(_TRADES)} {self._one(('new', 'renewal', 'upgrade'))} {number}",
            "amount": self._maybe(f"{self._random.randint(100, 5_000_000) / 100:.2f}", 0.9),
            "pipeline": "default",
            "dealstage": self._one(_STAGES),
            "closedate": self._moment(),
            "dealtype": self._maybe(self._one(("newbusiness", "existingbusiness"))),
            "deal_currency_code": "USD",
        }

    def _tickets(self, number: int) -> Props:
        return {
            "subject": f"{self._one(_TRADES)} order does not arrive ({number})",
            "content": self._maybe("The customer waits for an answer."),
            "hs_pipeline": "0",
            "hs_pipeline_stage": self._one(("1", "2", "3", "4")),
            "hs_ticket_priority": self._maybe(self._one(("LOW", "MEDIUM", "HIGH"))),
        }

    def _products(self, number: int) -> Props:
        return {"name": f"Model {chr(64 + number)}", "hs_sku": f"M-{number:03d}", "price": str(number * 125)}

    def _line_items(self, number: int) -> Props:
        product = self._random.randrange(12) + 1
        return {
            "name": f"Model {chr(64 + product)}",
            "hs_product_id": str(_FIRST_ID[PRODUCTS] + product - 1),
            "quantity": str(self._random.randint(1, 20)),
            "price": str(product * 125),
        }

    def _calls(self, number: int) -> Props:
        return {
            "hs_timestamp": self._moment(),
            "hs_call_title": f"Call about {self._one(_TRADES).lower()}",
            "hs_call_duration": str(self._random.randint(5, 3600) * 1000),
            "hs_call_status": self._one(("COMPLETED", "NO_ANSWER")),
        }

    def _emails(self, number: int) -> Props:
        return {
            "hs_timestamp": self._moment(),
            "hs_email_subject": f"Your {self._one(_TRADES).lower()} order {number}",
            "hs_email_direction": self._one(("EMAIL", "INCOMING_EMAIL")),
            "hs_email_status": "SENT",
        }

    def _meetings(self, number: int) -> Props:
        start = self._moment()
        return {
            "hs_timestamp": start,
            "hs_meeting_title": f"Review {number}",
            "hs_meeting_start_time": start,
            "hs_meeting_end_time": clock.iso(clock.parse(start) + 1_800_000),
            "hs_meeting_outcome": self._one(("SCHEDULED", "COMPLETED")),
        }

    def _notes(self, number: int) -> Props:
        return {"hs_timestamp": self._moment(), "hs_note_body": f"Spoke about {self._one(_TRADES).lower()}."}

    def _tasks(self, number: int) -> Props:
        return {
            "hs_timestamp": self._moment(),
            "hs_task_subject": self._one(("Call back", "Send quote", "Follow up")),
            "hs_task_status": self._one(("NOT_STARTED", "COMPLETED")),
            "hs_task_priority": self._one(("LOW", "MEDIUM", "HIGH")),
            "hs_task_type": "TODO",
        }


def load(db: sqlite3.Connection, schema: Schema, rows: int) -> int:
    """Fills the tables; returns the number of records."""
    for kind, known in all_properties():
        schema.save(kind, *known)
    for name, body in pipelines.standard().items():
        schema.save_pipeline(name, body)
    company, filling = Company(rows), Filling(db, schema)
    for number in range(company.owners):
        owners.put(db, _FIRST_OWNER + number, company.owner(number), _EPOCH - _YEARS_MS, _EPOCH)
    count = sum(filling.records(kind, company.records(kind)) for kind in KINDS)
    for kind, to_kind, share in (
        (CONTACTS, COMPANIES, 0.95),
        (DEALS, COMPANIES, 0.95),
        (DEALS, CONTACTS, 0.8),
        (TICKETS, CONTACTS, 1.0),
        (LINE_ITEMS, DEALS, 1.0),
        *((kind, CONTACTS, 1.0) for kind in (CALLS, EMAILS, MEETINGS, NOTES, TASKS)),
    ):
        chosen = [one for one in company.ids(kind) if company.chance(share)]
        filling.associate(kind, to_kind, ((one, company.any(to_kind)) for one in chosen), primary=True)
    filling.finish()
    return count
