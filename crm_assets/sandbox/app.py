"""The ASGI application: vendors' APIs at their own paths, the control API beside them."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import simplejson
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route

from .push import Target
from .salesforce.control import Control
from .salesforce.gateway import Gateway
from .salesforce.org import CONNECTION, Org

log = logging.getLogger(__name__)
_METHODS = ["GET", "POST", "PATCH", "DELETE"]


def application(org: Org, targets: Sequence[Target], stopping: list[asyncio.Event]) -> Starlette:
    """``stopping`` receives the event that ends calls which are held back."""
    gateway, control = Gateway(org), Control(org)
    stopping.append(gateway.stopping)

    async def controlled(request: Request) -> Response:
        if request.path_params["connection"] != CONNECTION:
            return JSONResponse({"error": f"no such connection; known: {CONNECTION}"}, 404)
        path, body = request.path_params["path"], await request.body()
        if path.strip("/") == "subscriptions":
            try:
                data = simplejson.loads(body) if body.strip() else {}
            except ValueError as failed:
                return JSONResponse({"error": str(failed)}, 400)
            reply = control.subscribe(request.method, data)
        else:
            reply = await run_in_threadpool(control.answer, request.method, path, request.query_params, body)
        return Response(reply.payload(), reply.status, media_type="application/json")

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await org.push.start(targets)
        yield
        await run_in_threadpool(org.store.close)
        await org.push.stop()

    return Starlette(
        routes=[
            Route("/_sandbox/{connection}/{path:path}", controlled, methods=_METHODS),
            Mount("/", app=gateway),
        ],
        lifespan=lifespan,
    )
