"""The crash matrix: kill -9 before and after every commit and every call of each kind of work, then go on.

The steps are counted by the test itself in a first run. Then, for one step after the other, both sides change, the
work runs in a process that dies at that step, ordinary runs follow, and both ends must agree with nothing lost and
nothing made twice. The short form takes steps evenly spaced, the long one takes all.
"""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_assets import runtime
from crm_assets.connections import ConnectionSpec
from crm_assets.core.model import Change
from crm_assets.events import drain as events
from crm_assets.mirror import land
from crm_assets.mirror.sync import sync
from crm_assets.reconcile.compare import reconcile
from crm_assets.settings import Settings
from crm_assets.store import inbox, migrations
from crm_assets.store.database import Database
from crm_assets.store.embedded import EmbeddedPostgres
from crm_assets.writeback.drain import drain
from crm_assets_tests.faults import failpoints
from crm_assets_tests.faults.children import PROCESSES
from crm_assets_tests.plugins.linked import CREDENTIALS, Link, connection_spec
from crm_assets_tests.plugins.postgres import QUICK, new_database, new_home
from crm_assets_tests.plugins.sandbox import MakeSandbox, wait_until
from crm_assets_tests.plugins.telling import Tell

WORKS = ("sync", "full", "first", "events", "writeback")
KILLS = {"sync": 4, "full": 3, "first": 3, "events": 3, "writeback": 5}
"""How many steps of each work the short form takes."""


def work(kind: str, url: str, home: str, spec: str, kill_at: int, victim: int, told: Connection) -> None:
    """What a child process does: one kind of work, dying (or killing ``victim``) at step ``kill_at``."""
    os.environ.update(dict.fromkeys(CREDENTIALS.values(), "sandbox"))
    db = Database(url)
    if victim:  # no server comes back while this process lives
        db.pool.timeout = 1.0
    step, steps = failpoints.killer(kill_at, lambda: victim or os.getpid())
    connection = runtime.open_connection(
        Settings(database_url=url, home=Path(home)), db, ConnectionSpec.model_validate_json(spec), "incremental"
    )
    failpoints.install(step)
    try:
        if kind == "writeback":
            drain(db, connection.connector, connection.objects)
        elif kind == "events":
            events.drain(db, connection.connector, connection.objects)
        else:
            mode: Any = "incremental" if kind == "sync" else "full"
            if kind == "full":  # as many rows land
                land.FEW_ROWS = 0
            sync(db, Path(home), connection.connector, connection.objects["contact"], mode)
    finally:
        told.send(steps)


def run(link: Link, kind: str, kill_at: int = 0, victim: int = 0) -> list[str]:
    """Run the work in a process; its steps, or none if it was killed."""
    if kind == "first":
        # A mirror that was never complete is loaded in another way.
        link.rows("UPDATE crm_assets.cursor SET cursor = NULL")
    ours, theirs = PROCESSES.Pipe(duplex=False)
    process = PROCESSES.Process(
        target=work,
        args=(kind, link.db.url, str(link.home), link.spec.model_dump_json(), kill_at, victim, theirs),
    )
    process.start()
    theirs.close()
    try:
        process.join(60)
        assert not process.is_alive(), f"{kind} hangs when killed at step {kill_at}"
    finally:
        process.kill()
        process.join()
    try:
        return list(ours.recv()) if ours.poll() else []
    except EOFError:
        return []
    finally:
        ours.close()


