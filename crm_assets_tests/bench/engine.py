"""The engine as a process of the product would use it, pointed at the server of prepared bytes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from crm_assets import runtime
from crm_assets.connections import ConnectionSpec, ObjectSpec
from crm_assets.connectors.base import Connector
from crm_assets.core.model import Object, Policy, Rules
from crm_assets.mirror.describing import describe
from crm_assets.store.database import Database
from crm_assets_tests.bench.measure import Setting

_PLENTY = 10**9
"""Calls: the quota is kept, but not what is measured."""
_OBJECTS = {"salesforce": "Contact", "hubspot": "contacts"}


@contextmanager
def opened(
    setting: Setting, vendor: str = "salesforce", policy: Policy = Policy.HOLD, **options: Any
) -> Iterator[tuple[Database, Connector, Object]]:
    """The database, the connector and contacts, described and with their tables: capture included."""
    os.environ["BENCH_SECRET"] = "bench"
    spec = ConnectionSpec(
        connection=vendor,
        connector=vendor,
        url=setting.server,
        credentials=dict.fromkeys(("client_id", "client_secret", "token"), "BENCH_SECRET"),
        options={"daily_calls": _PLENTY, "calls_10s": _PLENTY, **options},
        objects={_OBJECTS[vendor]: ObjectSpec(write=True)},
    )
    db = Database(setting.database, max_size=20)
    connector = runtime.open_connector(db, spec, "backfill")
    try:
        found = describe(db, connector, spec.objects)
        (obj,) = found.objects.values()
        yield db, connector, replace(obj, rules=Rules(policy))
    finally:
        runtime.close_connector(connector)
        db.close()


def home(setting: Setting) -> Path:
    return Path(setting.home)
