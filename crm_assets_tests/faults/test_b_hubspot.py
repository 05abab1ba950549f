"""HubSpot's search: 10,000 results, one time for many records, an index that is late."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from crm_assets.core.model import Window
from crm_assets_tests.plugins.hubspot import MakeHubspot
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import wait_until

MONTH_END = datetime(2026, 3, 31, 22, 0, tzinfo=UTC)
MANY = 10_300


def _seed(folder: Path, kind: str, header: str, rows: list[str]) -> Path:
    (folder / "hubspot").mkdir(parents=True)
    (folder / "hubspot" / f"{kind}.csv").write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return folder


def _found(link: Link, table: str, window: Window) -> list[str]:
    pages = link.connector.read(link.object(table), window)
    return [record_id for page in pages for record_id in page.table["id"].to_pylist()]


def _stamp(at: datetime) -> str:
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}Z"


def test_F16_more_than_10000_records_with_one_time_are_read_once_each(
    make_hubspot: MakeHubspot, tmp_path: Path
) -> None:
    rows = [f"{100_000 + n},b{n}@example.com,{_stamp(MONTH_END)}" for n in range(MANY)]
    seed = _seed(tmp_path / "seed", "contacts", "id,email,lastmodifieddate", rows)
    link = make_hubspot("contacts", seed_dir=seed, settings={"contacts": {"fields": ["email"]}})
    found = _found(link, "contacts", Window(MONTH_END, MONTH_END + timedelta(milliseconds=1)))
    assert len(found) == MANY and set(found) == set(link.sandbox.alive("contacts"))
    assert link.sandbox.calls()["by_api"]["search"] == 52, "200 each"


def test_F18_a_window_with_more_than_10000_activities_is_read_whole(make_hubspot: MakeHubspot, tmp_path: Path) -> None:
    rows = [f"{200_000 + n},{_stamp(MONTH_END + timedelta(milliseconds=n // 3))},n" for n in range(MANY)]
    seed = _seed(tmp_path / "seed", "notes", "id,hs_lastmodifieddate,hs_note_body", rows)
    link = make_hubspot("notes", seed_dir=seed)
    found = _found(link, "notes", Window(MONTH_END, MONTH_END + timedelta(minutes=1)))
    assert len(found) == len(set(found)) == MANY


def test_F17_F19_F20_a_hundred_changes_at_once_are_read_once_and_nothing_else_is(make_hubspot: MakeHubspot) -> None:
    link = make_hubspot("deals", "companies", rows=400)
    for table in ("deals", "companies"):
        link.sync(table)
    link.rows("UPDATE hubspot.deals SET dealname = 'Renamed'")
    link.settle()
    everything = link.value("SELECT count(*) FROM hubspot.deals")
    deal = next(iter(link.sandbox.alive("deals")))
    link.sandbox.update("deals", deal, dealname="By a user")
    link.sandbox.reset_calls()

    def arrived() -> bool:
        report = link.sync("deals")
        assert not report.partial and report.rows_read <= everything
        return bool(link.value("SELECT dealname FROM hubspot.deals WHERE id = %s", deal) == "By a user")

    wait_until(arrived, 30)
    link.sync("companies")
    calls = link.sandbox.calls()["by_api"]
    # Changes are searched for; the one list is that of archived records, one page for each sync.
    assert calls["list"] <= calls["search"] + 1
    assert set(calls) <= {"search", "batch_read", "list", "owners"}


def test_F13_what_the_index_shows_late_is_read_all_the_same(make_hubspot: MakeHubspot) -> None:
    link = make_hubspot("contacts", options={"index_lag_seconds": 0})
    link.sync("contacts")
    first, second = list(link.sandbox.alive("contacts"))[:2]
    link.sandbox.faults({"kind": "late_commit", "path": "contacts"})
    link.sandbox.update("contacts", first, jobtitle="late")
    link.sandbox.update("contacts", second, jobtitle="in time")
    title = "SELECT jobtitle FROM hubspot.contacts WHERE id = %s"

    def shown(record_id: str, value: str) -> bool:
        link.sync("contacts")
        return bool(link.value(title, record_id) == value)

    # The cursor has passed the late record by the time it is shown; the overlap reaches back to it.
    wait_until(lambda: shown(second, "in time"), 20)
    wait_until(lambda: shown(first, "late"), 30)


def test_F15_a_full_read_that_met_faults_has_every_record(make_hubspot: MakeHubspot) -> None:
    link = make_hubspot("companies", rows=4_000)
    link.sandbox.faults(
        {"kind": "truncate", "path": "/companies", "nth": 3},
        {"kind": "503", "path": "/companies", "nth": 4, "times": 2},
    )
    # Three faults in a row end the run; the next one goes on behind the last page that landed.
    assert link.sync("companies").partial
    assert not link.sync("companies").partial
    assert link.value("SELECT count(*) FROM hubspot.companies") == len(link.sandbox.alive("companies")) > 300
