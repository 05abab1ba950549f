"""Counts are cheap and find what the reads lost; comparing fields finds the rest; a person may be asked first."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from crm_assets.core.errors import RetriableError
from crm_assets.reconcile import fields, narrow
from crm_assets.reconcile.compare import Depth, Limits, Reconciled, Repair, reconcile
from crm_assets_tests.faults.kit import caught_up
from crm_assets_tests.plugins.linked import Link, MakeLink

SOME = "(SELECT id FROM salesforce.contact ORDER BY id OFFSET 40 LIMIT 1)"


@pytest.fixture
def linked(make_link: MakeLink) -> Iterator[Link]:
    """Some hundreds of contacts, changed over a span of time, read once."""
    made = make_link(objects=("Contact",), rows=1500)
    made.sync("contact")
    yield made


def as_sync(link: Link, statement: str) -> None:
    """Change the mirror behind everybody's back."""
    with link.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute(statement)  # type: ignore[arg-type]


def check(link: Link, depth: Depth = Depth.COUNTS, repair: Repair = Repair.AUTO, ask_from: int = 20_000) -> Reconciled:
    return reconcile(link.db, link.connector, link.object("contact"), depth, repair, Limits(ask_from))


def drift(link: Link) -> list[tuple[str, str, str]]:
    return link.rows("SELECT kind, cause, state FROM crm_assets.drift ORDER BY drift_id")


def test_equal_counts_cost_two_calls(linked: Link) -> None:
    found = check(linked)
    assert found.complete and found.depth is Depth.COUNTS
    assert found.api_calls == 2, "the safe bound and one count"


def test_one_lost_record_is_found_by_few_counts(linked: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(narrow, "_LEAF", 20)
    as_sync(linked, f"DELETE FROM salesforce.contact WHERE id = {SOME}")
    found = check(linked)
    assert found.complete and found.repaired == 1
    assert drift(linked) == [("missing", "late commit", "closed")]
    halvings = 6  # some hundreds of contacts down to twenty
    assert found.api_calls <= 2 + 1 + halvings + 1 + 1
    assert check(linked).api_calls == 3, "what is new since then is counted by itself"


def test_a_change_that_left_no_trace_is_found_by_its_fields_alone(linked: Link) -> None:
    as_sync(linked, f"UPDATE salesforce.contact SET phone = 'damaged' WHERE id = {SOME}")
    assert check(linked).repaired == 0
    assert check(linked, Depth.FIELDS).repaired == 1
    assert drift(linked) == [("differs", "changed without its version", "closed")]


def test_a_row_that_the_crm_does_not_have_is_looked_up_and_removed(linked: Link) -> None:
    as_sync(
        linked,
        "INSERT INTO salesforce.contact (id, last_name, _version, _observed_at)"
        " VALUES ('003000000000001AAA', 'Ghost', '2020-01-01', '2020-01-01')",
    )
    assert check(linked).repaired == 1
    assert linked.value("SELECT count(*) FROM salesforce.contact WHERE last_name = 'Ghost'") == 0


def test_repairs_wait_for_the_person_who_is_asked(linked: Link) -> None:
    as_sync(linked, f"DELETE FROM salesforce.contact WHERE id = {SOME}")
    found = check(linked, repair=Repair.ASK)
    assert not found.complete and found.missing == 1 and found.guard is not None
    assert check(linked, repair=Repair.ASK).guard == found.guard, "one question, however often it is met"
    assert linked.value("SELECT crm_assets.approve(%s)", found.guard) == 1
    linked.read_events()
    assert check(linked, repair=Repair.ASK).complete
    assert drift(linked) == [("missing", "late commit", "closed")]


def test_unusually_many_repairs_ask_too(linked: Link) -> None:
    as_sync(linked, "DELETE FROM salesforce.contact")
    found = check(linked, ask_from=100)
    assert found.guard is not None and found.repaired == 0
    assert check(linked).complete, "below the bound nobody is asked"


def test_a_report_changes_nothing(linked: Link) -> None:
    as_sync(linked, f"DELETE FROM salesforce.contact WHERE id = {SOME}")
    for _ in range(2):
        found = check(linked, repair=Repair.REPORT)
        assert not found.complete and found.missing == 1 and found.guard is None
    assert drift(linked) == [("missing", "late commit", "open")]


def test_a_comparison_that_stops_goes_on_behind_its_last_part(linked: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "_PART", 100)
    as_sync(
        linked,
        "UPDATE salesforce.contact SET phone = 'x' WHERE _version = (SELECT min(_version) FROM salesforce.contact)",
    )
    whole = check(linked, Depth.FIELDS, Repair.REPORT).api_calls
    # Long ago another one stopped, and was given up.
    linked.rows("UPDATE crm_assets.cursor SET compare_began = clock_timestamp() - interval '25 hours'")
    linked.sandbox.faults({"kind": "503", "path": "/queryAll.*SystemModstamp", "nth": 6, "times": 50})
    with pytest.raises(RetriableError):
        check(linked, Depth.FIELDS)
    linked.sandbox.clear_faults()
    assert linked.value("SELECT compared_to IS NOT NULL FROM crm_assets.cursor") is True
    found = check(linked, Depth.FIELDS)
    assert found.api_calls < whole
    assert found.repaired >= 1, "what the earlier part suspected is not forgotten"
    assert not fields.due(linked.db, "salesforce", "contact", timedelta(hours=1))


def test_a_record_that_no_row_holds_is_set_aside_by_every_comparison(make_link: MakeLink, tmp_path: Path) -> None:
    names = [f"Part_{n:03d}__c" for n in range(460)]
    lines = [
        [f"00Q{n:012d}", "L", "X", "2020-01-01T00:00:00Z", *[("x" * 17 if n == 2 else "x")] * len(names)]
        for n in range(3)
    ]
    file = tmp_path / "seed" / "salesforce" / "Lead.csv"
    file.parent.mkdir(parents=True)
    file.write_text(
        "\n".join(map(",".join, [["Id", "LastName", "Company", "SystemModstamp", *names], *lines])), encoding="utf-8"
    )
    link = make_link(objects=("Lead",), seed_dir=tmp_path / "seed", call_timeout=20)
    report = link.sync("lead")
    assert (report.inserted, report.set_aside) == (2, 1)
    for depth in Depth:
        found = reconcile(link.db, link.connector, link.object("lead"), depth)
        assert (found.complete, found.repaired, found.remote_rows, found.set_aside) == (True, 0, 3, 1), depth
    row_that_was = min(row[0] for row in link.rows("SELECT id FROM salesforce.lead"))
    link.sandbox.update("Lead", row_that_was, **dict.fromkeys(names, "y" * 17))
    caught_up(link, "lead")
    found = reconcile(link.db, link.connector, link.object("lead"), Depth.COUNTS)
    assert (found.complete, found.repaired, found.set_aside) == (True, 0, 2), "nothing has mended it"
