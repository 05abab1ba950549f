"""Sync against the sandbox: the mirror ends as the CRM is."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from crm_assets.connections import ObjectSpec
from crm_assets.core.errors import Busy, ConfigurationError
from crm_assets.core.model import Window
from crm_assets.mirror.describing import choose
from crm_assets.store import loads
from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.sandbox import wait_until


def _mirror(link: Link, table: str, *columns: str) -> dict[str, tuple[Any, ...]]:
    names = ", ".join(columns)
    return {row[0]: row[1:] for row in link.rows(f"SELECT id, {names} FROM salesforce.{table}")}


def _complete(link: Link, name: str, table: str) -> None:
    assert set(_mirror(link, table, "id")) == set(link.sandbox.alive(name))


def test_the_first_sync_reads_everything_and_moves_the_cursor(make_link: MakeLink) -> None:
    link = make_link(objects=("Contact",), rows=500)
    report = link.sync("contact")
    assert report.mode == "full" and report.rows_read == report.inserted == len(link.sandbox.alive("Contact"))
    assert report.cursor is not None and report.high is not None and report.cursor == report.high.isoformat()
    _complete(link, "Contact", "contact")


def test_a_quiet_window_costs_two_calls_and_writes_nothing(link: Link) -> None:
    before = link.rows("SELECT id, xmin::text, ctid::text FROM salesforce.contact ORDER BY id")
    wait_until(lambda: link.sync("contact").api_calls == 2, 5)
    assert link.rows("SELECT id, xmin::text, ctid::text FROM salesforce.contact ORDER BY id") == before


def test_changes_creates_and_deletes_of_the_crm_arrive(link: Link) -> None:
    first, second, *_ = link.sandbox.alive("Contact")
    row_ids = dict(link.rows("SELECT id, row_id FROM salesforce.contact"))
    link.sandbox.update("Contact", first, Phone="12345")
    link.sandbox.delete("Contact", second)
    made = link.sandbox.create("Contact", LastName="Newcomer")

    def arrived() -> bool:
        link.sync("contact")
        link.settle()
        return set(_mirror(link, "contact", "id")) == set(link.sandbox.alive("Contact"))

    wait_until(arrived)
    assert _mirror(link, "contact", "phone")[first] == ("12345",)
    assert made in _mirror(link, "contact", "id")
    assert link.value("SELECT deleted_by FROM crm_assets.tombstone WHERE id = %s", second) == "crm"
    link.sandbox.undelete("Contact", second)
    wait_until(arrived)
    assert dict(link.rows("SELECT id, row_id FROM salesforce.contact"))[second] == row_ids[second]


def test_a_record_that_left_without_a_trace_is_found_by_a_full_sync(link: Link) -> None:
    """Emptied from the recycle bin and gone from the list of deletions: only the comparison of ids sees it."""
    link.rows(
        """INSERT INTO salesforce_stage.contact (_source, _observed_at, id, _version, _deleted, last_name)
           VALUES ('list', clock_timestamp(), '003000000000001AAA', '2020-01-01', false, 'Ghost')"""
    )
    link.sync("contact")
    assert "003000000000001AAA" in _mirror(link, "contact", "id")
    report = link.sync("contact", "full")
    assert report.deleted == 1
    _complete(link, "Contact", "contact")


def test_a_failed_full_read_deletes_nothing(link: Link) -> None:
    before = _mirror(link, "contact", "id")
    link.sandbox.faults({"kind": "503", "path": "/query", "times": 50})
    report = link.sync("contact", "full")
    link.sandbox.clear_faults()
    assert report.partial and _mirror(link, "contact", "id") == before


@pytest.mark.parametrize("path", ["/updated", "/query", "/deleted", "jobs/query"])
def test_a_run_that_is_stopped_keeps_its_place(make_link: MakeLink, path: str) -> None:
    link = make_link(objects=("Contact",), rows=300)
    link.connector.config.options["bulk_threshold"] = 0 if path == "jobs/query" else 10**9  # type: ignore[index]
    link.sync("contact")
    cursor = loads.read_cursor(link.db, "salesforce", "contact")
    link.sandbox.update("Contact", next(iter(link.sandbox.alive("Contact"))), Phone="777")
    link.sandbox.faults({"kind": "503", "path": path, "times": 50})
    mode = "full" if path == "jobs/query" else "incremental"
    report = wait_until(lambda: (r := link.sync("contact", mode)).partial and r, 10)
    assert (report.reason and loads.read_cursor(link.db, "salesforce", "contact") == cursor) or path == "/query"
    link.sandbox.clear_faults()
    wait_until(
        lambda: link.sync("contact") and link.value("SELECT count(*) FROM salesforce.contact WHERE phone = '777'")
    )
    assert link.value("SELECT count(*) FROM salesforce_stage.contact") == 0


def test_the_end_of_the_quota_stops_a_run_without_losing_its_place(link: Link) -> None:
    cursor = loads.read_cursor(link.db, "salesforce", "contact")
    link.sandbox.limits(daily_calls=1)
    report = link.sync("contact")
    assert (report.partial and "daily_calls" in (report.reason or "")) or "LIMIT" in (report.reason or "")
    assert report.cursor == cursor


def test_two_runs_of_one_object_do_not_read_at_once(link: Link) -> None:
    other = loads.open_load(link.db, "salesforce", "contact", "full", Window(None, datetime.now(UTC)), "another")
    with pytest.raises(Busy, match="being read by another run"):
        link.sync("contact")
    loads.abandon(link.db, other)
    assert not link.sync("contact").partial


def test_objects_are_read_side_by_side(make_link: MakeLink) -> None:
    link = make_link(objects=("Account", "Contact", "Lead"), rows=300, call_timeout=30.0)
    with ThreadPoolExecutor(3) as pool:
        reports = list(pool.map(link.sync, ("account", "contact", "lead")))
    assert [report.reason for report in reports if report.partial] == []
    for name in ("Account", "Contact", "Lead"):
        _complete(link, name, name.lower())


def test_a_backfill_reads_its_range_again_and_leaves_the_cursor(link: Link) -> None:
    cursor = loads.read_cursor(link.db, "salesforce", "contact")
    link.rows("UPDATE salesforce.contact SET phone = phone")
    with link.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute("UPDATE salesforce.contact SET phone = 'wrong', _version = NULL")
    now = datetime.now(UTC)
    report = link.sync("contact", "backfill", window=Window(now - timedelta(days=4000), now + timedelta(days=1)))
    assert report.rows_read == len(link.sandbox.alive("Contact"))
    assert link.value("SELECT count(*) FROM salesforce.contact WHERE phone = 'wrong'") == 0
    assert loads.read_cursor(link.db, "salesforce", "contact") == cursor


def test_a_chosen_field_that_does_not_exist_is_named(link: Link) -> None:
    obj = link.object("contact")
    with pytest.raises(ConfigurationError, match="Fone"):
        choose(obj, ObjectSpec(fields=["Phone", "Fone"]))
    with pytest.raises(ConfigurationError, match="create it there"):
        choose(obj, ObjectSpec(external_id="Nope__c"))
    chosen = {f.name for f in choose(obj, ObjectSpec(fields=["Phone"])).fields}
    assert chosen == {"Phone", "SystemModstamp", "IsDeleted", "MasterRecordId"}, "what every read needs comes along"
