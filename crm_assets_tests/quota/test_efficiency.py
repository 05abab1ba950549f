"""Calls used against the fewest that the vendor's own interface makes possible, by the sandbox's count."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from crm_assets.connectors.salesforce import reading
from crm_assets_tests.faults.kit import caught_up
from crm_assets_tests.plugins.hubspot import MakeHubspot
from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.netsuite import MakeNetsuite

ENOUGH = 1.1


def _pages(rows: int, size: int) -> int:
    return -(-rows // size)


def _used(link: Link, work: Callable[[], object]) -> int:
    """How many calls the work took; logging in is done once and counts for none of them."""
    link.sandbox.reset_calls()
    work()
    calls = link.sandbox.calls()
    return int(calls["total"] - calls["by_api"].get("token", 0))


def test_salesforce(make_link: MakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BULK_ROWS", 10)
    link = make_link(objects=("Contact",), rows=3000, call_timeout=30.0)
    link.connector.config.options["bulk_threshold"] = 500  # type: ignore[index]
    rows = len(link.sandbox.alive("Contact"))
    # The safe bound, the job and its state, and the pages.
    assert _used(link, lambda: link.sync("contact")) <= ENOUGH * (1 + 2 + _pages(rows, 10))

    ids = sorted(link.sandbox.alive("Contact"))[:400]
    with link.sandbox.api() as api:
        for some in (ids[:200], ids[200:]):
            records = [{"attributes": {"type": "Contact"}, "id": one, "Title": "New"} for one in some]
            assert api.patch("/composite/sobjects", json={"records": records}).is_success
    # The safe bound, deletions, and a page of what changed.
    assert _used(link, lambda: caught_up(link)) - _waited(link) <= ENOUGH * 3
    assert link.value("SELECT count(*) FROM salesforce.contact WHERE title = 'New'") == 400

    link.rows("UPDATE salesforce.contact SET title = 'Ours' WHERE id IN (SELECT id FROM salesforce.contact LIMIT 1000)")
    # Looked at before and after, 500 a call, and sent, 200 a call.
    assert _used(link, link.settle) <= ENOUGH * (2 * _pages(1000, 500) + _pages(1000, 200))


def _waited(link: Link) -> int:
    """Calls that only waited for the CRM to vouch for this moment: all but the last bound."""
    return int(link.sandbox.calls()["by_api"]["updated"]) - 1


def test_hubspot(make_hubspot: MakeHubspot) -> None:
    link = make_hubspot("contacts", rows=3000)
    rows = len(link.sandbox.alive("contacts"))
    assert _used(link, lambda: link.sync("contacts")) <= ENOUGH * _pages(rows, 100)

    link.rows("UPDATE hubspot.contacts SET jobtitle = 'Ours' WHERE id IN (SELECT id FROM hubspot.contacts LIMIT 800)")
    assert _used(link, link.settle) <= ENOUGH * 3 * _pages(800, 100), "looked at, sent and looked at again"

    # All of them are changes by now: found 200 a call, read 100 a call, and a page of the archive.
    assert _used(link, lambda: link.sync("contacts")) <= ENOUGH * (_pages(800, 200) + _pages(800, 100) + 1)


def test_netsuite(make_netsuite: MakeNetsuite) -> None:
    link = make_netsuite("customer", rows=2000)
    rows = len(link.sandbox.alive("customer"))
    assert _used(link, lambda: link.sync("customer")) <= ENOUGH * _pages(rows, 1000)
    link.rows("UPDATE netsuite.customer SET phone = '020 7946' WHERE id IN (SELECT id FROM netsuite.customer LIMIT 60)")
    assert _used(link, link.settle) <= ENOUGH * (60 + 2), "one call for each record; looked at before and after"
    assert _used(link, lambda: link.sync("customer")) <= 2, "what changed, and deletions"
