"""The webhook receiver: what a vendor delivers is verified, stored, and only then acknowledged.

The checks come in a fixed order: unknown connection 404, too large 413, wrong or old signature 401, malformed 400.
Bad input never gives a 5xx, so that nobody outside can make the receiver look broken; a fault of ours gives a 503,
which tells the vendor to deliver again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping

import psycopg
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from crm_assets.connectors.base import Acknowledging, Connector
from crm_assets.core.errors import ConfigurationError
from crm_assets.events.health import health
from crm_assets.store import inbox
from crm_assets.store.database import Database

log = logging.getLogger(__name__)

MAX_BODY = 1 << 20
"""Bytes of one delivery."""

# What exceeds the limit is read on for a while and thrown away: a sender that is cut off in the middle of its body
# sees a broken connection instead of the 413, and would send the same again.
_MAX_DISCARDED = 16 * MAX_BODY
_BODY_SECONDS = 30.0
_RETRY_AFTER = {"Retry-After": "5"}


class _TooLarge(Exception):
    """The body exceeds ``MAX_BODY``."""


def app(db: Database, connectors: Mapping[str, Connector | None]) -> Starlette:
    """``POST /webhooks/{connection}`` and ``GET /health``.

    ``connectors`` may change while the app runs; None stands for a connection whose own settings are wrong.
    """

    async def webhook(request: Request) -> Response:
        connection = request.path_params["connection"]
        if connection not in connectors:
            return _answer(404, f"no connection is called {connection!r}")
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _body(request)
        except _TooLarge:
            return _answer(413, f"a delivery may have {MAX_BODY} bytes")
        except TimeoutError:
            return _answer(408, f"the body did not arrive within {_BODY_SECONDS:g} seconds")
        except ClientDisconnect:
            return _answer(400, "the sender went away")
        connector = connectors[connection]
        if connector is None:
            return JSONResponse({"error": "the connection is not set up"}, 503, _RETRY_AFTER)
        return await run_in_threadpool(_take, db, connector, dict(request.headers), body, str(request.url))

    async def healthy(_request: Request) -> Response:
        try:
            report = await run_in_threadpool(health, db, list(connectors))
        except psycopg.Error:
            return JSONResponse({"ok": False, "error": "the database does not answer"}, 503)
        return JSONResponse(report, 200 if report["ok"] else 503)

    return Starlette(
        routes=[
            Route("/webhooks/{connection}", webhook, methods=["POST"]),
            Route("/health", healthy, methods=["GET"]),
        ]
    )


async def _body(request: Request) -> bytes:
    """The whole body, in memory only up to the limit, also if the sender names no length or a wrong one."""
    chunks: list[bytes] = []
    size = 0
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > _MAX_DISCARDED:
        raise _TooLarge
    async for chunk in request.stream():
        size += len(chunk)
        if size <= MAX_BODY:
            chunks.append(chunk)
        elif size > _MAX_DISCARDED:
            break
        else:
            chunks.clear()
    if size > MAX_BODY:
        raise _TooLarge
    return b"".join(chunks)


def _take(db: Database, connector: Connector, headers: Mapping[str, str], body: bytes, url: str) -> Response:
    """Verify, parse and store one delivery; runs in a thread. The answer follows the commit."""
    connection = connector.config.name
    try:
        changes = connector.parse_event(headers, body, url)
    except PermissionError as error:
        log.warning("%s: webhook refused: %s", connection, error)
        return _answer(401, "the signature is missing, wrong or too old")
    except ConfigurationError as error:
        # Without a secret nothing can be verified, so nothing is accepted.
        log.error("%s: webhook refused: %s", connection, error)
        return _answer(401, "deliveries for this connection cannot be verified")
    except ValueError as error:
        log.warning("%s: malformed webhook: %s", connection, error)
        return _answer(400, "the delivery cannot be read")
    except Exception:
        log.exception("%s: a webhook could not be parsed", connection)
        return _answer(400, "the delivery cannot be read")
    if not all(map(inbox.storable, changes)):
        # Text that Postgres cannot hold, such as a NUL within an id: no CRM has such a record.
        log.warning("%s: malformed webhook: an id or name in it cannot be stored", connection)
        return _answer(400, "the delivery cannot be read")
    try:
        with db.transaction() as conn:
            added = inbox.add(conn, connection, changes)
    except psycopg.Error as error:
        log.error("%s: a webhook could not be stored: %s", connection, type(error).__name__)
        return JSONResponse({"error": "the delivery could not be stored; send it again"}, 503, _RETRY_AFTER)
    wanted = connector.acknowledgement(body) if isinstance(connector, Acknowledging) else None
    if wanted is not None:
        return Response(wanted.body, 200, {"Content-Type": wanted.content_type})
    return JSONResponse({"received": len(changes), "new": added}, 202)


def _answer(status: int, error: str) -> Response:
    return JSONResponse({"error": error}, status)
