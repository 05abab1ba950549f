"""What the tests of the known failures ask of both ends."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm_assets.connectors.base import Connector
from crm_assets.core.model import Bound, Object
from crm_assets.reconcile.compare import Reconciled, reconcile
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import wait_until

TABLES = {"Account": "account", "Contact": "contact", "Lead": "lead"}


def check(link: Link, table: str = "contact") -> Reconciled:
    return reconcile(link.db, link.connector, link.object(table))


def mirror(link: Link, record_id: str, column: str = "last_name", table: str = "contact") -> Any:
    """A field of a record in the mirror; None if there is no such row."""
    return link.value(f"SELECT {column} FROM salesforce.{table} WHERE id = %s", record_id)


def writes(link: Link, row_id: Any, *columns: str) -> list[tuple[Any, ...]]:
    """The outbox rows of one record, in their order."""
    return link.rows(
        f"SELECT {', '.join(columns)} FROM crm_assets.outbox WHERE row_id = %s ORDER BY place, seq", row_id
    )


def equal(link: Link, name: str = "Contact") -> None:
    """The same records on both ends, and no difference that reconciliation had to mend."""
    table = TABLES[name]
    there = set(link.sandbox.alive(name))
    here = {row[0] for row in link.rows(f"SELECT id FROM salesforce.{table} WHERE _deleted_at IS NULL")}
    assert here == there, (here - there, there - here)
    found = check(link, table)
    assert found.complete and not found.repaired and not found.unsettled, found


def caught_up(link: Link, table: str = "contact") -> None:
    """An incremental read of everything up to this moment of the CRM."""
    now, obj = datetime.now(UTC), link.object(table)
    wait_until(lambda: link.connector.bound(obj, None).high > now, 20)
    assert not link.sync(table).partial


def no_overlap(patch: pytest.MonkeyPatch, connector: Connector) -> None:
    """Windows follow each other without reaching back, so that their bounds alone must be right."""
    patch.setattr(type(connector), "overlap", property(lambda _: timedelta(0)))


def bound_is_now(patch: pytest.MonkeyPatch, connector: Connector) -> None:
    """Windows end at the server's clock, as with a vendor that tells no safe bound; the overlap alone must do."""

    def bound(_self: Connector, _obj: Object, _low: datetime | None) -> Bound:
        return Bound(datetime.now(UTC))

    patch.setattr(type(connector), "bound", bound)


def beginning_of_a_second() -> None:
    """Wait until enough of the present second is left for a few calls within it."""
    while time.time() % 1 > 0.3:
        time.sleep(0.02)


def next_second() -> None:
    """Wait until a stamp given now would differ from one given before."""
    before = int(time.time())
    wait_until(lambda: int(time.time()) > before, 5, 0.02)
