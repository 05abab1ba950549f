"""Four relays' drains and two runs' syncs on one connection, while the product writes hot records and keeps some of its
transactions open: the writes of a record arrive in their order, none twice, and nobody waits long for anybody."""

from __future__ import annotations

import json
import os
import random
import threading
import time
import uuid
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain, pairwise
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_assets import runtime
from crm_assets.connections import ConnectionSpec
from crm_assets.core.errors import Busy, CrmAssetsError
from crm_assets.core.model import Change, Mutation, Object, Outcome, Result
from crm_assets.events import drain as events
from crm_assets.mirror.follow import follow
from crm_assets.reconcile.compare import reconcile
from crm_assets.settings import Settings
from crm_assets.store import inbox
from crm_assets.store.apply import apply
from crm_assets.store.database import Database
from crm_assets.writeback.drain import drain
from crm_assets_tests.faults.children import PROCESSES
from crm_assets_tests.plugins.linked import CREDENTIALS, Link, connection_spec
from crm_assets_tests.plugins.postgres import EmbeddedPostgres, new_database
from crm_assets_tests.plugins.sandbox import MakeSandbox, wait_until
from crm_assets_tests.plugins.telling import Tell

RELAYS, SYNCS, WRITERS, RECORDS = 4, 2, 3, 24
LONGEST_WAIT = "3s"
"""For a lock that a product's statement may need: one batch of apply takes a fraction of it."""


def relay(url: str, home: str, spec: str, log: str, stop: Event) -> None:
    """Drains both ways until it is told to stop; what the CRM confirmed is written down with the time of the call."""
    with _connection(url, home, spec) as connection, Path(log).open("w", encoding="utf-8") as told:
        plain, lock = connection.connector.write, threading.Lock()

        def write(obj: Object, mutations: Sequence[Mutation]) -> Sequence[Outcome]:
            begun = time.monotonic_ns()
            outcomes = plain(obj, mutations)
            ended, done = time.monotonic_ns(), {o.seq for o in outcomes if o.result is Result.CONFIRMED}
            with lock:
                for one in mutations:
                    if one.seq in done:
                        told.write(json.dumps([begun, ended, str(one.row_id), one.values.get("title")]) + "\n")
            return outcomes

        connection.connector.write = write  # type: ignore[method-assign]
        while not stop.is_set():
            drain(connection.db, connection.connector, connection.objects)
            events.drain(connection.db, connection.connector, connection.objects)
            apply(connection.db, "salesforce", connection.objects["contact"])
            time.sleep(0.05)


def syncing(url: str, home: str, spec: str, log: str, stop: Event) -> None:
    """One run after the other."""
    with _connection(url, home, spec) as connection:
        while not stop.is_set():
            try:
                obj = connection.objects["contact"]
                follow(connection.db, Path(home), connection.connector, connection.spec, obj)
            except Busy:  # the other run has the object
                time.sleep(0.1)
            except CrmAssetsError as error:
                Path(log).write_text(str(error), encoding="utf-8")
                raise


@contextmanager
def _connection(url: str, home: str, spec: str) -> Iterator[runtime.Connection]:
    os.environ.update(dict.fromkeys(CREDENTIALS.values(), "sandbox"))
    db = Database(url)
    connection = runtime.open_connection(
        Settings(database_url=url, home=Path(home)), db, ConnectionSpec.model_validate_json(spec), "writeback"
    )
    try:
        yield connection
    finally:
        connection.close()
        db.close()


