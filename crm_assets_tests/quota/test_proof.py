"""Four processes on three accounts whose limits bite: never over, hardly ever idle, whatever happens to them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import httpx
import pytest

from crm_assets.connectors import registry
from crm_assets.connectors.base import ConnectionConfig
from crm_assets.quota.gate import QuotaGate
from crm_assets.store.database import Database
from crm_assets_tests.plugins import hubspot, linked, netsuite
from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until
from crm_assets_tests.quota import callers

LANES = ("writeback", "events", "incremental", "backfill")
CREDENTIALS = {
    "salesforce": linked.CREDENTIALS,
    "hubspot": hubspot.TOKEN,
    "netsuite": netsuite.CREDENTIALS,
}
HEADROOM = 150
"""Calls that a lowered limit leaves: more than are under way, fewer than are leased."""


class Accounts:
    """Three vendors' rooms of one sandbox."""

    def __init__(self, sandbox: Sandbox) -> None:
        self.url = sandbox.url
        self._http = httpx.Client(base_url=f"{sandbox.url}/_sandbox", timeout=30, trust_env=False)

    def calls(self, vendor: str) -> dict[str, Any]:
        return dict(self._http.get(f"/{vendor}/calls").json())

    def order(self, vendor: str, what: str, body: Any) -> None:
        assert self._http.post(f"/{vendor}/{what}", json=body).is_success

    def reset(self, vendor: str) -> None:
        assert self._http.delete(f"/{vendor}/calls").is_success

    def violations(self) -> dict[str, int]:
        return {vendor: self.calls(vendor)["limit_violations"] for vendor in CREDENTIALS}

    def close(self) -> None:
        self._http.close()


@pytest.fixture
def accounts(make_sandbox: MakeSandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Accounts]:
    running = make_sandbox(vendors=tuple(CREDENTIALS), rows=20)
    for names in CREDENTIALS.values():
        for variable in names.values():
            monkeypatch.setenv(variable, "sandbox")
    for variable, value in netsuite.environment(running.data_dir).items():
        monkeypatch.setenv(variable, value)
    made = Accounts(running)
    yield made
    made.close()


@contextmanager
def calling(db: Database, accounts: Accounts) -> Iterator[list[int]]:
    """The processes' ids, by lane; all are gone afterwards."""
    arguments = {
        "database": db.url,
        "url": accounts.url,
        "lanes": LANES,
        "credentials": CREDENTIALS,
        "options": {"hubspot": {"calls_10s": 2_000}, "netsuite": {"account_concurrency": 4}},
    }
    command = [sys.executable, "-m", "crm_assets_tests.quota.callers", json.dumps(arguments)]
    started = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, timeout=60)
    pids = [int(line) for line in started.stdout.split()]
    try:
        yield pids
    finally:
        for pid in pids:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def _holds(db: Database, pid: int) -> dict[str, int]:
    """What a process has leased now, by budget."""
    with db.transaction() as conn:
        return dict(
            conn.execute(
                "SELECT connection || '.' || name, sum(calls)::int FROM crm_assets.quota_block"
                " WHERE owner LIKE '%%:' || %s || ':%%' GROUP BY 1",
                (str(pid),),
            ).fetchall()
        )


def test_four_processes_never_pass_a_limit(db: Database, accounts: Accounts) -> None:
    accounts.order("hubspot", "limits", {"calls_10s": 2_000})
    accounts.order("netsuite", "limits", {"concurrency": 4})
    with calling(db, accounts) as pids:
        wait_until(lambda: all(accounts.calls(vendor)["total"] > 40 for vendor in CREDENTIALS), 30)

        # One dies while it holds slots and leased calls.
        accounts.order("netsuite", "faults", {"faults": [{"kind": "slow", "path": "suiteql", "times": 2}]})
        held = wait_until(
            lambda: (
                (found := _holds(db, pids[2])).keys() >= {"netsuite.concurrency", "salesforce.daily_calls"} and found
            )
        )
        os.kill(pids[2], signal.SIGKILL)
        assert _holds(db, pids[2])["netsuite.concurrency"] >= 1, held

        # A limit is lowered in flight, and bites at once.
        lowered = accounts.calls("hubspot")["total"] + HEADROOM
        accounts.order("hubspot", "limits", {"calls_10s": lowered})
        before = accounts.calls("netsuite")["total"]
        wait_until(lambda: _window(accounts) >= lowered - 20, 60)
        time.sleep(2)
        assert accounts.violations() == dict.fromkeys(CREDENTIALS, 0)
        assert accounts.calls("netsuite")["total"] > before + 20, "less the slots of the dead"
        assert accounts.calls("hubspot")["by_api"]["search"] >= 15, "five a second"

        # Another app takes all that is left of the day: only calls under way are refused.
        left = accounts.calls("salesforce")["total"] + 2 * HEADROOM
        accounts.order("salesforce", "limits", {"daily_calls": left})
        _burst(accounts)
        time.sleep(1)
        refused = accounts.calls("salesforce")["by_status"]["403"] - 1
        assert refused <= (len(LANES) - 1) * sum(vendor == "salesforce" for vendor, *_ in callers.WORK)


def _window(accounts: Accounts) -> int:
    """Calls that count in HubSpot's ten seconds; searches do not."""
    calls = accounts.calls("hubspot")
    return int(calls["total"] - calls["by_api"].get("search", 0))


def _burst(accounts: Accounts) -> None:
    """Calls of somebody else until the account refuses one."""
    headers = {"Authorization": "Bearer sandbox"}
    with httpx.Client(base_url=f"{accounts.url}/services/data/v67.0", headers=headers, trust_env=False) as other:
        while other.get("/limits").status_code != 403:
            pass


@pytest.mark.soak
def test_a_backfill_that_only_the_quota_holds_back_takes_as_long_as_the_quota_asks(
    db: Database, accounts: Accounts
) -> None:
    limit, windows = 40, 7
    accounts.order("hubspot", "limits", {"calls_10s": limit})
    config = ConnectionConfig(
        "hubspot", "hubspot", accounts.url, hubspot.TOKEN, {"calls_10s": limit}, longest_call=callers.LONGEST
    )
    gate = QuotaGate(db, "hubspot", "backfill", callers.LONGEST)
    connector = registry.make(config, gate)
    contacts = connector.describe("contacts")
    gate.declare(connector.budgets)
    # Describing has taken calls that we did not count; they leave the window first.
    time.sleep(10)
    accounts.reset("hubspot")
    began = time.monotonic()
    while gate.calls < windows * limit:
        for _ in connector.read(contacts, None):
            pass
    took = time.monotonic() - began
    made = accounts.calls("hubspot")["total"]
    theory = 10.0 * ((made - 1) // limit)
    print(f"{made} calls, {limit} in 10 s: {took:.2f} s, {took / theory:.3f} of what the limit allows")
    assert accounts.violations()["hubspot"] == 0
    assert took <= 1.05 * theory
    connector.close()
    gate.close()
