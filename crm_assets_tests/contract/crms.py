"""What the contract tests need to know of each CRM: how to link it, and what its records look like."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa

from crm_assets.connectors import registry
from crm_assets.connectors.base import ConnectionConfig, Connector
from crm_assets.core.model import Limit, Mutation, Object, Op, Value, Window
from crm_assets_tests.plugins.sandbox import Sandbox

SHARED_TIME = "2026-03-02T14:05:58Z"
TIED = 450
"""Seeded records that share one time: more than one page of any search here."""


class Gate:
    """Counts and remembers; never refuses."""

    def __init__(self) -> None:
        self.calls = 0
        self.limits: dict[str, Limit] = {}
        self.refusals: list[str] = []

    @contextmanager
    def call(self, api: str, cost: int = 1) -> Iterator[None]:
        self.calls += 1
        yield

    def refused(self, name: str, after: timedelta) -> None:
        self.refusals.append(name)

    def observe(self, limits: Sequence[Limit]) -> None:
        self.limits |= {limit.name: limit for limit in limits}


@dataclass(frozen=True)
class Vendor:
    """One CRM. ``good`` and ``bad`` are creates by column; ``text`` is a plain text field as (column, vendor name)."""

    name: str
    object: str
    external_id: str
    text: tuple[str, str]
    good: Callable[[int], dict[str, Value]]
    bad: dict[str, Value]
    seed: Callable[[int], dict[str, str]]
    credentials: Mapping[str, str]
    renewing: Mapping[str, str]
    """Credentials whose access token ends and is renewed."""
    deliver: Callable[[str, str, bytes, float], dict[str, str]]
    """Headers of a delivery: secret, URL, body, seconds since 1970."""
    event: Callable[[str], Any]
    """The body that tells of a change of a record."""
    limit: str
    """A limit of the vendor, by the name that it has in the budgets."""
    unknown: str
    """An id that is well formed and nobody's."""
    write_path: str
    read_path: str
    custom: str
    """A name that a field added by an admin may have."""
    options: Mapping[str, Any] = field(default_factory=dict)
    told: bool = True
    """Whether replies tell how much of the limit is used."""
    undeletes: bool = True
    answers_writes: bool = True
    """Whether a write that is done is answered with a body, which can be cut off."""
    lists_deletes: bool = True


def _generic_headers(secret: str, url: str, body: bytes, at: float) -> dict[str, str]:
    stamp = str(int(at))
    digest = hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-Crm-Timestamp": stamp, "X-Crm-Signature": f"sha256={digest}"}


def _hubspot_headers(secret: str, url: str, body: bytes, at: float) -> dict[str, str]:
    stamp = str(int(at * 1000))
    digest = hmac.new(secret.encode(), b"POST" + url.encode() + body + stamp.encode(), hashlib.sha256).digest()
    return {"X-HubSpot-Signature-v3": base64.b64encode(digest).decode(), "X-HubSpot-Request-Timestamp": stamp}


def _hubspot_event(record_id: str) -> Any:
    return [
        {
            "eventId": 1,
            "portalId": 2,
            "occurredAt": 1_790_000_000_123,
            "subscriptionType": "contact.propertyChange",
            "attemptNumber": 0,
            "objectId": int(record_id),
        }
    ]


SALESFORCE = Vendor(
    name="salesforce",
    object="Contact",
    external_id="Crm_Assets_Row_Id__c",
    text=("first_name", "FirstName"),
    good=lambda n: {"last_name": f"Good {n}", "first_name": "G"},
    bad={"first_name": "without a last name"},
    seed=lambda n: {"Id": f"003{n:012d}", "LastName": f"N{n}", "FirstName": "S", "SystemModstamp": SHARED_TIME},
    credentials={"client_id": "CRM_ID", "client_secret": "CRM_SECRET", "webhook_secret": "CRM_HOOK"},
    renewing={"client_id": "CRM_ID", "client_secret": "CRM_SECRET"},
    deliver=_generic_headers,
    event=lambda record_id: {
        "connection": "salesforce",
        "events": [{"id": "e1", "object": "Contact", "record_id": record_id, "change": "updated"}],
    },
    limit="daily_calls",
    unknown="003999999999999AAA",
    write_path="/composite/sobjects",
    read_path="/query",
    custom="Passing__c",
    options={"bulk_threshold": 10**9},
)