@dataclass
class Case:
    """The same little history for every kill, on records of its own."""

    link: Link
    name: str

    def begin(self) -> None:
        """Records that both ends know."""
        sandbox = self.link.sandbox
        self.edited, self.doomed, self.fought, self.ours, self.dropped = (
            sandbox.create("Contact", LastName=f"{self.name} {what}")
            for what in ("edited", "doomed", "fought", "ours", "dropped")
        )
        for record_id in (self.edited, self.doomed, self.fought, self.ours, self.dropped):
            self.hint(record_id)
        self.link.read_events()

    def hint(self, record_id: str) -> None:
        with self.link.db.transaction() as conn:
            inbox.add(conn, "salesforce", [Change(uuid.uuid4().hex, "Contact", record_id, "update")])

    def change(self) -> None:
        """Creates, updates and deletes on both sides, and one field that both change."""
        sandbox, rows = self.link.sandbox, self.link.rows
        self.made = sandbox.create("Contact", LastName=f"{self.name} made")
        sandbox.update("Contact", self.edited, Title="theirs")
        sandbox.delete("Contact", self.doomed)
        sandbox.update("Contact", self.fought, Phone="theirs", Title="theirs")
        self.born = uuid.uuid4()
        rows("INSERT INTO salesforce.contact (row_id, last_name) VALUES (%s, %s)", self.born, f"{self.name} born")
        rows("UPDATE salesforce.contact SET title = 'ours' WHERE id = %s", self.ours)
        rows("UPDATE salesforce.contact SET phone = 'ours', department = 'ours' WHERE id = %s", self.fought)
        rows("DELETE FROM salesforce.contact WHERE id = %s", self.dropped)
        for record_id in (self.made, self.edited, self.doomed, self.fought):
            self.hint(record_id)

    def holds(self) -> None:
        """Nothing lost, nothing twice, and the one conflict is told."""
        alive, value = self.link.sandbox.alive("Contact"), self.link.value
        assert alive[self.edited]["Title"] == "theirs" and alive[self.ours]["Title"] == "ours"
        assert alive[self.fought] | {"Phone": "theirs", "Title": "theirs", "Department": "ours"} == alive[self.fought]
        assert self.doomed not in alive and self.dropped not in alive
        twins = [key for key, one in alive.items() if one["Crm_Assets_Row_Id__c"] == str(self.born)]
        assert len(twins) == 1, twins
        assert value("SELECT id FROM salesforce.contact WHERE row_id = %s", self.born) == twins[0]
        assert value("SELECT last_name FROM salesforce.contact WHERE id = %s", self.made) == f"{self.name} made"
        fought = self.link.rows("SELECT row_id, phone, title FROM salesforce.contact WHERE id = %s", self.fought)
        assert [row[1:] for row in fought] == [("ours", "theirs")]
        assert self.link.rows(
            "SELECT field, ours, theirs FROM crm_assets.conflict WHERE row_id = %s AND state = 'open'", fought[0][0]
        ) == [("phone", "ours", "theirs")]

    def end(self) -> None:
        """A person decides the conflict, so that it does not stand in the way of the next case."""
        self.link.rows("SELECT crm_assets.resolve(conflict_id, 'crm') FROM crm_assets.conflict WHERE state = 'open'")
        self.link.settle()


def recover(link: Link) -> None:
    """Ordinary runs. The clock is not what is tested: leases, pauses and the vendor's longest time are over."""
    link.rows("UPDATE crm_assets.cursor SET lease_until = clock_timestamp() WHERE lease_until IS NOT NULL")
    link.rows("UPDATE crm_assets.inbox SET next_try_at = clock_timestamp() WHERE state IN ('pending', 'claimed')")
    link.write_back()
    link.rows(
        """UPDATE crm_assets.outbox SET next_try_at = clock_timestamp(), sent_at = sent_at - interval '1 minute'
            WHERE state IN ('pending', 'unknown')"""
    )
    link.settle()
    assert not link.sync("contact").partial
    link.settle()


def agree(link: Link) -> None:
    """Both ends are equal, and the killed process has left nothing behind."""
    found = reconcile(link.db, link.connector, link.object("contact"))
    assert found.complete and not found.repaired, found
    assert {row[0] for row in link.rows("SELECT id FROM salesforce.contact")} == set(link.sandbox.alive("Contact"))
    assert set(link.states()) <= {"confirmed", "superseded", "discarded", "conflict"}
    assert link.value("SELECT count(*) FROM salesforce_stage.contact") == 0
    assert link.value("SELECT count(*) FROM crm_assets.load WHERE state IN ('landing', 'landed')") == 0
    assert link.value("SELECT count(*) FROM crm_assets.floor") == 0
    assert not list((link.home / "dlt").glob("*"))


def counted(link: Link, kind: str) -> list[str]:
    """The steps of the work, of which none is fatal."""
    whole = Case(link, f"{kind} whole")
    whole.begin()
    whole.change()
    steps = run(link, kind)
    assert len(steps) > 8, steps
    recover(link)
    whole.holds()
    whole.end()
    return steps


