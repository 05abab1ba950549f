"""The product's reads: however many there are, the CRM is not asked. A running relay stands between the two."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any
from urllib.request import urlopen

import psycopg

from crm_assets_tests.bench.measure import Setting
from crm_assets_tests.bench.relay import relay

_QUIET_S = 2.0
"""So long without a call the relay has begun all that it begins with."""
_PATIENCE_S = 60.0


def _reads(setting: Setting) -> dict[str, Any]:
    """A tenth of the reads, then the rest, each in the same time; the calls of both spans are told."""
    with relay(setting), psycopg.connect(setting.writer, autocommit=True) as product:
        ids = [row[0] for row in product.execute("SELECT id FROM salesforce.contact LIMIT 1000")]
        _settled(setting)
        once = setting.rows // 11
        few, span = _read(setting, product, ids, once, 0.0)
        many, took = _read(setting, product, ids, 10 * once, span)
    assert many <= few, f"{many} calls beside ten times the reads that came with {few}"
    return {"rows": 10 * once, "seconds": took, "more": {"calls": {"once": few, "tenfold": many}}}


def _read(
    setting: Setting, product: psycopg.Connection[Any], ids: list[str], count: int, span: float
) -> tuple[int, float]:
    """Calls that came meanwhile, and the seconds that the reads took; ``span`` is the least to wait for calls."""
    before, started = _calls(setting), time.perf_counter()
    for number in range(count):
        found = product.execute("SELECT * FROM salesforce.contact WHERE id = %s", (ids[number % len(ids)],)).fetchone()
        assert found is not None
    took = time.perf_counter() - started
    time.sleep(max(0.0, span - took))
    return _calls(setting) - before, took


def _calls(setting: Setting) -> int:
    with urlopen(f"{setting.server}/calls") as reply:
        return sum(json.load(reply).values())


def _settled(setting: Setting) -> None:
    end, quiet, seen = time.monotonic() + _PATIENCE_S, time.monotonic(), _calls(setting)
    while time.monotonic() - quiet < _QUIET_S:
        assert time.monotonic() < end, "the relay calls without end"
        time.sleep(0.1)
        if (now := _calls(setting)) != seen:
            quiet, seen = time.monotonic(), now


WORKS: dict[str, Callable[[Setting], dict[str, Any]]] = {"product_reads/crm_assets": _reads}