class Product:
    """Sessions that each write records of their own, so that only the engine can make them wait."""

    def __init__(self, url: str, ids: Sequence[str], writes: int) -> None:
        self._url, self._ids, self._writes = url, ids, writes
        self.last: dict[str, int] = {}
        self.made: list[str] = []
        self.longest = 0.0
        self.errors: list[psycopg.Error] = []

    def run(self, number: int) -> None:
        try:
            with psycopg.connect(self._url, autocommit=True, options=f"-c lock_timeout={LONGEST_WAIT}") as conn:
                self._run(conn, number, random.Random(number))
        except psycopg.Error as error:
            self.errors.append(error)

    def _run(self, conn: psycopg.Connection[Any], number: int, chance: random.Random) -> None:
        mine = self._ids[number::WRITERS]
        for n in range(self._writes // WRITERS):
            # Half of the writes go to one record of each writer.
            record_id = mine[0] if chance.random() < 0.5 else chance.choice(mine)
            begun = time.monotonic()
            if n % 60 == 30:
                with conn.transaction():
                    self._update(conn, record_id, n)
                    time.sleep(0.5)
                    begun = time.monotonic()
                    self._update(conn, record_id, n)
            elif n % 20 == 10:
                name = f"made {number} {n}"
                conn.execute("INSERT INTO salesforce.contact (last_name) VALUES (%s)", (name,))
                self.made.append(name)
            else:
                self._update(conn, record_id, n)
            self.longest = max(self.longest, time.monotonic() - begun)
            time.sleep(0.005)

    def _update(self, conn: psycopg.Connection[Any], record_id: str, n: int) -> None:
        conn.execute("UPDATE salesforce.contact SET title = %s WHERE id = %s", (str(n), record_id))
        self.last[record_id] = n


def race(link: Link, writer: str, writes: int, tell: Tell, seconds: float) -> None:
    assert not link.sync("contact").partial
    ids, stop = [link.sandbox.create("Contact", LastName=f"Known {n}") for n in range(RECORDS)], PROCESSES.Event()
    _hint(link, *ids)
    link.read_events()
    logs = [str(link.home / f"log {n}") for n in range(RELAYS + SYNCS)]
    spec = link.spec.model_dump_json()
    processes = [
        PROCESSES.Process(target=syncing if n >= RELAYS else relay, args=(link.db.url, str(link.home), spec, log, stop))
        for n, log in enumerate(logs)
    ]
    product = Product(writer, ids, writes)
    threads = [threading.Thread(target=product.run, args=(number,)) for number in range(WRITERS)]
    try:
        for one in (*processes, *threads):
            one.start()
        while any(thread.is_alive() for thread in threads):
            record_id = random.choice(ids)
            link.sandbox.update("Contact", record_id, Phone=uuid.uuid4().hex)
            _hint(link, record_id)
            time.sleep(0.05)
        wait_until(lambda: not link.rows(_UNDER_WAY), seconds, 0.2)
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        for process in processes:
            process.join(30)
            process.kill()
            process.join()
    assert not product.errors, product.errors
    assert [process.exitcode for process in processes] == [0] * len(processes)
    tell(f"{writes} writes, the longest statement took {product.longest:.2f} s")
    _in_order(logs[:RELAYS])
    _nothing_lost(link, product)


_UNDER_WAY = """SELECT 1 FROM crm_assets.outbox WHERE state IN ('pending', 'sending', 'unknown')
                UNION ALL SELECT 1 FROM crm_assets.inbox WHERE state IN ('pending', 'claimed')"""


def _hint(link: Link, *ids: str) -> None:
    with link.db.transaction() as conn:
        inbox.add(conn, "salesforce", [Change(uuid.uuid4().hex, "Contact", one, "update") for one in ids])


def _in_order(logs: Sequence[str]) -> None:
    """Per record: one call after the other, and each with a later value than the one before."""
    calls, told = defaultdict(list), [Path(log).read_text(encoding="utf-8").splitlines() for log in logs]
    for line in chain(*told):
        begun, ended, row_id, title = json.loads(line)
        calls[row_id].append((begun, ended, title))
    assert len(calls) > RECORDS and sum(map(bool, told)) > 1, "several relays wrote"
    for of_record in calls.values():
        ordered = sorted(of_record)
        for (_, ended, before), (begun, _, after) in pairwise(ordered):
            assert ended <= begun, "two calls of one record at once"
            assert before is None or int(before) < int(after), "sent twice, or out of order"


def _nothing_lost(link: Link, product: Product) -> None:
    assert set(link.states()) <= {"confirmed", "superseded"}
    alive = link.sandbox.alive("Contact")
    assert {i: int(alive[i]["Title"]) for i in product.last} == product.last
    assert sorted(one["LastName"] for one in alive.values() if one["LastName"].startswith("made")) == sorted(
        product.made
    )
    link.settle()
    assert not link.sync("contact", "full").partial
    link.settle()
    found = reconcile(link.db, link.connector, link.object("contact"))
    assert found.complete and not found.repaired, found
    assert link.value("SELECT count(*) FROM crm_assets.conflict") == 0
    assert link.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0


@pytest.fixture
def raced(
    postgres: EmbeddedPostgres, make_sandbox: MakeSandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[Link, str]]:
    for variable in CREDENTIALS.values():
        monkeypatch.setenv(variable, "sandbox")
    with new_database(postgres) as url:
        sandbox, db = make_sandbox(rows=0), Database(url)
        link = Link(sandbox, db, tmp_path, connection_spec(sandbox.url, ("Contact",)))
        yield link, postgres.url("writer", url.rpartition("/")[2])
        link.connection.close()
        db.close()


def test_relays_and_runs_at_once_keep_the_order_of_each_record(raced: tuple[Link, str], tell: Tell) -> None:
    race(*raced, 1_000, tell, 120)


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_relays_and_runs_at_once_keep_the_order_of_each_record_for_20000_writes(
    raced: tuple[Link, str], tell: Tell
) -> None:
    race(*raced, 20_000, tell, 1800)
