"""Push: tells subscribers of every committed change, in small batches, without delaying anybody."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Protocol

import httpx

from .faults import EVENT_KINDS, Faults

log = logging.getLogger(__name__)

_LINGER = 0.02
_HOLD = 1.0
_MOST_WAITING = 200_000


@dataclass(frozen=True, slots=True)
class Target:
    url: str
    secret: str


@dataclass(frozen=True, slots=True)
class Event:
    """One event: what an ordered fault may know it by (the object's name), and its body in the vendor's form."""

    subject: str
    body: Any


class Form(Protocol):
    """How a vendor words, signs and repeats a delivery."""

    @property
    def ordered(self) -> bool:
        """Whether a delivery that fails holds back those behind it."""

    @property
    def batch(self) -> int:
        """How many events one delivery may hold."""

    @property
    def answer_seconds(self) -> float:
        """How long a receiver may take to answer."""

    def pauses(self) -> Iterator[float]:
        """The seconds before each further try; a delivery is given up when they end."""

    def request(self, target: Target, events: Sequence[Any], attempt: int) -> tuple[bytes, dict[str, str]]:
        """The body and the headers of one attempt; attempts count from 0."""

    def taken(self, answer: bytes) -> bool:
        """Whether the body of a good answer says that the delivery was taken."""

    def again(self, status: int) -> bool:
        """Whether a delivery that was answered so is tried again."""


class Push:
    """The subscriptions of one room; lives in the server's event loop."""

    def __init__(self, faults: Faults, form: Form) -> None:
        self._faults = faults
        self._form = form
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lanes: dict[str, _Lane] = {}
        self._held: list[Event] = []
        self._client: httpx.AsyncClient | None = None

    async def start(self, targets: Sequence[Target]) -> None:
        self._loop = asyncio.get_running_loop()
        # A proxy from the environment has no business between two processes of one machine.
        self._client = httpx.AsyncClient(trust_env=False)
        for target in targets:
            self.subscribe(target)

    async def stop(self) -> None:
        for url in list(self._lanes):
            self.unsubscribe(url)
        if self._client:
            await self._client.aclose()

    @property
    def listening(self) -> bool:
        """Whether there is anybody to tell."""
        return bool(self._lanes)

    @property
    def targets(self) -> list[Target]:
        return [lane.target for lane in self._lanes.values()]

    def soon(self, work: Callable[[], object]) -> None:
        """Has something done in the event loop, where the subscriptions live; from any thread."""
        assert self._loop is not None
        self._loop.call_soon_threadsafe(work)

    def subscribe(self, target: Target) -> None:
        """Adds a receiver, or gives a known one a new secret."""
        assert self._client is not None
        self.unsubscribe(target.url)
        self._lanes[target.url] = _Lane(self._form, target, self._client)

    def unsubscribe(self, url: str) -> bool:
        lane = self._lanes.pop(url, None)
        if lane:
            lane.close()
        return lane is not None

    def publish(self, events: Sequence[Event], fates: Sequence[str | None] | None = None) -> None:
        """Called by the writer, in commit order, from any thread.

        ``fates`` are the faults that strike the events, given where they are told in more than one way.
        """
        known = fates or [self._faults.strike(EVENT_KINDS, "", event.subject) for event in events]
        if self.listening and self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._take, list(zip(events, known, strict=True)))

    def _take(self, events: list[tuple[Event, str | None]]) -> None:
        for event, fault in events:
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
            lane.add(event.body)


class _Lane:
    """The deliveries to one receiver."""

    def __init__(self, form: Form, target: Target, client: httpx.AsyncClient) -> None:
        self.target = target
        self._form = form
        self._client = client
        self._waiting: deque[Any] = deque(maxlen=_MOST_WAITING)
        self._wake = asyncio.Event()
        self._aside: set[asyncio.Task[None]] = set()
        self._task = asyncio.create_task(self._run(), name=f"push {target.url}")

    def add(self, body: Any) -> None:
        self._waiting.append(body)
        self._wake.set()

    def close(self) -> None:
        for task in (self._task, *self._aside):
            task.cancel()

    async def _run(self) -> None:
        with suppress(asyncio.CancelledError):
            while True:
                await self._wake.wait()
                await asyncio.sleep(_LINGER)
                self._wake.clear()
                while self._waiting:
                    count = min(self._form.batch, len(self._waiting))
                    await self._deliver([self._waiting.popleft() for _ in range(count)])

    async def _deliver(self, events: list[Any]) -> None:
        again = await self._try(events, 0)
        if not again:
            return
        repeating = self._repeat(events)
        if self._form.ordered:
            await repeating
            return
        task = asyncio.create_task(repeating, name=f"push again {self.target.url}")
        self._aside.add(task)
        task.add_done_callback(self._aside.discard)

    async def _repeat(self, events: list[Any]) -> None:
        for attempt, pause in enumerate(self._form.pauses(), 1):
            await asyncio.sleep(pause)
            if not await self._try(events, attempt):
                return
        self._dropped(events)

    async def _try(self, events: list[Any], attempt: int) -> bool:
        """Whether the delivery has to be tried again."""
        body, headers = self._form.request(self.target, events, attempt)
        headers = {"Content-Type": "application/json"} | headers
        try:
            reply = await self._client.post(
                self.target.url, content=body, headers=headers, timeout=self._form.answer_seconds
            )
        except httpx.HTTPError:
            return True
        if reply.is_success:
            return not self._form.taken(reply.content)
        if self._form.again(reply.status_code):
            return True
        self._dropped(events)
        return False

    def _dropped(self, events: list[Any]) -> None:
        log.warning("push to %s: %d events dropped", self.target.url, len(events))
