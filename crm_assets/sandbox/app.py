"""The ASGI application: vendors' APIs at their own paths, the control API beside them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from .control import Control
from .gateway import Gateway
from .push import Target
from .room import Room

_METHODS = ["GET", "POST", "PATCH", "PUT", "DELETE"]


class House:
    """All rooms behind one address. ``targets`` names who is told of which room's changes from the start."""

    def __init__(self, rooms: Sequence[Room], targets: Mapping[str, Sequence[Target]]) -> None:
        self._rooms = {room.name: room for room in rooms}
        self._gateways = {room.name: Gateway(room) for room in rooms}
        self._controls = {room.name: Control(room) for room in rooms}
        self._targets = targets
        self.app = Starlette(
            routes=[
                Route("/_sandbox/{connection}/{path:path}", self._controlled, methods=_METHODS),
                Mount("/", app=self._vendors),
            ],
            lifespan=self._open,
        )

    def addresses(self) -> dict[str, str]:
        """Where the rooms listen besides, by what for."""
        return {what: where for room in self._rooms.values() for what, where in room.addresses().items()}

    def release(self) -> None:
        """Lets go of calls that are held back and of transactions that wait: the server is about to stop."""
        for name, room in self._rooms.items():
            room.stop()
            self._gateways[name].stopping.set()

    @asynccontextmanager
    async def _open(self, _: Starlette) -> AsyncIterator[None]:
        for name, room in self._rooms.items():
            for push in room.pushes:
                await push.start(self._targets.get(name, ()) if push is room.push else ())
        yield
        for room in self._rooms.values():
            await run_in_threadpool(room.close)
            for push in room.pushes:
                await push.stop()

    async def _controlled(self, request: Request) -> Response:
        control = self._controls.get(request.path_params["connection"])
        if control is None:
            return JSONResponse({"error": f"no such connection; known: {', '.join(self._rooms)}"}, 404)
        path, body = request.path_params["path"].strip("/"), await request.body()
        if path == "subscriptions":
            # Their tasks live in this thread's event loop.
            reply = control.answer(request.method, path, request.query_params, body)
        else:
            reply = await run_in_threadpool(control.answer, request.method, path, request.query_params, body)
        return Response(reply.payload(), reply.status, media_type="application/json")

    async def _vendors(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        name = path.split("/", 2)[1] if path.startswith("/") else ""
        if name not in self._rooms:
            name = next((room.name for room in self._rooms.values() if room.owns(path)), "")
        gateway = self._gateways.get(name)
        if gateway is not None:
            await gateway(scope, receive, send)
            return
        refusal = JSONResponse({"error": f"no vendor has this path; rooms: {', '.join(self._rooms)}"}, 404)
        await refusal(scope, receive, send)
