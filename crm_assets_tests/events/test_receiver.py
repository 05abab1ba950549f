"""The webhook receiver over real HTTP and a real database."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import psycopg
import pytest

from crm_assets.core.errors import ConfigurationError
from crm_assets.events.receiver import MAX_BODY, app
from crm_assets.store.database import Database
from crm_assets_tests.events.desk import OLDEST_SIGNATURE, Desk, delivery
from crm_assets_tests.events.serving import serving

EVENT = {"event_id": "e1", "object": "Contact", "record_id": "003A"}


@pytest.fixture
def http(db: Database, desk: Desk) -> Iterator[httpx.Client]:
    with (
        serving(app(db, {"desk": desk, "unset": None})) as url,
        httpx.Client(base_url=url, trust_env=False, timeout=30) as client,
    ):
        yield client


def rows(db: Database) -> list[tuple[Any, ...]]:
    with db.transaction() as conn:
        return conn.execute(
            "SELECT event_id, object, record_id, state FROM crm_assets.inbox ORDER BY event_id"
        ).fetchall()


def test_a_delivery_is_stored_and_then_acknowledged(http: httpx.Client, db: Database) -> None:
    reply = http.post("/webhooks/desk", **delivery([EVENT, EVENT | {"event_id": "e2", "record_id": "003B"}]))
    assert (reply.status_code, reply.json()) == (202, {"received": 2, "new": 2})
    assert rows(db) == [("e1", "contact", "003A", "pending"), ("e2", "contact", "003B", "pending")]


def test_a_repeated_delivery_is_acknowledged_and_kept_once(http: httpx.Client, db: Database) -> None:
    for new in (1, 0, 0):
        reply = http.post("/webhooks/desk", **delivery([EVENT]))
        assert (reply.status_code, reply.json()["new"]) == (202, new)
    assert len(rows(db)) == 1


def test_an_event_repeated_within_one_delivery_is_kept_once(http: httpx.Client, db: Database) -> None:
    assert http.post("/webhooks/desk", **delivery([EVENT, EVENT])).status_code == 202
    assert len(rows(db)) == 1


def test_the_same_deliveries_at_once_in_any_order_are_all_acknowledged(http: httpx.Client, db: Database) -> None:
    events = [EVENT | {"event_id": f"e{n}"} for n in range(200)]
    codes: list[int] = []

    def send(batch: list[dict[str, str]]) -> None:
        codes.append(http.post("/webhooks/desk", **delivery(batch)).status_code)

    threads = [threading.Thread(target=send, args=(events[:: 1 if n % 2 else -1],)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [202] * 8
    assert len(rows(db)) == 200


def test_the_checks_come_in_their_order(http: httpx.Client, db: Database) -> None:
    """Each delivery has every fault from its own on; the first one decides."""
    big = b"x" * (MAX_BODY + 1)
    forged = {"X-Timestamp": str(int(time.time())), "X-Signature": "0"}
    assert http.post("/webhooks/nobody", content=big, headers=forged).status_code == 404
    assert http.post("/webhooks/desk", content=big, headers=forged).status_code == 413
    assert http.post("/webhooks/desk", content=b"not json", headers=forged).status_code == 401
    assert http.post("/webhooks/desk", **signed(b"not json")).status_code == 400
    assert rows(db) == []


def signed(body: bytes) -> dict[str, Any]:
    import hashlib
    import hmac

    stamp = str(int(time.time()))
    signature = hmac.new(b"sandbox", stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"content": body, "headers": {"X-Timestamp": stamp, "X-Signature": signature}}


def test_a_body_of_exactly_the_limit_is_not_too_large(http: httpx.Client) -> None:
    body = json.dumps({"events": [EVENT]}).encode().ljust(MAX_BODY)
    assert http.post("/webhooks/desk", **signed(body)).status_code == 202


@pytest.mark.parametrize("size", [MAX_BODY + 1, 8 * MAX_BODY])
def test_too_large_without_a_length(http: httpx.Client, db: Database, size: int) -> None:
    """Chunked, so that nothing announces the size; the answer still arrives."""

    def chunks() -> Iterator[bytes]:
        for start in range(0, size, 65536):
            yield b"x" * min(65536, size - start)

    reply = http.post("/webhooks/desk", content=chunks(), headers={"X-Signature": "0"})
    assert "content-length" not in reply.request.headers
    assert reply.status_code == 413
    assert rows(db) == []


def test_a_length_beyond_all_bounds_is_refused_unread(http: httpx.Client) -> None:
    import socket

    host, port = http.base_url.host, http.base_url.port
    assert port is not None
    with socket.create_connection((host, port), timeout=10) as raw:
        raw.sendall(b"POST /webhooks/desk HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\nabc")
        assert raw.recv(100).startswith(b"HTTP/1.1 413")


def test_a_signature_of_another_body_or_secret_or_time_is_refused(http: httpx.Client, db: Database) -> None:
    tampered = delivery([EVENT])
    tampered["content"] = tampered["content"].replace(b"003A", b"003Z")
    old = delivery([EVENT], at=time.time() - OLDEST_SIGNATURE - 10)
    future = delivery([EVENT], at=time.time() + OLDEST_SIGNATURE + 10)
    for bad in (tampered, old, future, delivery([EVENT], secret="guess"), {"content": delivery([EVENT])["content"]}):
        assert http.post("/webhooks/desk", **bad).status_code == 401
    assert rows(db) == []


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"events": 1}', b'{"events": [1]}', b'{"events": [{}]}', b"\xff\xfe", b"null"],
    ids=repr,
)
def test_no_body_makes_a_5xx(http: httpx.Client, body: bytes) -> None:
    assert http.post("/webhooks/desk", **signed(body)).status_code == 400


@pytest.mark.parametrize("record_id", ["a\x00b", "\ud800"], ids=["NUL", "lone surrogate"])
def test_text_that_postgres_cannot_hold_is_malformed(http: httpx.Client, db: Database, record_id: str) -> None:
    assert http.post("/webhooks/desk", **delivery([EVENT | {"record_id": record_id}])).status_code == 400
    assert rows(db) == []


def test_without_a_secret_nothing_is_accepted(db: Database, desk: Desk) -> None:
    def no_secret(_headers: object, _body: bytes, _url: str) -> list[Any]:
        raise ConfigurationError("credentials.webhook_secret is not set")

    desk.parse_event = no_secret  # type: ignore[method-assign]
    with serving(app(db, {"desk": desk})) as url:
        assert httpx.post(f"{url}/webhooks/desk", **delivery([EVENT]), trust_env=False).status_code == 401


def test_a_connection_that_is_not_set_up_asks_for_the_delivery_again(http: httpx.Client) -> None:
    reply = http.post("/webhooks/unset", **delivery([EVENT]))
    assert (reply.status_code, reply.headers["retry-after"]) == (503, "5")


def test_without_a_database_nothing_is_acknowledged(desk: Desk, tmp_path: Any) -> None:
    nowhere = Database(f"postgresql:///nothing?host={tmp_path}")
    nowhere.pool.timeout = 0.2
    try:
        with serving(app(nowhere, {"desk": desk})) as url, httpx.Client(base_url=url, trust_env=False) as client:
            assert client.post("/webhooks/desk", **delivery([EVENT])).status_code == 503
            assert client.post("/webhooks/desk", content=b"x").status_code == 401
            assert client.get("/health").status_code == 503
    finally:
        nowhere.close()


def test_a_slow_database_does_not_hold_up_other_requests(http: httpx.Client, db: Database) -> None:
    """The commit of one delivery waits in a thread; the event loop goes on answering."""
    with psycopg.connect(db.url) as blocker:
        blocker.execute("LOCK TABLE crm_assets.inbox IN EXCLUSIVE MODE")
        slow = threading.Thread(target=lambda: http.post("/webhooks/desk", **delivery([EVENT])))
        slow.start()
        assert http.post("/webhooks/nobody", content=b"").status_code == 404
        assert http.get("/health").status_code == 200
        assert slow.is_alive()
        blocker.rollback()
        slow.join(10)
    assert len(rows(db)) == 1


_PROCESS = """
import sys, uvicorn
from crm_assets.events.receiver import app
from crm_assets.store.database import Database
from crm_assets_tests.events.desk import Desk
import socket
listening = socket.socket()
listening.bind(("127.0.0.1", 0))
print(listening.getsockname()[1], flush=True)
config = uvicorn.Config(app(Database(sys.argv[1]), {"desk": Desk()}), log_level="error", lifespan="off")
uvicorn.Server(config).run([listening])
"""


def test_what_was_acknowledged_survives_a_kill_right_after(db: Database) -> None:
    process = subprocess.Popen([sys.executable, "-c", _PROCESS, db.url], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        acknowledged = []
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False) as client:
            for n in range(20):
                event = EVENT | {"event_id": f"e{n:02}"}
                assert post_until_up(client, event) == 202
                acknowledged.append(f"e{n:02}")
            process.kill()
    finally:
        process.kill()
        process.wait(10)
        assert process.stdout is not None
        process.stdout.close()
    assert [row[0] for row in rows(db)] == acknowledged


def post_until_up(client: httpx.Client, event: dict[str, str]) -> int:
    deadline = time.monotonic() + 10
    while True:
        try:
            return client.post("/webhooks/desk", **delivery([event])).status_code
        except httpx.ConnectError:
            assert time.monotonic() < deadline
            time.sleep(0.02)


def test_health_tells_what_waits(http: httpx.Client, db: Database) -> None:
    assert http.get("/health").json()["connections"]["desk"] == {
        "inbox_pending": 0,
        "outbox_pending": 0,
        "oldest_unsynced_seconds": None,
        "streams": {},
    }
    http.post("/webhooks/desk", **delivery([EVENT]))
    reply = http.get("/health")
    assert (reply.status_code, reply.json()["ok"]) == (200, True)
    told = reply.json()["connections"]["desk"]
    assert told["inbox_pending"] == 1 and told["oldest_unsynced_seconds"] < 60
    with db.transaction() as conn:
        conn.execute("UPDATE crm_assets.inbox SET received_at = received_at - interval '1 hour'")
    reply = http.get("/health")
    assert (reply.status_code, reply.json()["ok"]) == (503, False)
    assert reply.json()["connections"]["desk"]["oldest_unsynced_seconds"] > 3500
