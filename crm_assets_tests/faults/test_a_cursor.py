"""A. Silent missing records: what a cursor can lose."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import psycopg
import pytest

from crm_assets.connectors.salesforce import reading
from crm_assets.core.model import Bound, Object, Page
from crm_assets.store import loads
from crm_assets_tests.faults.kit import (
    beginning_of_a_second,
    bound_is_now,
    caught_up,
    check,
    equal,
    mirror,
    next_second,
    no_overlap,
)
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import wait_until


def _visible(link: Link, record_id: str, **fields: Any) -> None:
    """Until a late commit has happened."""
    wait_until(lambda: fields.items() <= link.sandbox.alive("Contact").get(record_id, {}).items(), 20)


def _batch_of_leads(link: Link, names: Sequence[str]) -> None:
    """Created in one call, so that they share one timestamp."""
    with link.sandbox.api() as api:
        for start in range(0, len(names), 200):
            records = [
                {"attributes": {"type": "Lead"}, "LastName": name, "Company": "Batch"}
                for name in names[start : start + 200]
            ]
            assert api.post("/composite/sobjects", json={"records": records}).is_success


def test_F01_late_commit_below_the_cursor_is_read(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows committed late carry a stamp below the saved cursor and were never read. The vendor's safe bound holds
    the cursor back for as long as their transaction is open, without any help of the overlap."""
    no_overlap(monkeypatch, link.connector)
    link.sandbox.faults({"kind": "late_commit", "method": "POST", "path": "Contact"})
    late = link.sandbox.create("Contact", LastName="Late")
    link.sandbox.create("Contact", LastName="Prompt")
    # Twice: the server's own clock may be told a second late.
    next_second()
    next_second()
    link.sync("contact")
    assert mirror(link, late) is None, "not committed yet"
    _visible(link, late, LastName="Late")
    caught_up(link)
    assert mirror(link, late) == "Late"


def test_F02_an_update_that_every_green_run_missed_is_found_and_named(link: Link) -> None:
    """One account's updates were not picked up for a week of green runs. A record that a cursor has passed by is
    found by comparing both ends, and repaired."""
    record_id = link.sandbox.create("Account", Name="Passed by")
    caught_up(link, "account")
    link.sandbox.update("Account", record_id, Phone="the update")
    moved = (datetime.now(UTC) + timedelta(minutes=5)).replace(microsecond=0).isoformat()
    link.rows("UPDATE crm_assets.cursor SET cursor = %s WHERE object = 'account'", moved)
    link.sync("account")
    assert mirror(link, record_id, "phone", "account") is None
    found = check(link, "account")
    assert (found.repaired, found.complete) == (1, True)
    assert mirror(link, record_id, "phone", "account") == "the update"


