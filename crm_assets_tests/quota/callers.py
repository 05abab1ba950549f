"""Processes that call three CRMs at once, each as fast as its budgets let it, until they are killed.

``python -m crm_assets_tests.quota.callers <arguments as JSON>``: loads the program once, forks one process per lane
and prints their pids.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from crm_assets.connectors import registry
from crm_assets.connectors.base import ConnectionConfig, Connector
from crm_assets.core.errors import QuotaExhausted, RetriableError
from crm_assets.core.model import Object
from crm_assets.quota.gate import QuotaGate
from crm_assets.store.database import Database

LONGEST = timedelta(seconds=2)
BREATH = 0.004
"""Between two calls, so that other tests on this machine get their turn."""

Call = Callable[[Connector, Object], object]


def _count(connector: Connector, obj: Object) -> object:
    return connector.count(obj)


def _fetch(connector: Connector, obj: Object) -> object:
    return connector.fetch(obj, ["1"])


WORK: tuple[tuple[str, str, Call], ...] = (
    ("salesforce", "Contact", _count),
    ("hubspot", "contacts", _fetch),
    ("hubspot", "contacts", _count),
    ("netsuite", "customer", _count),
    ("netsuite", "customer", _count),
)
"""A thread each: vendor, object and what is called over and over."""


def main(arguments: str) -> None:
    given = json.loads(arguments)
    for lane in given["lanes"]:
        pid = os.fork()
        if pid == 0:
            _call(lane, given)
        print(pid, flush=True)


def _call(lane: str, given: dict[str, Any]) -> None:
    signal.alarm(150)  # nothing outlives its test for long
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    db = Database(given["database"])
    connectors = {vendor: _connector(db, vendor, lane, given) for vendor in given["credentials"]}
    for vendor, name, call in WORK:
        threading.Thread(target=_forever, args=(connectors[vendor], name, call), daemon=True).start()
    signal.pause()


def _connector(db: Database, vendor: str, lane: str, given: dict[str, Any]) -> Connector:
    config = ConnectionConfig(
        vendor,
        vendor,
        given["url"],
        given["credentials"][vendor],
        given["options"].get(vendor, {}),
        longest_call=LONGEST,
    )
    gate = QuotaGate(db, vendor, lane, LONGEST)
    connector = registry.make(config, gate)
    gate.declare(connector.budgets)
    return connector


def _forever(connector: Connector, name: str, call: Call) -> None:
    obj: Object | None = None
    while True:
        try:
            obj = obj or connector.describe(name)
            call(connector, obj)
            time.sleep(BREATH)
        except (QuotaExhausted, RetriableError):
            time.sleep(0.05)


if __name__ == "__main__":
    main(sys.argv[1])
