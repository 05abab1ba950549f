"""A room over HTTP: reads requests, lets ordered faults happen, sends replies."""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from urllib.parse import parse_qsl

from starlette.concurrency import iterate_in_threadpool, run_in_threadpool
from starlette.requests import ClientDisconnect
from starlette.requests import Request as HttpRequest
from starlette.types import Receive, Scope, Send

from .faults import CALL_KINDS
from .http import Reply, Request, Slice
from .room import Room

log = logging.getLogger(__name__)

_HOLD_SECONDS = 120.0
_SLOW_SECONDS = 2.0
_CHUNK = 256 * 1024
_FAILURES = frozenset({"429", "500", "503", "expired_token"})


class Gateway:
    """The ASGI application of one room; the same at ``/`` and under the connection's name."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self.stopping = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        http = HttpRequest(scope, receive)
        try:
            request = _request(http, await http.body(), self._room.name)
        except ClientDisconnect:
            return
        except zlib.error:
            body = b"The body is not gzip"
            await send({"type": "http.response.start", "status": 400, "headers": []})
            await send({"type": "http.response.body", "body": body})
            return
        self._room.calls.arrived(self._room.api(request))
        with self._room.calls.running(), self._room.slot(request) as refusal:
            if refusal is not None:
                await self._send(request, refusal, send, truncate=False)
                status: int | None = refusal.status
            else:
                status = await self._serve(request, receive, send)
        self._room.calls.answered(status)

    async def _serve(self, request: Request, receive: Receive, send: Send) -> int | None:
        kinds = CALL_KINDS if self._room.needs_session(request) else CALL_KINDS - {"expired_token"}
        fault = self._room.faults.strike(kinds, request.method, *request.paths)
        if fault == "timeout_before":
            return await self._hold(receive, send)
        if fault == "slow":
            await asyncio.sleep(_SLOW_SECONDS)
        if fault in _FAILURES:
            reply = self._room.failure(fault, request)
        else:
            try:
                reply = await run_in_threadpool(self._room.answer, request)
            except Exception:  # the server's own mistake: answered as one, and shown to whoever runs it
                log.exception("%s %s", request.method, request.path)
                reply = self._room.failure("500", request)
        if fault == "timeout_after":
            return await self._hold(receive, send)
        await self._send(request, reply, send, truncate=fault == "truncate")
        return reply.status

    async def _hold(self, receive: Receive, send: Send) -> int | None:
        """No reply until the client gives up, the server stops, or it becomes too long."""
        gone = asyncio.create_task(_disconnected(receive))
        stop = asyncio.create_task(self.stopping.wait())
        await asyncio.wait({gone, stop}, timeout=_HOLD_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        left = gone.done()
        for task in (gone, stop):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        if left:
            return None
        await send({"type": "http.response.start", "status": 504, "headers": [(b"connection", b"close")]})
        await send({"type": "http.response.body", "body": b""})
        return 504

    async def _send(self, request: Request, reply: Reply, send: Send, truncate: bool) -> None:
        headers = {**self._room.headers(request, reply), **reply.headers}
        page = reply.body if isinstance(reply.body, Slice) else None
        zipped = page is not None and "gzip" in request.headers.get("accept-encoding", "")
        if page is None or truncate:
            # Half of a body can only be sent by one who knows the whole of it.
            body = b"".join(_pieces(page, zipped)) if page else reply.payload()
            if body or reply.status not in (204, 304):
                headers["Content-Length"] = str(len(body))
            if body:
                headers.setdefault("Content-Type", "application/json;charset=UTF-8")
        elif not zipped:
            headers["Content-Length"] = str(len(page.head) + page.end - page.start)
        if zipped:
            headers["Content-Encoding"] = "gzip"
        raw = [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": raw})
        if truncate:
            # Returning with the body incomplete makes the server close the connection.
            await send({"type": "http.response.body", "body": body[: len(body) // 2], "more_body": True})
            return
        if page is None:
            await send({"type": "http.response.body", "body": body})
            return
        stream: AsyncIterator[bytes] = iterate_in_threadpool(_pieces(page, zipped))
        async for piece in stream:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})


def _request(http: HttpRequest, body: bytes, name: str) -> Request:
    path = http.url.path
    prefix = f"/{name}" if path == f"/{name}" or path.startswith(f"/{name}/") else ""
    own = path.removeprefix(prefix) or "/"
    text = http.url.query
    if http.headers.get("content-encoding") == "gzip":
        body = zlib.decompress(body, wbits=31)
    host = http.headers.get("host", "127.0.0.1")
    pairs = parse_qsl(text, keep_blank_values=True)
    return Request(
        http.method,
        own,
        dict(pairs),
        dict(http.headers),
        body,
        f"http://{host}{prefix}",
        (path, own, f"{path}?{text}"),
        tuple(pairs),
        http.scope["raw_path"].decode("latin-1"),
    )


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _pieces(page: Slice, zipped: bool) -> Iterator[bytes]:
    """The page in chunks; compressed quickly rather than well, since it only crosses this machine."""
    packer = zlib.compressobj(1, wbits=31) if zipped else None
    for chunk in _chunks(page):
        piece = packer.compress(chunk) if packer else chunk
        if piece:
            yield piece
    if packer:
        yield packer.flush()


def _chunks(page: Slice) -> Iterator[bytes]:
    yield page.head
    with page.path.open("rb") as file:
        file.seek(page.start)
        left = page.end - page.start
        while left > 0 and (chunk := file.read(min(left, _CHUNK))):
            left -= len(chunk)
            yield chunk
