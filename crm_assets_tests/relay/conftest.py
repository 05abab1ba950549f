"""A relay as a real process, between a real sandbox and a real database."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from crm_assets.store.database import Database
from crm_assets_tests.plugins.nursery import Child
from crm_assets_tests.plugins.postgres import database_url, db, postgres, writer_url
from crm_assets_tests.plugins.sandbox import Sandbox, make_sandbox, nursery, sandbox

__all__ = ["database_url", "db", "make_sandbox", "postgres", "sandbox", "writer_url"]

_DEFS = """
type: crm_assets.components.CrmConnection
attributes:
  connection: {name}
  connector: salesforce
  url: "{url}"
  credentials:
    client_id: {variable}
    client_secret: {variable}
    webhook_secret: {variable}
  schedule: "* * * * *"
  conflict: hold
  call_timeout_seconds: {timeout}
  longest_call_seconds: {longest}
  options: {options}
  objects:
    Account:
      write: true
      external_id: Crm_Assets_Row_Id__c
    Contact:
      write: true
      external_id: Crm_Assets_Row_Id__c
"""
_READY = "relay listening on "

MakeRelay = Callable[..., "Relay"]


class Relay:
    """One relay process."""

    def __init__(self, home: Path, env: dict[str, str], port: int = 0) -> None:
        self._home = home
        self._env = env
        self._port = port
        self._process: Child | None = None
        self.url = ""
        self.start()

    def start(self) -> None:
        """Start it, again at the same address if it ran before."""
        with (self._home / "relay.log").open("a", encoding="utf-8") as log:
            self._process = nursery("relay").start([str(self._port)], log, self._env)
        line = self._process.stdout.readline()
        assert line.startswith(_READY), f"the relay did not start: {self.log[-3000:]}"
        self.url = line.removeprefix(_READY).strip()
        self._port = int(self.url.rpartition(":")[2])

    @property
    def log(self) -> str:
        return (self._home / "relay.log").read_text(encoding="utf-8")

    @property
    def webhook(self) -> str:
        return f"{self.url}/webhooks/salesforce"

    def kill(self) -> int:
        return self._end(signal.SIGKILL)

    def stop(self) -> int:
        return self._end(signal.SIGTERM)

    def _end(self, how: signal.Signals) -> int:
        assert self._process is not None
        if self._process.poll() is None:
            os.kill(self._process.pid, how)
        code = self._process.wait(30)
        self._process.stdout.close()
        return code


@pytest.fixture
def define(tmp_path: Path, sandbox: Sandbox) -> Callable[..., None]:
    """Writes the defs.yaml of a connection."""

    def write(
        name: str = "salesforce",
        *,
        url: str = "",
        variable: str = "CRM_SECRET",
        timeout: float = 20,
        longest: float = 2,
        options: dict[str, str] | None = None,
    ) -> None:
        folder = tmp_path / "defs" / name
        folder.mkdir(parents=True)
        (folder / "defs.yaml").write_text(
            _DEFS.format(
                name=name,
                url=url or sandbox.url,
                variable=variable,
                timeout=timeout,
                longest=longest,
                options=json.dumps(options or {}),
            ),
            encoding="utf-8",
        )

    return write


@pytest.fixture
def make_relay(tmp_path: Path, db: Database) -> Iterator[MakeRelay]:
    """Starts relays on the defined connections; all are gone after the test."""
    running: list[Relay] = []
    env = os.environ | {
        "CRM_ASSETS_DATABASE_URL": db.url,
        "CRM_ASSETS_HOME": str(tmp_path / "home"),
        "CRM_ASSETS_DEFS": str(tmp_path / "defs"),
        "CRM_SECRET": "sandbox",
    }

    def make(**more: str) -> Relay:
        home = tmp_path / f"relay-{len(running)}"
        home.mkdir()
        running.append(Relay(home, env | more))
        return running[-1]

    yield make
    for relay in running:
        relay.kill()


@pytest.fixture
def relay(make_relay: MakeRelay, define: Callable[..., None], sandbox: Sandbox) -> Relay:
    """One relay on the sandbox's Account and Contact, subscribed to its events."""
    define()
    one = make_relay()
    sandbox.subscribe(one.webhook)
    return one


@pytest.fixture
def product(writer_url: str) -> Iterator[psycopg.Connection[Any]]:
    """The product's own connection to the database, as the role it is meant to use."""
    with psycopg.connect(writer_url, autocommit=True) as conn:
        yield conn