HUBSPOT = Vendor(
    name="hubspot",
    object="contacts",
    external_id="crm_assets_row_id",
    text=("firstname", "firstname"),
    good=lambda n: {"email": f"good{n}.{uuid.uuid4().hex[:8]}@example.com", "firstname": "G"},
    bad={"email": "no address", "firstname": "B"},
    seed=lambda n: {
        "id": str(50_000 + n),
        "email": f"s{n}@example.com",
        "firstname": "S",
        "lastmodifieddate": SHARED_TIME,
    },
    credentials={"token": "CRM_TOKEN", "webhook_secret": "CRM_HOOK"},
    renewing={"client_id": "CRM_ID", "client_secret": "CRM_SECRET", "refresh_token": "CRM_REFRESH"},
    deliver=_hubspot_headers,
    event=_hubspot_event,
    limit="calls_10s",
    unknown="99999999",
    write_path="/batch/upsert",
    read_path="/contacts",
    custom="passing",
)

_NETSUITE_CREDENTIALS = {
    "client_id": "CRM_ID",
    "certificate_id": "CRM_CERTIFICATE",
    "private_key": "CRM_KEY",
    "webhook_secret": "CRM_HOOK",
}

NETSUITE = Vendor(
    name="netsuite",
    object="customer",
    external_id="externalId",
    text=("phone", "phone"),
    good=lambda n: {"company_name": f"Good {n} {uuid.uuid4().hex[:8]}", "phone": "020 7946 0111"},
    bad={"company_name": "Bad", "email": "no address"},
    seed=lambda n: {
        "id": str(50_000 + n),
        "companyName": f"N{n}",
        "phone": "S",
        "lastModifiedDate": SHARED_TIME,
    },
    credentials=_NETSUITE_CREDENTIALS,
    renewing=_NETSUITE_CREDENTIALS,
    deliver=_generic_headers,
    event=lambda record_id: {
        "event": "edit",
        "recordType": "customer",
        "id": record_id,
        "at": "2026-07-29T08:34:00Z",
        "account": "1234567",
        "eventId": f"e-{record_id}",
    },
    limit="concurrency",
    told=False,
    unknown="99999999",
    write_path="/record/v1/customer",
    read_path="/suiteql",
    custom="custentity_passing",
    undeletes=False,
    answers_writes=False,
)

VENDORS = (SALESFORCE, HUBSPOT, NETSUITE)
VARIABLES = ("CRM_ID", "CRM_SECRET", "CRM_HOOK", "CRM_TOKEN", "CRM_REFRESH", "CRM_CERTIFICATE")
SECRETS = ("token", "client_secret", "private_key")
"""Credentials that alone make a log-in possible."""


@dataclass
class Crm:
    """A running sandbox and a connector to it; ``obj`` is writable and has an external id."""

    vendor: Vendor
    sandbox: Sandbox
    connector: Connector
    obj: Object

    @property
    def gate(self) -> Gate:
        assert isinstance(self.connector.gate, Gate)
        return self.connector.gate

    @property
    def ids(self) -> list[str]:
        """Live records, as the CRM itself has them."""
        return sorted(self.sandbox.alive(self.vendor.object))

    def read(self, window: Window | None = None, after: str | None = None) -> pa.Table:
        pages = [page.table for page in self.connector.read(self.obj, window, after)]
        return pa.concat_tables(pages) if pages else self.obj.page_schema().empty_table()

    def create(self, seq: int, values: Mapping[str, Value] | None = None) -> Mutation:
        return Mutation(seq, Op.CREATE, uuid.uuid4(), None, self.vendor.good(seq) if values is None else values)

    def named(self, record_id: str) -> dict[str, Any]:
        return dict(self.sandbox.alive(self.vendor.object)[record_id])


def connect(vendor: Vendor, url: str, credentials: Mapping[str, str] | None = None, **options: Any) -> Connector:
    config = ConnectionConfig(
        vendor.name,
        vendor.name,
        url,
        credentials or vendor.credentials,
        options={**vendor.options, **options},
        call_timeout=timedelta(seconds=3),
    )
    return registry.make(config, Gate())


def described(vendor: Vendor, connector: Connector) -> Object:
    return replace(connector.describe(vendor.object), external_id=vendor.external_id)


def seed_file(vendor: Vendor, folder: Path) -> Path:
    """A folder for ``--seed-dir`` with records that share one time."""
    rows = [vendor.seed(n) for n in range(TIED)]
    lines = [",".join(rows[0]), *(",".join(row.values()) for row in rows)]
    (folder / vendor.name).mkdir(parents=True)
    (folder / vendor.name / f"{vendor.object}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def body_of(event: Any) -> bytes:
    return json.dumps(event).encode()
