"""The connector of docs/writing-a-connector.md, taken out of the page as it stands there, does what the page says."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import sys
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest

from crm_assets.connections import load_connections
from crm_assets.connectors import registry
from crm_assets.connectors.base import ConnectionConfig, Connector
from crm_assets.core.errors import ConfigurationError, ObjectUnavailable
from crm_assets.store.database import Database
from crm_assets_tests.connectors import acme
from crm_assets_tests.connectors.acme import Desk
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import wait_until

DOC = Path(__file__).parents[2] / "docs" / "writing-a-connector.md"
PACKAGE = "acme_crm_assets"


def blocks(kind: str) -> list[str]:
    """The code of a kind in the page."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", DOC.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The page's module, with an entry point as a package has it once it is installed."""
    (module,) = blocks("python")
    (registered,) = blocks("toml")
    entry = dict(line.split(" = ") for line in registered.splitlines() if " = " in line)
    site = tmp_path / "site"
    about = site / f"{PACKAGE}-1.dist-info"
    about.mkdir(parents=True)
    (site / f"{PACKAGE}.py").write_text(module, encoding="utf-8")
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {PACKAGE}\nVersion: 1\n")
    points = "".join(f"{name} = {target.strip(chr(34))}\n" for name, target in entry.items())
    (about / "entry_points.txt").write_text(f"[{registry.GROUP}]\n{points}")
    monkeypatch.syspath_prepend(site)
    yield
    sys.modules.pop(PACKAGE, None)


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Desk]:
    with acme.serving() as desk:
        for name, value in {"ACME_URL": desk.url, "ACME_KEY": "sesame", "ACME_WEBHOOK_SECRET": "hush"}.items():
            monkeypatch.setenv(name, value)
        yield desk


@pytest.fixture
def link(installed: None, desk: Desk, db: Database, home: Path, tmp_path: Path) -> Iterator[Link]:
    """The page's connection, with 250 tickets in the CRM."""
    for n in range(250):
        desk.change(subject=f"Ticket {n}", hours=n / 4)
    defs = tmp_path / "defs" / "acme"
    defs.mkdir(parents=True)
    (config,) = blocks("yaml")
    (defs / "defs.yaml").write_text(config)
    link = Link(cast("Any", desk), db, home, load_connections(tmp_path / "defs")["acme"])
    yield link
    link.connection.close()


def test_from_the_entry_point_to_a_write_back(link: Link, desk: Desk) -> None:
    assert "acme" in registry.names() and isinstance(link.connector, Connector)
    assert {f.name for f in link.object("tickets").fields} == {f["name"] for f in acme.FIELDS} - {"id"}

    report = link.sync("tickets")
    assert not report.partial and report.rows_read == 250
    assert dict(link.rows("SELECT id, subject FROM acme.tickets")) == {
        key: one["subject"] for key, one in desk.tickets.items()
    }
    assert link.value("SELECT hours FROM acme.tickets WHERE subject = 'Ticket 7'") == Decimal("1.75")

    some, gone = list(desk.tickets)[:2]
    desk.change(some, subject="Changed in Acme")
    desk.delete(gone)

    def arrived() -> bool:
        link.sync("tickets")
        there = dict(link.rows("SELECT id, subject FROM acme.tickets WHERE id IN (%s, %s)", some, gone))
        return there == {some: "Changed in Acme"}

    wait_until(arrived, every=0.3)

    link.rows("INSERT INTO acme.tickets (subject, hours) VALUES ('  From the product ', 3.5)")
    link.rows("UPDATE acme.tickets SET subject = 'Changed here' WHERE id = %s", some)
    refused = list(desk.tickets)[5]
    link.rows("UPDATE acme.tickets SET hours = -1 WHERE id = %s", refused)
    link.rows("DELETE FROM acme.tickets WHERE id = %s", list(desk.tickets)[6])
    link.settle()
    assert link.states() == {"confirmed": 3, "rejected": 1}
    ((reason, hours),) = link.rows(
        """SELECT o.reason, t.hours FROM crm_assets.outbox o JOIN acme.tickets t USING (row_id)
            WHERE o.state = 'rejected'"""
    )
    assert "hours" in reason and hours == Decimal("1.5")
    made = next(one for one in desk.tickets.values() if one["subject"] == "From the product")
    assert link.value("SELECT row_id::text FROM acme.tickets WHERE id = %s", made["id"]) == made["row_id"]
    assert link.value("SELECT subject FROM acme.tickets WHERE id = %s", made["id"]) == "From the product"
    assert desk.tickets[some]["subject"] == "Changed here" and len(desk.tickets) == 249
    assert link.value("SELECT \"limit\" FROM crm_assets.quota WHERE connection = 'acme'") == 5000


def test_what_it_is_asked_by_others(link: Link, desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    connector, obj = link.connector, link.object("tickets")
    assert connector.count(obj) == 250 == sum(len(ids) for ids in connector.ids(obj))
    assert connector.fetch(obj, []).table.num_rows == 0
    first = next(iter(connector.read(obj, None)))
    rest = [i for page in connector.read(obj, None, first.next) for i in page.table["id"].to_pylist()]
    assert sorted([*first.table["id"].to_pylist(), *rest]) == sorted(desk.tickets)

    event = {"id": "e1", "object": "tickets", "record_id": "1000", "change": "updated"}
    body, stamp = json.dumps({"events": [event]}).encode(), str(int(time.time()))
    digest = hmac.new(b"hush", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    headers = {"X-Crm-Timestamp": stamp, "X-Crm-Signature": f"sha256={digest}"}
    (change,) = connector.parse_event(headers, body, desk.url)
    assert (change.object, change.record_id) == ("tickets", "1000")
    with pytest.raises(PermissionError):
        connector.parse_event(headers, body + b" ", desk.url)

    with pytest.raises(ObjectUnavailable, match="orders"):
        connector.describe("orders")
    monkeypatch.setenv("ACME_KEY", "guess")
    stranger = registry.make(ConnectionConfig("acme", "acme", desk.url, {"key": "ACME_KEY"}), connector.gate)
    with pytest.raises(ConfigurationError, match="ACME_KEY"):
        stranger.describe("tickets")
    stranger.close()
