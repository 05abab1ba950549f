"""The API of Acme Desk, as docs/writing-a-connector.md describes it: a vendor as small as one can be."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

Ticket = dict[str, Any]

FIELDS = [
    {"name": name, "type": kind, "read_only": fixed, "required": name == "subject", "unique": name == "row_id"}
    for name, kind, fixed in (
        ("id", "text", True),
        ("subject", "text", False),
        ("hours", "number", False),
        ("row_id", "text", False),
        ("created_at", "time", True),
        ("updated_at", "time", True),
    )
]


class Desk:
    """The tickets, and what the API does to them."""

    def __init__(self) -> None:
        self.tickets: dict[str, Ticket] = {}
        self.deleted: list[dict[str, str]] = []
        self.calls = 0
        self.url = ""
        self._lock = threading.Lock()

    def change(self, ticket_id: str | None = None, **fields: Any) -> str:
        """Make or change a ticket, as a user would."""
        now = datetime.now(UTC).isoformat()
        with self._lock:
            key = ticket_id or str(1000 + len(self.tickets) + len(self.deleted))
            made = {"id": key, "subject": None, "hours": None, "row_id": None, "created_at": now}
            trimmed = {name: _trimmed(value) for name, value in fields.items()}
            self.tickets[key] = {**made, **self.tickets.get(key, {}), **trimmed, "updated_at": now}
        return key

    def delete(self, ticket_id: str) -> None:
        del self.tickets[ticket_id]
        self.deleted.append({"id": ticket_id, "at": datetime.now(UTC).isoformat()})

    def get(self, path: str, query: dict[str, str]) -> tuple[int, Any]:
        if path == "/fields":
            return 200, FIELDS
        low, high = query.get("from", ""), query.get("to", "~")
        if path == "/tickets/deleted":
            return 200, [one for one in self.deleted if low <= one["at"] < high]
        found = [one for key, one in sorted(self.tickets.items()) if low <= one["updated_at"] < high]
        if path == "/tickets/count":
            return 200, {"count": len(found)}
        for name, own in (("ids", "id"), ("row_ids", "row_id")):
            if name in query:
                found = [one for one in found if one[own] in query[name].split(",")]
        found = [one for one in found if one["id"] > query.get("behind", "")]
        found = [one for one in found if one["created_at"] >= query.get("created_from", "")]
        size = int(query.get("limit", "100000"))
        return 200, {"tickets": found[:size], "more": len(found) > size}

    def write(self, method: str, path: str, body: Ticket) -> tuple[int, Any]:
        key = path.rpartition("/")[2]
        if method == "PUT":
            known = [one["id"] for one in self.tickets.values() if one["row_id"] == key]
            key = known[0] if known else ""
            body["row_id"] = path.rpartition("/")[2]
        elif key not in self.tickets:
            return 404, {}
        if method == "DELETE":
            self.delete(key)
            return 200, {"id": key}
        if float(body.get("hours") or 0) < 0:
            return 422, {"field": "hours", "message": "hours are never negative"}
        return 200, {"id": self.change(key or None, **body)}


def _trimmed(value: Any) -> Any:
    return (value.strip() or None) if isinstance(value, str) else value


@contextmanager
def serving() -> Iterator[Desk]:
    desk = Desk()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def answer(self) -> None:
            size = int(self.headers.get("Content-Length") or 0)
            body = json.loads(self.rfile.read(size) or b"{}")
            url = urlsplit(self.path)
            query = {name: values[0] for name, values in parse_qs(url.query).items()}
            desk.calls += 1
            if self.headers["Authorization"] != "Bearer sesame":
                status, reply = 401, {}
            elif self.command == "GET":
                status, reply = desk.get(url.path, query)
            else:
                status, reply = desk.write(self.command, url.path, body)
            data = json.dumps(reply).encode()
            self.send_response(status)
            self.send_header("X-Limit", f"{desk.calls}/5000")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            """Tests are quiet."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    desk.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield desk
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
