"""kill -9 at any moment of a sync or a write-back, then start again: both ends agree and nothing is doubled.

What the crash matrix does step by step, at random and with many records.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from crm_assets.reconcile.compare import reconcile
from crm_assets_tests.plugins.linked import CREDENTIALS, Link, MakeLink
from crm_assets_tests.plugins.sandbox import wait_until

_WORKER = """
import sys
from pathlib import Path
from crm_assets import runtime
from crm_assets.connections import ConnectionSpec
from crm_assets.events import drain as events
from crm_assets.mirror.sync import sync
from crm_assets.settings import Settings
from crm_assets.store.database import Database
from crm_assets.writeback.drain import drain

work, url, home, spec = sys.argv[1:]
spec = ConnectionSpec.model_validate_json(spec)
settings = Settings(database_url=url, home=Path(home))
db = Database(url)
connection = runtime.open_connection(settings, db, spec, "incremental")
print("started", flush=True)
while True:
    if work == "sync":
        for obj in connection.objects.values():
            sync(db, settings.home, connection.connector, obj, "full")
    else:
        drain(db, connection.connector, connection.objects)
        events.drain(db, connection.connector, connection.objects)
"""


def _start(link: Link, work: str) -> subprocess.Popen[str]:
    environment = os.environ | dict.fromkeys(CREDENTIALS.values(), "sandbox")
    process = subprocess.Popen(
        [sys.executable, "-c", _WORKER, work, link.db.url, str(link.home), link.spec.model_dump_json()],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment,
        cwd=Path(__file__).parents[2],
    )
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    return process


def _kill_at_random(link: Link, work: str, chance: random.Random, longest: float) -> None:
    process = _start(link, work)
    try:
        # The moment is what is being tested; any one will do.
        time.sleep(chance.uniform(0, longest))
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


def _both_ends_agree(link: Link) -> None:
    for table, obj in link.connection.objects.items():
        found = reconcile(link.db, link.connector, obj)
        assert found.complete and not found.repaired, (table, found)
    assert link.value("SELECT count(*) FROM salesforce_stage.contact WHERE _load IS NULL") == 0


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(6))
def test_a_write_back_that_is_killed_is_finished_by_the_next_process(make_link: MakeLink, seed: int) -> None:
    chance = random.Random(seed)
    link = make_link(objects=("Account", "Contact"), rows=200)
    for table in ("account", "contact"):
        link.sync(table)
    before = len(link.sandbox.alive("Contact"))
    made = 0
    for round_ in range(4):
        link.rows("INSERT INTO salesforce.contact (last_name) SELECT 'C' || n FROM generate_series(1, 100) n")
        link.rows("UPDATE salesforce.contact SET title = %s WHERE id IS NOT NULL", f"round {round_}")
        made += 100
        _kill_at_random(link, "writeback", chance, 0.6)
    link.settle(60)
    alive = link.sandbox.alive("Contact")
    assert len(alive) == before + made
    assert len({r["Crm_Assets_Row_Id__c"] for r in alive.values() if r["Crm_Assets_Row_Id__c"]}) == made
    assert set(link.states()) <= {"confirmed", "superseded"}
    assert {r[0] for r in link.rows("SELECT title FROM salesforce.contact WHERE title LIKE 'round%'")} <= {
        f"round {n}" for n in range(4)
    }
    _both_ends_agree(link)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
def test_a_sync_that_is_killed_is_taken_over(make_link: MakeLink, seed: int) -> None:
    chance = random.Random(100 + seed)
    link = make_link(objects=("Account", "Contact", "Lead"), rows=1_500)
    for _ in range(3):
        _kill_at_random(link, "sync", chance, 2.0)
        # A lease of a dead owner ends by itself; the clock is not what is tested here.
        link.rows("UPDATE crm_assets.cursor SET lease_until = clock_timestamp() WHERE lease_until IS NOT NULL")
        link.sandbox.update("Contact", next(iter(link.sandbox.alive("Contact"))), Phone=str(chance.random()))
    for table in link.connection.objects:
        report = wait_until(lambda table=table: (r := link.sync(table, "full")) and not r.partial and r)
        assert report.cursor is not None
    for name in ("Account", "Contact", "Lead"):
        ids = [r[0] for r in link.rows(f"SELECT id FROM salesforce.{name.lower()}")]
        assert len(ids) == len(set(ids)) and set(ids) == set(link.sandbox.alive(name))
    link.settle()
    _both_ends_agree(link)
    # Nothing of the killed loads is left behind, in the database or on the disk.
    assert link.value("SELECT count(*) FROM crm_assets.load WHERE state IN ('landing', 'landed')") == 0
    assert link.value("SELECT count(*) FROM salesforce_stage.lead") == 0
