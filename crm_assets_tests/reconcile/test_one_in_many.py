"""One lost record among many, and one field that changed without a trace: what finding them costs."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from math import ceil, log2
from pathlib import Path

import pytest

from crm_assets.reconcile import fields, narrow
from crm_assets.reconcile.compare import Depth, Reconciled, reconcile
from crm_assets_tests.plugins.hubspot import MakeHubspot
from crm_assets_tests.plugins.linked import Link, MakeLink

START = datetime(2020, 1, 1, tzinfo=UTC)
MILLION = 1_000_000
MOST_CALLS = 60


@dataclass(frozen=True)
class Kind:
    """Where records are, how they are seeded, and how their ids look in the mirror. ``listed`` ids come in one call."""

    vendor: str
    object: str
    header: str
    row: Callable[[int, str], str]
    id: str
    columns: dict[str, str]
    listed: int
    text: str
    """A column whose value may change without a trace."""

    @property
    def table(self) -> str:
        return f"{self.vendor}.{self.object.lower()}"


SALESFORCE = Kind(
    "salesforce",
    "Contact",
    "Id,LastName,Title,SystemModstamp",
    lambda n, at: f"003{n:012d},N,T,{at}",
    "'003' || lpad(n::text, 12, '0') || 'AAA'",
    {"last_name": "'N'", "title": "'T'", "is_deleted": "false", "system_modstamp": "at"},
    2_000,
    "title",
)
HUBSPOT = Kind(
    "hubspot",
    "contacts",
    "id,lastname,jobtitle,lastmodifieddate",
    lambda n, at: f"{n},N,T,{at}",
    "n::text",
    {"lastname": "'N'", "jobtitle": "'T'", "lastmodifieddate": "at"},
    200,
    "jobtitle",
)

MakeMany = Callable[[Kind, int], Link]


@pytest.fixture
def make_many(make_link: MakeLink, make_hubspot: MakeHubspot, tmp_path: Path) -> Iterator[MakeMany]:
    """So many records on both ends, a second apart, as if all of them had been read."""

    def make(kind: Kind, rows: int) -> Link:
        folder = tmp_path / kind.vendor
        folder.mkdir()
        with (folder / f"{kind.object}.csv").open("w", encoding="utf-8") as file:
            file.write(f"{kind.header}\n")
            for n in range(1, rows + 1):
                file.write(kind.row(n, f"{START + timedelta(seconds=n):%Y-%m-%dT%H:%M:%SZ}") + "\n")
        if kind is SALESFORCE:
            chosen = {kind.object: {"fields": ["LastName", "Title"]}}
            link = make_link(objects=(kind.object,), settings=chosen, seed_dir=tmp_path, call_timeout=120.0)
        else:
            chosen = {kind.object: {"fields": ["lastname", "jobtitle"]}}
            link = make_hubspot(kind.object, settings=chosen, seed_dir=tmp_path)
        with link.db.transaction() as conn:
            conn.execute("SET LOCAL ROLE crm_assets_sync")
            conn.execute(
                f"""INSERT INTO {kind.table} (id, {", ".join(kind.columns)}, _version, _observed_at)
                    SELECT {kind.id}, {", ".join(kind.columns.values())}, at, now()
                      FROM generate_series(1, {rows}) n,
                           LATERAL (SELECT '{START.isoformat()}'::timestamptz + n * interval '1 second' AS at) x"""
            )
        link.rows(f"ANALYZE {kind.table}")
        link.rows(
            "INSERT INTO crm_assets.cursor (connection, object, cursor) VALUES (%s, %s, %s)",
            kind.vendor,
            kind.object.lower(),
            (datetime.now(UTC) - timedelta(minutes=2)).replace(microsecond=0).isoformat(),
        )
        return link

    yield make


def _one_lost(link: Link, kind: Kind, rows: int) -> Reconciled:
    obj = link.object(kind.object.lower())
    assert reconcile(link.db, link.connector, obj, Depth.COUNTS).complete
    with link.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute(f"DELETE FROM {kind.table} WHERE id = (SELECT {kind.id} FROM (SELECT %s AS n) x)", (rows // 3,))
    link.sandbox.reset_calls()
    found = reconcile(link.db, link.connector, obj, Depth.COUNTS)
    assert found.complete and found.repaired == 1 and found.remote_rows == found.local_rows == rows
    assert link.sandbox.calls()["total"] == found.api_calls
    return found


@pytest.mark.parametrize("kind", [SALESFORCE, HUBSPOT], ids=lambda kind: kind.vendor)
def test_one_lost_record_costs_a_call_for_each_halving(
    make_many: MakeMany, kind: Kind, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, leaf = 2_000, 40
    monkeypatch.setattr(narrow, "_LEAF", leaf)
    link = make_many(kind, rows)
    found = _one_lost(link, kind, rows)
    # The safe bound, two counts, what has moved, the halvings, one list of ids and one record.
    assert found.api_calls <= 4 + ceil(log2(rows / leaf)) + 1 + 1
    # A million with the leaf of production: so many calls at the most.
    assert 4 + ceil(log2(MILLION / 2_000)) + ceil(2_000 / kind.listed) + 1 + 1 <= MOST_CALLS

    # A value that changed and left no trace costs a read of all; nothing more.
    obj = link.object(kind.object.lower())
    with link.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute(f"UPDATE {kind.table} SET {kind.text} = 'X' WHERE id = (SELECT max(id) FROM {kind.table})")
    every = reconcile(link.db, link.connector, obj, Depth.FIELDS)
    assert (every.repaired, every.remote_rows) == (1, rows)
    pages = -(-rows // (2_000 if kind is SALESFORCE else 100))
    assert every.api_calls <= pages + 4


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", [SALESFORCE, HUBSPOT], ids=lambda kind: kind.vendor)
def test_one_lost_record_in_a_million(make_many: MakeMany, kind: Kind) -> None:
    link = make_many(kind, MILLION)
    found = _one_lost(link, kind, MILLION)
    print(f"{kind.vendor}: one lost record in {MILLION:,} found and repaired in {found.api_calls} calls")
    assert found.api_calls <= MOST_CALLS
    if kind is SALESFORCE:
        every = reconcile(link.db, link.connector, link.object("contact"), Depth.FIELDS)
        print(f"{kind.vendor}: every field of {MILLION:,} records compared in {every.api_calls} calls")
        assert every.complete and every.api_calls <= 2 * MILLION / 50_000 + 10 * -(-MILLION // fields._PART)
