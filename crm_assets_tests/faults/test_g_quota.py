"""G. Quota: what ends a day's calls, and what does not."""

from __future__ import annotations

import pytest

from crm_assets import runtime
from crm_assets.connections import QuotaSpec
from crm_assets.connectors.base import Connector
from crm_assets.connectors.salesforce import reading
from crm_assets.core.errors import QuotaExhausted
from crm_assets.store import loads
from crm_assets_tests.plugins.linked import Link


@pytest.fixture
def link(fresh_link: Link) -> Link:
    """An account of the test's own: how many calls others have spent decides what each lane may still have."""
    return fresh_link


def _spent(link: Link) -> int:
    """Calls of today, as the vendor counts them."""
    with link.sandbox.api() as api:
        usage = api.get("/limits").headers["Sforce-Limit-Info"]
    return int(usage.removeprefix("api-usage=").partition("/")[0])


def _minutes_later(link: Link) -> None:
    """What the vendor said last is old news."""
    link.rows(
        """UPDATE crm_assets.quota SET seen_at = seen_at - interval '2 minutes',
                  updated_at = updated_at - interval '2 minutes', probed_at = NULL"""
    )


def _until_refused(connector: Connector, link: Link) -> int:
    """Calls that could be made until our own budget kept one back."""
    before = connector.gate.calls
    with pytest.raises(QuotaExhausted):
        for _ in range(500):
            connector.count(link.object("contact"))
    return connector.gate.calls - before


def test_F43_a_run_that_meets_the_end_of_the_quota_is_partial_and_is_gone_on_with(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Asked for: stop cleanly and resume next day; the answer that shipped reported success. The run says that it is
    not finished and when it will be worth going on, keeps what it has read, and the next one goes on behind it."""
    monkeypatch.setattr(reading, "BULK_ROWS", 2)
    monkeypatch.setitem(link.connector.config.options, "bulk_threshold", 0)  # type: ignore[arg-type]
    created = link.sandbox.create("Contact", LastName="On the last page")
    # Enough for the job, however often a busy sandbox is asked for it, and for some of its pages, above the twentieth
    # of the limit that is left to others.
    link.sandbox.limits(daily_calls=round((_spent(link) + 12) / 0.95))
    link.sandbox.reset_calls()
    report = link.sync("contact", "full")
    assert report.partial and report.until is not None and "daily_calls" in (report.reason or "")
    assert report.rows_read > 0
    assert link.value("SELECT last_name FROM salesforce.contact WHERE id = %s", created) is None
    assert link.sandbox.calls()["limit_violations"] == 0
    assert link.sync("contact", "full").partial, "nothing is gained by asking at once"
    assert link.sandbox.calls()["limit_violations"] == 0

    link.sandbox.limits(daily_calls=24_000)
    _minutes_later(link)
    again = link.sync("contact", "full")
    assert again.resumed and not again.partial
    assert loads.read_cursor(link.db, "salesforce", "contact") is not None
    assert link.value("SELECT last_name FROM salesforce.contact WHERE id = %s", created) == "On the last page"


def test_F44_our_calls_stop_at_the_share_that_is_ours(link: Link) -> None:
    """Asked for: stop at a set per cent of the quota. What is reserved is left to people and other apps."""
    spent = _spent(link)
    link.sandbox.limits(daily_calls=2 * (spent + 40))
    link.connector.count(link.object("contact"))
    spec = link.spec.model_copy(update={"quota": QuotaSpec(reserve=0.5)})
    ours = runtime.open_connector(link.db, spec, "writeback")
    try:
        made = _until_refused(ours, link)
        assert 20 <= made <= 40
        with link.sandbox.api() as api:
            assert all(api.get("/limits").is_success for _ in range(spent + 35)), "the other half is theirs"
    finally:
        runtime.close_connector(ours)


def test_F45_calls_of_other_apps_count_as_soon_as_a_reply_shows_them(link: Link) -> None:
    """The quota is a rolling window shared with other apps, so a private counter is wrong. What the vendor counts
    outranks it: after their burst not one of our calls is refused."""
    link.connector.count(link.object("contact"))
    link.sandbox.limits(daily_calls=_spent(link) + 500)
    link.connector.count(link.object("contact"))
    # The reserve and what this lane leaves to others stay; the rest they take.
    with link.sandbox.api() as api:
        for _ in range(400):
            api.get("/limits")
    link.sandbox.reset_calls()
    made = _until_refused(link.connector, link)
    assert made <= 100
    assert link.sandbox.calls()["limit_violations"] == 0


def test_F46_a_large_read_costs_one_job_and_its_pages(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunking by primary key turned one query into thousands. A read is one job however many records there are."""
    monkeypatch.setattr(reading, "BULK_ROWS", 10)
    monkeypatch.setitem(link.connector.config.options, "bulk_threshold", 0)  # type: ignore[arg-type]
    rows = len(link.sandbox.records("Account"))
    link.sandbox.reset_calls()
    pages = list(link.connector.read(link.object("account"), None))
    assert sum(page.table.num_rows for page in pages) == rows
    calls = link.sandbox.calls()
    assert calls["by_api"]["bulk_results"] == -(-rows // 10)
    assert calls["total"] - calls["by_api"]["bulk_results"] <= 8, "counted, made, waited for"
