"""A sandbox and a database linked by the shipped connection, as a process of the product would use them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from crm_assets import runtime
from crm_assets.connections import ConnectionSpec, ObjectSpec
from crm_assets.core.model import Object
from crm_assets.events import drain as events
from crm_assets.mirror.follow import follow
from crm_assets.mirror.sync import SyncReport, sync
from crm_assets.settings import Settings
from crm_assets.store.database import Database
from crm_assets.writeback.drain import drain
from crm_assets.writeback.report import WritebackReport
from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until

CREDENTIALS = {
    "client_id": "SALESFORCE_CLIENT_ID",
    "client_secret": "SALESFORCE_CLIENT_SECRET",
    "webhook_secret": "SALESFORCE_WEBHOOK_SECRET",
}
WRITABLE = ("Account", "Contact", "Lead", "Opportunity", "Product2")


class Link:
    """Both ends, and what moves between them."""

    def __init__(self, sandbox: Sandbox, db: Database, home: Path, spec: ConnectionSpec) -> None:
        self.sandbox, self.db, self.home, self.spec = sandbox, db, home, spec
        self.settings = Settings(database_url=db.url, home=home)
        self.connection = runtime.open_connection(self.settings, db, spec, "incremental")
        self.connector = self.connection.connector

    def object(self, table: str) -> Object:
        return self.connection.objects[table]

    def sync(self, table: str, mode: Any = "incremental", **options: Any) -> SyncReport:
        return sync(self.db, self.home, self.connector, self.object(table), mode, **options)

    def follow(self, table: str, mode: Any = "incremental") -> SyncReport:
        """Sync as every run does: the describe is kept up with, and what rows lack is filled."""
        run = follow(self.db, self.home, self.connector, self.spec, self.object(table), mode)
        self.connection = replace(self.connection, objects={**self.connection.objects, table: run.obj})
        return run.report

    def choose(self, name: str, **choice: Any) -> None:
        """Edit an object's settings in defs.yaml."""
        spec = self.spec.objects[name].model_copy(update=choice)
        self.spec = self.spec.model_copy(update={"objects": {**self.spec.objects, name: spec}})

    def age(self) -> None:
        """Let ten minutes pass since the last describe."""
        self.rows("UPDATE crm_assets.object SET described_at = described_at - interval '10 minutes'")

    def write_back(self, **options: Any) -> WritebackReport:
        return drain(self.db, self.connector, self.connection.objects, **options)

    def read_events(self) -> None:
        events.drain(self.db, self.connector, self.connection.objects)

    def settle(self, seconds: float = 20.0) -> None:
        """Drain both ways until nothing is under way."""

        def quiet() -> bool:
            self.write_back()
            self.read_events()
            return not self.rows(
                """SELECT seq FROM crm_assets.outbox WHERE state IN ('pending', 'sending', 'unknown')
                   UNION ALL SELECT seq FROM crm_assets.inbox WHERE state IN ('pending', 'claimed')"""
            )

        wait_until(quiet, seconds)

    def rows(self, statement: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Run a statement as the owner and return its rows (none for a statement without)."""
        with self.db.transaction() as conn:
            cursor = conn.execute(statement, parameters or None)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def value(self, statement: str, *parameters: Any) -> Any:
        found = self.rows(statement, *parameters)
        return found[0][0] if found else None

    def states(self) -> dict[str, int]:
        """Outbox rows by state."""
        return dict(self.rows("SELECT state, count(*) FROM crm_assets.outbox GROUP BY state"))


def connection_spec(
    url: str,
    objects: tuple[str, ...] = (*WRITABLE, "User"),
    conflict: str = "hold",
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    longest_call: float = 1.0,
    call_timeout: float = 2.0,
) -> ConnectionSpec:
    """The shipped connection to a sandbox; ``settings`` add to what is set per object."""
    return ConnectionSpec(
        connection="salesforce",
        connector="salesforce",
        url=url,
        credentials=CREDENTIALS,
        call_timeout_seconds=call_timeout,
        longest_call_seconds=longest_call,
        conflict=conflict,
        objects={
            name: ObjectSpec(
                **{
                    "write": name in WRITABLE,
                    "external_id": "Crm_Assets_Row_Id__c" if name in WRITABLE else None,
                    **(settings or {}).get(name, {}),
                }
            )
            for name in objects
        },
    )


MakeLink = Callable[..., Link]


@pytest.fixture
def make_link(
    db: Database, home: Path, make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeLink]:
    """Links a new sandbox: ``make_link(objects=("Contact",), settings={"Contact": {…}}, rows=…)``."""
    links: list[Link] = []

    def make(
        objects: tuple[str, ...] = (*WRITABLE, "User"),
        conflict: str = "hold",
        settings: Mapping[str, Mapping[str, Any]] | None = None,
        longest_call: float = 1.0,
        call_timeout: float = 2.0,
        **sandbox: Any,
    ) -> Link:
        for variable in CREDENTIALS.values():
            monkeypatch.setenv(variable, "sandbox")
        running = make_sandbox(**sandbox)
        spec = connection_spec(running.url, objects, conflict, settings, longest_call, call_timeout)
        links.append(Link(running, db, home, spec))
        return links[-1]

    yield make
    for link in links:
        link.connection.close()


@pytest.fixture
def link(fresh_link: Link) -> Link:
    """As ``fresh_link``; a room whose tests share one has its own fixture of this name."""
    return fresh_link


@pytest.fixture
def fresh_link(make_link: MakeLink) -> Link:
    """Contacts and accounts of a fresh sandbox, read once."""
    made = make_link(objects=("Account", "Contact"))
    for table in ("account", "contact"):
        made.sync(table)
    return made
