"""Windows that are not read in one go: what was read counts, and the next run goes on behind it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from crm_assets.connectors.salesforce import reading
from crm_assets.core.model import Object, Page, Window
from crm_assets.mirror import sync as mirror
from crm_assets.store import loads
from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.sandbox import wait_until

_BULK, _REST = 0, 10**9


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pages of Bulk results of 20 records, two of them in a part."""
    monkeypatch.setattr(reading, "BULK_ROWS", 20)
    monkeypatch.setattr(mirror, "PART_ROWS", 40)


def _linked(make_link: MakeLink, threshold: int, rows: int = 300) -> Link:
    link = make_link(objects=("Contact",), rows=rows)
    link.connector.config.options["bulk_threshold"] = threshold  # type: ignore[index]
    return link


def _ids(link: Link) -> set[str]:
    return {row[0] for row in link.rows("SELECT id FROM salesforce.contact")}


def _fetched(link: Link, path: str) -> int:
    return int(link.sandbox.calls()["by_api"].get(path, 0))


@pytest.mark.usefixtures("small")
def test_a_bulk_read_that_stops_goes_on_behind_the_last_page(make_link: MakeLink) -> None:
    link = _linked(make_link, _BULK)
    everything = set(link.sandbox.alive("Contact"))
    pages = -(-len(everything) // 20)
    link.sandbox.faults({"kind": "503", "path": "/results", "nth": 4, "times": 3})
    report = link.sync("contact")
    assert report.partial and report.rows_read == report.inserted == len(_ids(link)) == 60
    assert loads.read_cursor(link.db, "salesforce", "contact") is None, "a part of a window moves no cursor"
    began = link.value("SELECT min(observed_at) FROM crm_assets.load")

    link.sandbox.clear_faults()
    link.sandbox.reset_calls()
    again = link.sync("contact")
    assert again.resumed and not again.partial
    assert again.rows_read == again.inserted == len(everything) - 60
    assert _ids(link) == everything
    assert again.cursor == report.high.isoformat(), "the window's own high end"  # type: ignore[union-attr]
    assert link.value("SELECT count(DISTINCT observed_at) FROM crm_assets.load") == 1
    assert link.value("SELECT max(_observed_at) FROM salesforce.contact") == began, "a job is as old as its creation"
    assert _fetched(link, "bulk_results") == pages - 3, link.sandbox.calls()
    assert link.value("SELECT count(*) FROM salesforce_stage.contact") == 0
    assert not link.sync("contact").resumed


@pytest.mark.usefixtures("small")
def test_a_job_that_the_crm_has_forgotten_is_begun_anew(make_link: MakeLink) -> None:
    link = _linked(make_link, _BULK)
    link.sandbox.faults({"kind": "503", "path": "/results", "nth": 3, "times": 3})
    assert link.sync("contact").partial
    with link.sandbox.api() as api:
        for job in api.get("/jobs/query").json()["records"]:
            api.delete(f"/jobs/query/{job['id']}")
    link.sandbox.clear_faults()
    report = link.sync("contact")
    assert report.resumed and not report.partial
    assert _ids(link) == set(link.sandbox.alive("Contact"))


@pytest.mark.usefixtures("small")
def test_rest_pages_are_gone_on_with_by_key(make_link: MakeLink) -> None:
    link = _linked(make_link, _REST, rows=6000)
    everything = set(link.sandbox.alive("Contact"))
    link.sandbox.faults({"kind": "503", "path": "/query/", "nth": 1, "times": 3})
    report = link.sync("contact")
    assert report.partial and report.rows_read == len(_ids(link)) == 2000
    # The records ahead are still read as they are when they are read.
    ahead = min(everything - _ids(link))
    link.sandbox.update("Contact", ahead, Phone="4711")
    link.sandbox.clear_faults()
    again = link.sync("contact")
    assert again.resumed and again.rows_read == len(everything) - 2000
    assert _ids(link) == everything
    assert link.value("SELECT phone FROM salesforce.contact WHERE id = %s", ahead) == "4711"


@pytest.mark.usefixtures("small")
def test_the_end_of_the_quota_in_the_middle_is_partial_and_keeps_the_place(make_link: MakeLink) -> None:
    link = _linked(make_link, _BULK)
    used = link.sandbox.calls()["total"]
    # Token, bound, count, job, its state at least once, then results.
    link.sandbox.limits(daily_calls=used + 8)
    report = link.sync("contact")
    assert report.partial and 0 < report.rows_read < len(link.sandbox.alive("Contact"))
    place = loads.unfinished(link.db, "salesforce", "contact", "full")
    assert place is not None and place.window.high == report.high


@pytest.mark.usefixtures("small")
def test_other_fields_begin_the_window_anew(make_link: MakeLink) -> None:
    """The pages that are still to come would lack a field that is described by now."""
    link = _linked(make_link, _BULK)
    link.sandbox.faults({"kind": "503", "path": "/results", "nth": 3, "times": 3})
    assert link.sync("contact").partial
    link.sandbox.clear_faults()
    obj = link.object("contact")
    fewer = Object(**{**{n: getattr(obj, n) for n in obj.__dataclass_fields__}, "fields": obj.fields[:-1]})
    place = loads.unfinished(link.db, "salesforce", "contact", "full")
    assert place is not None
    read = sum(page.table.num_rows for page in link.connector.read(fewer, None, after=place.after))
    assert read >= len(link.sandbox.alive("Contact"))


def test_an_old_place_is_not_gone_on_with(make_link: MakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "BULK_ROWS", 20)
    link = _linked(make_link, _BULK)
    link.sandbox.faults({"kind": "503", "path": "/results", "nth": 3, "times": 3})
    assert link.sync("contact").partial
    link.sandbox.clear_faults()
    assert loads.unfinished(link.db, "salesforce", "contact", "full") is not None
    link.rows("UPDATE crm_assets.load SET observed_at = observed_at - interval '3 days'")
    assert loads.unfinished(link.db, "salesforce", "contact", "full") is None
    assert not link.sync("contact").resumed


@pytest.mark.usefixtures("small")
def test_a_backfill_resumes_in_its_slice(make_link: MakeLink) -> None:
    link = _linked(make_link, _BULK)
    link.sync("contact")
    now = datetime.now(UTC)
    slice_, other = Window(now - timedelta(days=4000), now), Window(now - timedelta(days=4001), now)
    link.sandbox.faults({"kind": "503", "path": "/results", "nth": 3, "times": 3})
    report = link.sync("contact", "backfill", window=slice_)
    assert report.partial and report.rows_read >= 40
    link.sandbox.clear_faults()
    link.sync("contact")  # the schedule goes on meanwhile
    assert loads.unfinished(link.db, "salesforce", "contact", "backfill", other) is None
    again = link.sync("contact", "backfill", window=slice_)
    assert again.resumed and report.rows_read + again.rows_read == len(link.sandbox.alive("Contact"))
    assert not link.sync("contact", "backfill", window=slice_).resumed, "a slice that is done is read anew"


def test_a_change_seen_while_a_backfill_runs_is_not_overwritten_by_its_older_page(link: Link) -> None:
    some = min(link.sandbox.alive("Contact"))
    now = datetime.now(UTC)
    seen: list[str] = []

    def meanwhile(_rows: int) -> None:
        # The page is read and not landed yet: its record changes, is read by id, and applied.
        if not seen:
            wait_until(lambda: datetime.now(UTC).second != before.second)  # the CRM dates by whole seconds
            link.sandbox.update("Contact", some, Phone="newer")
            link.rows(
                """INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change)
                   VALUES ('salesforce', 'one', 'contact', %s, 'update')""",
                some,
            )
            link.read_events()
            seen.append(link.value("SELECT phone FROM salesforce.contact WHERE id = %s", some))

    before = datetime.now(UTC)
    link.sync("contact", "backfill", window=Window(now - timedelta(days=4000), now), progress=meanwhile)
    assert seen == ["newer"]
    assert link.value("SELECT phone FROM salesforce.contact WHERE id = %s", some) == "newer"


def test_a_part_ends_only_where_one_can_go_on(monkeypatch: pytest.MonkeyPatch, link: Link) -> None:
    monkeypatch.setattr(mirror, "PART_ROWS", 1)
    obj = link.object("contact")
    empty = obj.page_schema().empty_table()
    places = iter(["a", None, "b", None])

    def pages() -> Iterator[Page]:
        for place in places:
            yield Page(empty.schema.empty_table(), next=place)

    parts = mirror._Parts(pages())
    monkeypatch.setattr(mirror, "PART_SECONDS", -1.0)
    sizes: list[tuple[int, str | None]] = []
    while not sizes or parts.place is not None:
        sizes.append((sum(1 for _ in parts.part()), parts.place))
    assert sizes == [(1, "a"), (2, "b"), (1, None)]
