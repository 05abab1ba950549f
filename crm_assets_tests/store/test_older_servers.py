"""PostgreSQL of the user's own, older than the embedded one: what the engine needs of it is there."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_assets.core.errors import ConfigurationError
from crm_assets.reconcile.compare import reconcile
from crm_assets.store import migrations
from crm_assets.store.database import Database
from crm_assets_tests.plugins import servers
from crm_assets_tests.plugins.linked import CREDENTIALS, Link, connection_spec
from crm_assets_tests.plugins.sandbox import MakeSandbox
from crm_assets_tests.plugins.telling import Tell

_FOUND = {version: place for version, place in servers.found().items() if version >= 14}


@pytest.fixture(params=sorted(_FOUND) or [None])
def older(request: pytest.FixtureRequest, tell: Tell) -> Iterator[str]:
    """The URL of an owner who is no superuser, on each server of the machine; once for the whole test."""
    if request.param is None:
        tell("skipped: no server found by pg_config, nor below /usr/lib/postgresql")
        pytest.skip("no PostgreSQL server found by pg_config, nor below /usr/lib/postgresql")
    with servers.running(_FOUND[request.param]) as admin:
        with psycopg.connect(admin, autocommit=True) as conn:
            conn.execute("CREATE ROLE owner LOGIN CREATEROLE CREATEDB PASSWORD 'owner'")
            conn.execute("CREATE DATABASE ours OWNER owner TEMPLATE template0" + _linguistic(conn))
        tell(f"PostgreSQL {request.param}")
        yield admin.replace("postgres@", "owner:owner@").rpartition("/")[0] + "/ours"


def _linguistic(conn: psycopg.Connection[Any]) -> str:
    """Text in the order of a language, as most servers of others have it, where the server can."""
    known = conn.execute("SELECT 1 FROM pg_collation WHERE collname = 'en-x-icu'").fetchone()
    return " LOCALE_PROVIDER icu ICU_LOCALE 'en'" if known and conn.info.server_version >= 150000 else ""


_MIXED = [f"003{letter}0000000000{n}" for n, letter in enumerate("aBbC")]
"""Ids whose first and last one are others by their bytes than by the rules of a language."""
_LINES = "first\n\\.\nlast"
"""The line in the middle would end the data of a COPY, were it not within quotes."""
_CHOSEN = ["FirstName", "LastName", "Title", "Phone", "Department", "ReportsToId"]


def test_an_older_server_does_all_that_the_engine_asks_of_it(
    older: str, make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for variable in CREDENTIALS.values():
        monkeypatch.setenv(variable, "sandbox")
    migrations.upgrade(older)
    migrations.upgrade(older)
    seed = tmp_path / "seed" / "salesforce" / "Contact.csv"
    seed.parent.mkdir(parents=True)
    seed.write_text(
        "\n".join(
            [
                "Id,LastName,Email,Description,SystemModstamp",
                *(f'{one},Old,{one}@a.com,"{_LINES}",2020-01-01T00:00:00Z' for one in _MIXED),
            ]
        )
    )
    db, sandbox = Database(older), make_sandbox(seed_dir=tmp_path / "seed")
    spec = connection_spec(sandbox.url, ("Contact",), settings={"Contact": {"fields": _CHOSEN}})
    link = Link(sandbox, db, tmp_path, spec)
    try:
        _uuids(link)
        assert not link.sync("contact").partial
        assert link.value("SELECT count(*) FROM salesforce.contact") == len(sandbox.alive("Contact"))
        _fill(link)
        _both_ways(link)
        _merge(link)
        found = reconcile(db, link.connector, link.object("contact"))
        assert found.complete and not found.repaired, found
    finally:
        link.connection.close()
        db.close()


def _uuids(link: Link) -> None:
    """RFC 9562: version and variant, the milliseconds first, and later ones are greater."""
    before = time.time_ns() // 1_000_000
    made = [row[0] for row in link.rows("SELECT crm_assets.uuidv7() FROM generate_series(1, 2000) ORDER BY 1")]
    after = time.time_ns() // 1_000_000
    assert {(one.version, one.variant) for one in made} == {(7, uuid.RFC_4122)}
    stamps = [one.int >> 80 for one in made]
    assert before <= stamps[0] and stamps[-1] <= after and len(set(made)) == 2000
    pairs = [
        link.value("SELECT crm_assets.uuidv7() < (SELECT crm_assets.uuidv7() FROM pg_sleep(0.002))") for _ in range(20)
    ]
    assert all(pairs)


def _fill(link: Link) -> None:
    """A column that is chosen later gets the values of all rows."""
    link.choose("Contact", fields="*")
    link.age()
    link.follow("contact")
    there = {record_id: one["Email"] for record_id, one in link.sandbox.alive("Contact").items()}
    assert dict(link.rows("SELECT id, email FROM salesforce.contact")) == there
    assert [one for one in there.values() if one] and len(there) >= len(_MIXED)
    described = link.rows("SELECT DISTINCT description FROM salesforce.contact WHERE email LIKE '%@a.com'")
    assert described == [(_LINES,)]


def _both_ways(link: Link) -> None:
    """Creates, updates and deletes on both sides, and one field that both change."""
    sandbox = link.sandbox
    edited, fought, doomed, dropped, *_ = sorted(sandbox.alive("Contact"))
    sandbox.update("Contact", edited, Title=_LINES)
    sandbox.update("Contact", fought, Phone="theirs")
    sandbox.delete("Contact", doomed)
    link.rows("UPDATE salesforce.contact SET phone = 'ours', department = 'ours' WHERE id = %s", fought)
    row_id = link.value("INSERT INTO salesforce.contact (last_name) VALUES ('Born') RETURNING row_id")
    link.rows("DELETE FROM salesforce.contact WHERE id = %s", dropped)
    link.settle()
    link.sync("contact", "full")
    link.settle()
    alive = sandbox.alive("Contact")
    made = link.value("SELECT id FROM salesforce.contact WHERE row_id = %s", row_id)
    assert alive[made]["LastName"] == "Born" and alive[fought]["Department"] == "ours"
    assert doomed not in alive and dropped not in alive
    assert {row[0] for row in link.rows("SELECT id FROM salesforce.contact")} == set(alive)
    assert (
        link.rows("SELECT old ->> 'title', new ->> 'title' FROM crm_assets.change WHERE id = %s", edited)[-1][1]
        == _LINES
    )
    ((conflict, ours, theirs),) = link.rows("SELECT conflict_id, ours, theirs FROM crm_assets.conflict")
    assert (ours, theirs) == ("ours", "theirs")
    link.rows("SELECT crm_assets.resolve(%s, 'product')", conflict)
    link.settle()
    assert sandbox.alive("Contact")[fought]["Phone"] == "ours"


def _merge(link: Link) -> None:
    winner, loser, child, *_ = sorted(link.sandbox.alive("Contact"))
    link.sandbox.update("Contact", child, ReportsToId=loser)
    link.sync("contact", "full")
    gone = link.value("SELECT row_id FROM salesforce.contact WHERE id = %s", loser)
    link.sandbox.merge("Contact", winner, [loser])
    link.sync("contact", "full")
    link.settle()
    assert link.value("SELECT survivor_id FROM crm_assets.alias WHERE row_id = %s", gone) == winner
    assert link.value("SELECT reports_to_id FROM salesforce.contact WHERE id = %s", child) == winner


def test_a_server_that_is_too_old_is_refused_in_one_line(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations, "_OLDEST_SERVER", 990000)
    with pytest.raises(
        ConfigurationError, match=r"^the database server is PostgreSQL \d+; crm_assets needs 99 or newer"
    ):
        migrations.upgrade(database_url)
