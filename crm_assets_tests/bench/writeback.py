"""The product's changes on their way to the CRM, in collections of 200; the server answers each call after 50 ms."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from math import ceil
from threading import local
from urllib.parse import urlsplit
from urllib.request import urlopen

import psycopg

from crm_assets.core.model import Policy
from crm_assets_tests.bench import engine
from crm_assets_tests.bench.measure import Setting
from crm_assets_tests.bench.server import ROOT

IN_FLIGHT = 8
SIZE = 200


def _changed(setting: Setting) -> list[tuple[str, str]]:
    """The product changes one field of each of the first rows; (id, value) of each."""
    with psycopg.connect(setting.writer, autocommit=True) as conn:
        return conn.execute(
            """WITH chosen AS (SELECT row_id FROM salesforce.contact ORDER BY id LIMIT %s)
               UPDATE salesforce.contact c SET title = 'changed ' || c.id FROM chosen
                WHERE c.row_id = chosen.row_id RETURNING c.id, c.title""",
            (setting.rows,),
        ).fetchall()


def _drained(policy: Policy) -> Callable[[Setting], float]:
    def drain_all(setting: Setting) -> float:
        from crm_assets.writeback.drain import drain

        with engine.opened(setting, policy=policy) as (db, connector, obj):
            _changed(setting)
            before = _calls(setting)
            started = time.perf_counter()
            report = drain(db, connector, {obj.table: obj})
            seconds = time.perf_counter() - started
        calls = {name: count - before.get(name, 0) for name, count in _calls(setting).items()}
        assert report.total("confirmed") == setting.rows, report
        assert calls["write"] == ceil(setting.rows / SIZE), calls
        assert calls.get("query", 0) <= (0 if policy is Policy.PRODUCT_WINS else ceil(setting.rows / 500)), calls
        return seconds

    return drain_all


def _calls(setting: Setting) -> dict[str, int]:
    with urlopen(f"{setting.server}/calls") as reply:
        return dict(json.load(reply))


def _sent(setting: Setting) -> float:
    """The calls alone, eight at once."""
    changed = _changed(setting)
    bodies = []
    for start in range(0, len(changed), SIZE):
        found = [
            {"attributes": {"type": "Contact"}, "Id": one, "Title": title}
            for one, title in changed[start : start + SIZE]
        ]
        bodies.append(json.dumps({"allOrNone": False, "records": found}).encode())
    own = local()

    def send(body: bytes) -> None:
        if not hasattr(own, "http"):
            own.http = HTTPConnection(urlsplit(setting.server).netloc)
        own.http.request("PATCH", f"{ROOT}/composite/sobjects", body, {"Content-Type": "application/json"})
        assert len(json.loads(own.http.getresponse().read())) > 0

    started = time.perf_counter()
    with ThreadPoolExecutor(IN_FLIGHT) as pool:
        list(pool.map(send, bodies))
    return time.perf_counter() - started


WORKS: dict[str, Callable[[Setting], float]] = {
    "writeback/crm_assets": _drained(Policy.PRODUCT_WINS),
    "writeback/limit": _sent,
    "writeback_compared/crm_assets": _drained(Policy.HOLD),
    "writeback_compared/limit": _sent,
}