def matrix(link: Link, tell: Tell, kind: str, most: int | None) -> None:
    steps = counted(link, kind)
    numbers = range(1, len(steps) + 1)
    if most is not None:
        numbers = [1 + round(n * (len(steps) - 1) / (most - 1)) for n in range(most)]  # type: ignore[assignment]
    tell(f"{len(steps)} steps, {len(numbers)} kills")
    for number in numbers:
        case = Case(link, f"{kind} {number}")
        case.begin()
        case.change()
        left = run(link, kind, number)
        # A step more or less than last time is possible; then nobody was killed, and all must hold even so.
        try:
            assert not left or len(left) < number, f"step {number} of {len(left)} killed nobody"
            recover(link)
            case.holds()
            agree(link)
        except BaseException as error:
            error.add_note(f"killed at step {number} of {kind}: {steps[number - 1]}")
            raise
        case.end()


@contextmanager
def _linked(url: str, sandbox_url: Any) -> Iterator[Link]:
    home = Path(tempfile.mkdtemp(prefix="crash-"))
    db = Database(url)
    link = Link(sandbox_url, db, home, connection_spec(sandbox_url.url, ("Contact",)))
    try:
        link.sync("contact")
        yield link
    finally:
        link.connection.close()
        db.close()
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in CREDENTIALS.values():
        monkeypatch.setenv(variable, "sandbox")


@pytest.fixture
def crashing(postgres: EmbeddedPostgres, make_sandbox: MakeSandbox, credentials: None) -> Iterator[Link]:
    with new_database(postgres) as url, _linked(url, make_sandbox(rows=0)) as link:
        yield link


@pytest.mark.parametrize("kind", WORKS)
def test_a_process_killed_at_any_step_is_followed_by_one_that_finishes(crashing: Link, tell: Tell, kind: str) -> None:
    matrix(crashing, tell, kind, KILLS[kind])


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", WORKS)
def test_a_process_killed_at_every_step_is_followed_by_one_that_finishes(crashing: Link, tell: Tell, kind: str) -> None:
    matrix(crashing, tell, kind, None)


def _answers(link: Link) -> bool:
    """A pool that was refused waits ever longer before it asks again."""
    try:
        return bool(link.rows("SELECT 1"))
    except psycopg.OperationalError:
        return False


@contextmanager
def _own_server(sandbox: Any) -> Iterator[tuple[EmbeddedPostgres, Link]]:
    place = new_home()
    # What was committed has left the server's memory, as where a product works: else the kill takes it along.
    server = EmbeddedPostgres(place, settings={**QUICK, "synchronous_commit": "on"})
    data = None
    try:
        server.start()
        migrations.upgrade(server.url())
        data = server.data
        with _linked(server.url(), sandbox) as link:
            yield server, link
    finally:
        server.stop()
        for folder in (place, data):
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)


def _killed_under(server: EmbeddedPostgres, link: Link, kind: str, number: int) -> None:
    case = Case(link, f"{kind} {number}")
    case.begin()
    case.change()
    assert server.pid is not None
    run(link, kind, number, victim=server.pid)
    server.stop()
    server.start()
    assert server.url() == link.db.url, "the port was taken by another process"
    wait_until(lambda: _answers(link), 60)
    recover(link)
    case.holds()
    agree(link)
    case.end()


def test_postgres_killed_in_the_middle_loses_nothing(make_sandbox: MakeSandbox, credentials: None) -> None:
    """The server dies under a sync and under a write-back, before and after a commit; started again, ordinary runs
    bring both ends together."""
    with _own_server(make_sandbox(rows=0)) as (server, link):
        for kind, number in (("sync", 5), ("writeback", 1), ("writeback", 6)):
            _killed_under(server, link, kind, number)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("kind", ["sync", "writeback"])
def test_postgres_killed_at_every_step_loses_nothing(
    make_sandbox: MakeSandbox, credentials: None, tell: Tell, kind: str
) -> None:
    with _own_server(make_sandbox(rows=0)) as (server, link):
        steps = counted(link, kind)
        for number, step in enumerate(steps, 1):
            try:
                _killed_under(server, link, kind, number)
            except BaseException as error:
                error.add_note(f"killed at step {number} of {kind}: {step}")
                raise
        tell(f"{len(steps)} kills of Postgres")