def test_F03_rows_that_share_a_stamp_with_synced_rows_are_read(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows that got the same second as rows already synced were missing. A window ends before the present second,
    so none is cut in two."""
    no_overlap(monkeypatch, link.connector)
    caught_up(link)
    beginning_of_a_second()
    first = link.sandbox.create("Contact", LastName="First")
    link.sync("contact")
    second = link.sandbox.create("Contact", LastName="Second")
    stamps = {link.sandbox.alive("Contact")[one]["SystemModstamp"] for one in (first, second)}
    assert len(stamps) == 1
    caught_up(link)
    assert (mirror(link, first), mirror(link, second)) == ("First", "Second")


def test_F04_a_read_that_breaks_off_is_never_taken_for_complete(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a reset about half of the accounts came, without an error in the log. A page that does not arrive ends
    the run as partial: nothing is deleted, the cursor stays, and the next run brings the rest."""
    monkeypatch.setattr(reading, "BULK_ROWS", 8)
    monkeypatch.setitem(link.connector.config.options, "bulk_threshold", 0)  # type: ignore[arg-type]
    before = link.rows("SELECT id FROM salesforce.contact ORDER BY id")
    cursor = loads.read_cursor(link.db, "salesforce", "contact")
    new = link.sandbox.create("Contact", LastName="On a later page")
    link.sandbox.faults({"kind": "truncate", "path": "/results", "nth": 2, "times": 20})
    report = link.sync("contact", "full")
    assert report.partial and report.reason
    assert link.rows("SELECT id FROM salesforce.contact ORDER BY id") == before
    assert loads.read_cursor(link.db, "salesforce", "contact") == cursor
    link.sandbox.clear_faults()
    assert not link.sync("contact", "full").partial
    assert mirror(link, new) == "On a later page"


def test_F05_records_older_than_any_default_start_are_read(link: Link) -> None:
    """Records older than two years were skipped because of a default start date. A first read has no start."""
    stamps = [datetime.fromisoformat(one["SystemModstamp"]) for one in link.sandbox.alive("Account").values()]
    stamps += [datetime.fromisoformat(one["SystemModstamp"]) for one in link.sandbox.alive("Lead").values()]
    stamps += [datetime.fromisoformat(one["SystemModstamp"]) for one in link.sandbox.alive("Contact").values()]
    oldest = min(stamps)
    assert oldest < datetime.now(UTC) - timedelta(days=730)
    assert oldest in {
        row[0]
        for table in ("account", "lead", "contact")
        for row in link.rows(f"SELECT _version FROM salesforce.{table}")
    }


def test_F06_any_number_of_records_may_share_one_timestamp(link: Link) -> None:
    """Results were capped at 400 per distinct timestamp."""
    stamps: list[str] = []
    # A slow machine may not get a batch into one second at the first attempt.
    while not stamps or max(stamps.count(stamp) for stamp in set(stamps)) <= 400:
        beginning_of_a_second()
        _batch_of_leads(link, [f"Same {n}" for n in range(600)])
        leads = link.sandbox.alive("Lead").values()
        stamps = [one["SystemModstamp"] for one in leads if one["Company"] == "Batch"]
    caught_up(link, "lead")
    assert link.value("SELECT count(*) FROM salesforce.lead WHERE company = 'Batch'") == len(stamps)


def test_F07_what_was_lost_is_found_without_another_tool(link: Link) -> None:
    """Lost rows were found only by comparing with another tool's copy. Reconciliation compares and brings them."""
    record_id = link.sandbox.create("Account", Name="Lost")
    caught_up(link, "account")
    with link.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute("DELETE FROM salesforce.account WHERE id = %s", (record_id,))
    found = check(link, "account")
    assert (found.repaired, found.complete, found.missing) == (1, True, 0)
    assert mirror(link, record_id, "name", "account") == "Lost"


def test_F08_a_read_goes_on_by_stamp_and_id(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cursor of ``SystemModstamp >`` loses the rest of a stamp at a page's end. When a locator dies among records
    of one stamp, the read goes on behind the last (stamp, id)."""
    names = [f"Tied {n}" for n in range(150)]
    _batch_of_leads(link, names)
    plain = reading._rest_pages
    died: list[str] = []

    def dying(client: Any, obj: Object, statement: str, api: str, *most: Any) -> Iterator[Page]:
        for page in plain(client, obj, statement, api, *most):
            if not died and page.table.num_rows > 60:
                died.append(statement)
                yield Page(page.table.slice(0, 60), page.poison, "dead")
                raise reading.RejectedError("the locator is gone", reading.failures.LOCATOR_EXPIRED)
            yield page

    monkeypatch.setattr(reading, "_rest_pages", dying)
    caught_up(link, "lead")
    assert died
    found = link.rows("SELECT last_name, count(*) FROM salesforce.lead WHERE last_name LIKE 'Tied%' GROUP BY 1")
    assert len(found) == 150 and {count for _, count in found} == {1}


def test_F09_a_row_committed_after_the_run_with_an_earlier_stamp_is_read(
    link: Link, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tool that takes its cursor from the rows it saw loses what commits later with an earlier stamp. Where a
    vendor tells no safe bound, the overlap alone reads the update again."""
    record_id = link.sandbox.create("Contact", LastName="Early")
    caught_up(link)
    bound_is_now(monkeypatch, link.connector)
    link.sandbox.faults({"kind": "late_commit", "method": "PATCH", "path": "Contact"})
    link.sandbox.update("Contact", record_id, Title="Late")
    next_second()
    link.sync("contact")
    assert mirror(link, record_id, "title") is None
    _visible(link, record_id, Title="Late")
    link.sync("contact")
    assert mirror(link, record_id, "title") == "Late"


def test_F10_every_window_reaches_back_and_reading_again_is_harmless(link: Link) -> None:
    """Users asked for a lag or attribution window. Each window begins the connector's overlap before the cursor, and
    what is read twice changes nothing."""
    record_id = link.sandbox.create("Contact", LastName="Twice")
    caught_up(link)
    cursor = datetime.fromisoformat(loads.read_cursor(link.db, "salesforce", "contact") or "")
    before = link.rows(
        "SELECT row_id, _version, _observed_at, xmin::text FROM salesforce.contact WHERE id = %s", record_id
    )
    report = link.sync("contact")
    assert report.low == cursor - link.connector.overlap < cursor
    assert report.rows_read > 0 and report.applied == 0
    after = link.rows(
        "SELECT row_id, _version, _observed_at, xmin::text FROM salesforce.contact WHERE id = %s", record_id
    )
    assert after == before


def test_F11_a_row_at_the_very_bound_is_read(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rows at MAX(updated_at) were dropped because the bound and the rows were read from two snapshots. A change
    between the bound and the read, in the bound's own second, belongs to the next window as a whole."""
    no_overlap(monkeypatch, link.connector)
    caught_up(link)
    plain = type(link.connector).bound
    made: list[str] = []

    def bound(self: Any, obj: Object, low: datetime | None) -> Bound:
        found = plain(self, obj, low)
        if not made:
            made.append(link.sandbox.create("Contact", LastName="At the bound"))
        return found

    beginning_of_a_second()
    monkeypatch.setattr(type(link.connector), "bound", bound)
    report = link.sync("contact")
    stamp = datetime.fromisoformat(link.sandbox.alive("Contact")[made[0]]["SystemModstamp"])
    assert report.high is not None and stamp >= report.high
    caught_up(link)
    assert mirror(link, made[0]) == "At the bound"


def test_F12_commits_out_of_order_lose_nothing(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    """ "Always lose some data" with commits out of order: the transaction that began first commits last."""
    no_overlap(monkeypatch, link.connector)
    link.sandbox.faults({"kind": "late_commit", "method": "POST", "path": "Contact"})
    first = link.sandbox.create("Contact", LastName="Began first")
    prompt = [link.sandbox.create("Contact", LastName=f"Prompt {n}") for n in range(3)]
    cursors = []

    def committed() -> bool:
        cursors.append(link.sync("contact").cursor)
        return first in link.sandbox.alive("Contact")

    wait_until(committed, 20, 0.5)
    caught_up(link)
    stamp = link.sandbox.alive("Contact")[first]["SystemModstamp"]
    assert all(datetime.fromisoformat(c or "") <= datetime.fromisoformat(stamp) for c in cursors[:-1])
    assert [mirror(link, one) for one in (first, *prompt)] == ["Began first", "Prompt 0", "Prompt 1", "Prompt 2"]


def test_F14_a_product_transaction_that_commits_late_is_still_sent(link: Link, writer: str) -> None:
    """Reverse ETL has the same fault: rows that commit late are below its mark and "silently strand". The outbox has
    no mark; what is pending is sent, whatever was sent before it."""
    late, prompt = (link.sandbox.create("Contact", LastName=name) for name in ("Late", "Prompt"))
    caught_up(link)
    with psycopg.connect(writer) as holder:
        holder.execute("UPDATE salesforce.contact SET title = 'late' WHERE id = %s", (late,))
        link.rows("UPDATE salesforce.contact SET title = 'prompt' WHERE id = %s", prompt)
        link.settle()
        assert link.sandbox.alive("Contact")[prompt]["Title"] == "prompt"
        assert link.sandbox.alive("Contact")[late]["Title"] is None
    link.settle()
    assert link.sandbox.alive("Contact")[late]["Title"] == "late"
    equal(link)
