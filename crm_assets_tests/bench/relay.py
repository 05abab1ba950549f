"""Latency through a running relay: a committed change → the CRM's call, and an event → the changed row.

One change after another, so that each one's way is seen; the server of prepared bytes answers at once.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from statistics import median
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import psycopg

from crm_assets_tests.bench import ends, engine
from crm_assets_tests.bench.measure import Setting

_SECRETS = ("client_id", "client_secret", "webhook_secret")
_PATIENCE_S = 30.0


@contextmanager
def relay(setting: Setting) -> Iterator[str]:
    """The address of a relay on the prepared database."""
    with engine.opened(setting):
        pass
    defs = ends.defs(setting.server, _SECRETS, {"write": True}, conflict="product_wins")
    with ends.relay(engine.home(setting), setting.database, defs, "bench") as running:
        yield running.url


def _until(condition: Callable[[], Any]) -> float:
    """The moment at which it became true, to the millisecond."""
    end = time.perf_counter() + _PATIENCE_S
    while not condition():
        assert time.perf_counter() < end, "the relay did not do it"
        time.sleep(0.001)
    return time.perf_counter()


def _out(setting: Setting) -> float:
    """From the product's commit to the arrival of the call that carries the change."""

    def writes() -> int:
        with urlopen(f"{setting.server}/calls") as reply:
            return int(json.load(reply).get("write", 0))

    with relay(setting), psycopg.connect(setting.writer, autocommit=True) as product:
        ids = product.execute("SELECT row_id FROM salesforce.contact LIMIT %s", (setting.rows + 1,)).fetchall()
        taken: list[float] = []
        for number, (row_id,) in enumerate(ids):
            before = writes()
            product.execute("UPDATE salesforce.contact SET title = %s WHERE row_id = %s", (f"t{number}", row_id))
            committed = time.perf_counter()
            taken.append(_until(lambda before=before: writes() > before) - committed)
    return median(taken[1:])


def _in(setting: Setting) -> float:
    """From the event to the row that a reader of the mirror sees changed."""
    with relay(setting) as url, psycopg.connect(setting.writer, autocommit=True) as product:
        ids = product.execute("SELECT id FROM salesforce.contact LIMIT %s", (setting.rows + 1,)).fetchall()
        with urlopen(f"{setting.server}/renew") as reply:
            reply.read()
        http = HTTPConnection(urlsplit(url).netloc)
        taken: list[float] = []
        for number, (one,) in enumerate(ids):
            version = product.execute("SELECT _version FROM salesforce.contact WHERE id = %s", (one,)).fetchone()
            started = time.perf_counter()
            _deliver(http, number, one)
            query = "SELECT _version FROM salesforce.contact WHERE id = %s"
            changed = _until(lambda one=one, was=version, query=query: product.execute(query, (one,)).fetchone() != was)
            taken.append(changed - started)
    return median(taken[1:])


def _deliver(http: HTTPConnection, number: int, record_id: str) -> None:
    event = {"id": f"bench-{number}", "object": "Contact", "record_id": record_id, "change": "updated"}
    body = json.dumps({"connection": "salesforce", "events": [event]}).encode()
    stamp = str(int(time.time()))
    signature = hmac.new(b"bench", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    http.request(
        "POST",
        "/webhooks/salesforce",
        body,
        {"X-Crm-Timestamp": stamp, "X-Crm-Signature": f"sha256={signature}", "Content-Type": "application/json"},
    )
    reply = http.getresponse()
    reply.read()
    assert reply.status < 300, reply.status


WORKS: dict[str, Callable[[Setting], float]] = {"relay_out/crm_assets": _out, "relay_in/crm_assets": _in}
