"""Push: tells subscribers of every committed change, signed, in small batches, without delaying anybody."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import httpx

from .faults import EVENT_KINDS, Faults

log = logging.getLogger(__name__)

Event = dict[str, str]
_LINGER = 0.02
_BATCH = 100
_GIVE_UP = 60.0
_HOLD = 1.0
_MOST_WAITING = 200_000


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    secret: str


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature of a delivery: over its time and its exact bytes."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class Push:
    """The subscriptions of one connection; lives in the server's event loop."""

    def __init__(self, connection: str, faults: Faults) -> None:
        self._connection = connection
        self._faults = faults
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: dict[str, _Lane] = {}
        self._held: list[Event] = []
        self._client: httpx.AsyncClient | None = None

    async def start(self, targets: Sequence[Target]) -> None:
        self._loop = asyncio.get_running_loop()
        # A proxy from the environment has no business between two processes of one machine.
        self._client = httpx.AsyncClient(timeout=10, trust_env=False)
        for target in targets:
            self.subscribe(target)

    async def stop(self) -> None:
        for url in list(self._lanes):
            self.unsubscribe(url)
        if self._client:
            await self._client.aclose()

    @property
    def targets(self) -> list[Target]:
        return [lane.target for lane in self._lanes.values()]

    def subscribe(self, target: Target) -> None:
        """Adds a receiver, or gives a known one a new secret."""
        assert self._client is not None
        self.unsubscribe(target.url)
        self._lanes[target.url] = _Lane(self._connection, target, self._client)

    def unsubscribe(self, url: str) -> bool:
        lane = self._lanes.pop(url, None)
        if lane:
            lane.task.cancel()
        return lane is not None

    def publish(self, events: Sequence[Event]) -> None:
        """Called by the writer, in commit order, from any thread."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, list(events))

    def _take(self, events: list[Event]) -> None:
        for event in events:
            fault = self._faults.strike(EVENT_KINDS, "", event["object"])
            if fault == "lose_event":
                continue
            if fault == "reorder_events":
                self._held.append(event)
                assert self._loop is not None
                self._loop.call_later(_HOLD, self._release)
                continue
            self._send(event)
            if fault == "duplicate_event":
                self._send(event)
            self._release()

    def _release(self) -> None:
        """What was held back follows what came after it."""
        held, self._held = self._held, []
        for event in held:
            self._send(event)

    def _send(self, event: Event) -> None:
        for lane in self._lanes.values():
            lane.add(event)


class _Lane:
    """The deliveries to one receiver, in order."""

    def __init__(self, connection: str, target: Target, client: httpx.AsyncClient) -> None:
        self.target = target
        self._connection = connection
        self._client = client
        self._waiting: deque[Event] = deque(maxlen=_MOST_WAITING)
        self._wake = asyncio.Event()
        self.task = asyncio.create_task(self._run(), name=f"push {target.url}")

    def add(self, event: Event) -> None:
        self._waiting.append(event)
        self._wake.set()

    async def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                await self._wake.wait()
                await asyncio.sleep(_LINGER)
                self._wake.clear()
                while self._waiting:
                    count = min(_BATCH, len(self._waiting))
                    await self._deliver([self._waiting.popleft() for _ in range(count)])

    async def _deliver(self, events: list[Event]) -> None:
        body = json.dumps({"connection": self._connection, "events": events}).encode()
        pause, until = 0.1, time.monotonic() + _GIVE_UP
        while True:
            reason = await self._try(body)
            if reason is None:
                return
            if reason == "" or time.monotonic() + pause > until:
                log.warning("push to %s: %d events dropped", self.target.url, len(events))
                return
            await asyncio.sleep(pause)
            pause = min(pause * 2, 10.0)

    async def _try(self, body: bytes) -> str | None:
        """None: taken. A reason: try again. Empty: the receiver does not want it."""
        # Signed anew for each attempt: receivers refuse old timestamps.
        timestamp = str(int(time.time()))
        headers = {
            "Content-Type": "application/json",
            "X-Crm-Timestamp": timestamp,
            "X-Crm-Signature": sign(self.target.secret, timestamp, body),
        }
        try:
            reply = await self._client.post(self.target.url, content=body, headers=headers)
        except httpx.HTTPError as failed:
            return repr(failed)
        if reply.is_success:
            return None
        return f"status {reply.status_code}" if reply.status_code >= 500 or reply.status_code == 429 else ""
