"""What is HubSpot's own beside the common promises: associations written, long lists of properties, the archive."""

from __future__ import annotations

import json
import sqlite3
from datetime import UTC, datetime, timedelta

import pytest

from crm_assets.connectors.hubspot import records
from crm_assets.core.model import Window
from crm_assets.events.receiver import app
from crm_assets.orchestration.metadata import table_metadata
from crm_assets_tests.events.serving import serving
from crm_assets_tests.plugins import hubspot_api as api
from crm_assets_tests.plugins.hubspot import MakeHubspot
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import wait_until

INSERT = "INSERT INTO hubspot.contacts_to_companies (from_id, to_id, type, label) VALUES (%s, %s, %s, %s)"


@pytest.fixture
def link(make_hubspot: MakeHubspot) -> Link:
    made = make_hubspot("contacts", "companies", "contacts_to_companies", rows=60)
    for table in made.connection.objects:
        made.sync(table)
    return made


def _pair(link: Link) -> tuple[str, str]:
    """A contact, and a company that it has nothing to do with."""
    one = next(iter(link.sandbox.alive("contacts")))
    has = {other for other, _ in api.pairs(link.sandbox, "contacts", one, "companies")}
    return one, next(other for other in link.sandbox.alive("companies") if other not in has)


def _between(link: Link, one: str, other: str) -> tuple[set[str], set[str]]:
    """Types of association of the pair, in HubSpot and in the mirror."""
    there = {number for to, number in api.pairs(link.sandbox, "contacts", one, "companies") if to == other}
    here = link.rows("SELECT type FROM hubspot.contacts_to_companies WHERE from_id = %s AND to_id = %s", one, other)
    return there, {number for (number,) in here}


def test_associations_are_made_by_default_by_type_and_by_label_and_removed_again(link: Link) -> None:
    one, other = _pair(link)
    link.rows(INSERT, one, other, None, None)
    link.settle()
    assert _between(link, one, other) == ({"279"}, {"279"})
    link.rows(INSERT, one, other, None, "Primary")
    link.settle()
    assert _between(link, one, other) == ({"279", "1"}, {"279", "1"})
    link.rows("DELETE FROM hubspot.contacts_to_companies WHERE from_id = %s AND to_id = %s AND type = '1'", one, other)
    link.settle()
    assert _between(link, one, other) == ({"279"}, {"279"})
    link.rows("DELETE FROM hubspot.contacts_to_companies WHERE from_id = %s AND to_id = %s", one, other)
    link.settle()
    assert _between(link, one, other) == (set(), set())
    link.rows(INSERT, one, other, "279", None)
    link.settle()
    assert _between(link, one, other) == ({"279"}, {"279"})
    assert set(link.states()) == {"confirmed"}


def test_an_unknown_label_is_refused_with_the_known_ones(link: Link) -> None:
    one, other = _pair(link)
    link.rows(INSERT, one, other, None, "Archenemy")
    link.settle()
    assert link.states() == {"rejected": 1}
    assert "Primary" in link.value("SELECT reason FROM crm_assets.outbox")


def test_an_association_waits_for_a_record_that_hubspot_does_not_have_yet(link: Link) -> None:
    _, other = _pair(link)
    link.rows("INSERT INTO hubspot.contacts (email) VALUES ('new.one@example.com')")
    row_id = link.value("SELECT row_id::text FROM hubspot.contacts WHERE email = 'new.one@example.com'")
    link.rows(INSERT, row_id, other, None, None)
    link.settle()
    record_id = link.value("SELECT id FROM hubspot.contacts WHERE email = 'new.one@example.com'")
    there, here = _between(link, record_id, other)
    assert there == here and "279" in there


def test_more_properties_than_a_url_takes_are_read_in_batches(link: Link, monkeypatch: pytest.MonkeyPatch) -> None:
    obj = link.object("contacts")
    by_list = [row for page in link.connector.read(obj, None) for row in page.table.to_pylist()]
    monkeypatch.setattr(records, "_LONGEST_NAMES", 10)
    link.sandbox.reset_calls()
    by_batch = [row for page in link.connector.read(obj, None) for row in page.table.to_pylist()]
    assert by_batch == by_list and link.sandbox.calls()["by_api"]["batch_read"] == 1


def test_a_large_archive_is_looked_through_when_the_sweep_is_due(make_hubspot: MakeHubspot) -> None:
    link = make_hubspot("contacts", rows=60, options={"archive_pages": 1, "archive_sweep_seconds": 600})
    obj = link.object("contacts")
    archived = list(link.sandbox.alive("contacts"))[:3]
    for record_id in archived:
        link.sandbox.delete("contacts", record_id)
    now = datetime.now(UTC)
    slot = datetime.fromtimestamp(now.timestamp() // 600 * 600, UTC)
    across = Window(slot - timedelta(seconds=1), slot + timedelta(seconds=1))
    # The window that crosses a sweep reports all that was archived since the sweep before.
    assert {d.id for d in link.connector.deletes(obj, across)} == set(archived)
    assert {
        d.id for d in link.connector.deletes(obj, Window(now + timedelta(hours=1), now + timedelta(hours=1)))
    } == set()


def test_the_sandboxs_webhooks_are_believed_and_bring_records_and_associations(link: Link) -> None:
    one, other = _pair(link)
    with serving(app(link.db, {"hubspot": link.connector})) as url:
        link.sandbox.subscribe(f"{url}/webhooks/hubspot")
        link.sandbox.update("contacts", one, jobtitle="Told")
        api.associate(link.sandbox, "contacts", one, "companies", other)
        known = (
            "SELECT count(DISTINCT object) FROM crm_assets.inbox WHERE object IN ('contacts', 'contacts_to_companies')"
        )
        wait_until(lambda: link.value(known) == 2, 20)
    link.read_events()
    assert link.value("SELECT jobtitle FROM hubspot.contacts WHERE id = %s", one) == "Told"
    there, here = _between(link, one, other)
    assert there == here and "279" in there


def test_what_hubspot_calculates_is_read_again_though_no_time_of_change_moves(link: Link) -> None:
    link.follow("contacts")
    some, before = link.rows("SELECT id, _version FROM hubspot.contacts WHERE hs_email_domain IS NOT NULL LIMIT 1")[0]
    with sqlite3.connect(link.sandbox.data_dir / "hubspot.sqlite", timeout=60) as db:
        (props,) = db.execute("SELECT props FROM contacts WHERE id = ?", (some,)).fetchone()
        changed = json.dumps(json.loads(props) | {"hs_email_domain": "moved.example"}).encode()
        db.execute("UPDATE contacts SET props = ? WHERE id = ?", (changed, some))
    db.close()
    shown = "SELECT hs_email_domain, _version FROM hubspot.contacts WHERE id = %s"
    link.follow("contacts")
    assert link.rows(shown, some)[0][0] != "moved.example"
    link.rows("UPDATE crm_assets.fill SET begun_at = begun_at - interval '24 hours'")
    assert link.follow("contacts").filled == 1
    assert link.rows(shown, some) == [("moved.example", before)]
    told = table_metadata(link.spec, link.object("contacts"))["calculated_columns"].records
    assert {"column": "hs_email_domain", "staleness": "at most 24 h old"} in [record.data for record in told]
