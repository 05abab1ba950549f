"""A server of prepared bytes: it speaks just enough HTTP to be read from, and costs next to nothing.

``python -m crm_assets_tests.bench.server ROWS CHANGED DELAY`` prints its address. ``ROWS`` contacts exist, the first
``CHANGED`` of them are newer than the rest; a write is answered after ``DELAY`` seconds. ``/calls`` tells how many
reads and writes there were, ``/renew`` makes all records that are asked for by id newer.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any
from urllib.parse import parse_qs, urlsplit

from crm_assets_tests.bench import records

BULK, REST, HUBSPOT = 50_000, 2_000, 100
ROOT = "/services/data/v67.0"
_IDS = re.compile(rb'"Id": ?"(\w+)"')
_QUOTED = re.compile(r"'(\w{18})'")


class Prepared:
    """Answers by method and target."""

    def __init__(self, rows: int, changed: int, delay: float) -> None:
        self.rows, self.changed, self.delay = rows, changed, delay
        self.bulk = records.bulk(min(BULK, rows))
        self.rest = records.query(min(REST, rows))
        self.newer = records.query(min(REST, max(changed, 1)), changed=30)
        self.listed = records.listed(min(HUBSPOT, rows))
        self.calls: Counter[str] = Counter()
        self.version = 0

    def answer(self, method: str, target: str, body: bytes) -> tuple[bytes, dict[str, str], float]:
        """The body, further headers, and for how many seconds the answer is held back."""
        url = urlsplit(target)
        given = {name: found[0] for name, found in parse_qs(url.query).items()}
        path = url.path
        if path.startswith("/crm/v3/"):
            return self._hubspot(path, given), {}, 0.0
        if path == "/calls":
            return json.dumps(self.calls).encode(), {}, 0.0
        if path == "/renew":
            self.version = 90
            return b"{}", {}, 0.0
        rest = path.removeprefix(ROOT)
        if path.endswith("/oauth2/token"):
            return b'{"access_token": "bench"}', {}, 0.0
        if rest.startswith("/jobs/query"):
            return self._job(method, rest, given)
        if rest.startswith("/query"):
            self.calls["query"] += 1
            return self._query(rest, given), {}, 0.0
        if rest.startswith("/composite"):
            self.calls["write"] += 1
            done = [{"id": one.decode(), "success": True, "errors": []} for one in _IDS.findall(body)]
            return json.dumps(done).encode(), {}, self.delay
        if rest.endswith("/describe"):
            return json.dumps(records.describe_salesforce()).encode(), {}, 0.0
        if "/updated/" in rest:
            now = f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S}.000+0000"
            return json.dumps({"ids": ["x"] * min(self.changed, 1), "latestDateCovered": now}).encode(), {}, 0.0
        return b'{"deletedRecords": []}', {}, 0.0

    def _job(self, method: str, path: str, given: dict[str, str]) -> tuple[bytes, dict[str, str], float]:
        if not path.endswith("/results"):
            return b'{"id": "750", "state": "JobComplete"}', {}, 0.0
        page = int(given.get("locator", "0"))
        headers = {
            "Sforce-Locator": str(page + 1) if self.bulk.follows(page, self.rows) else "null",
            "Sforce-NumberOfRecords": str(min(self.bulk.size, self.rows - page * self.bulk.size)),
        }
        return self.bulk.of(page, self.rows), headers, 0.0

    def _query(self, path: str, given: dict[str, str]) -> bytes:
        question = given.get("q", "")
        if "COUNT()" in question:
            count = self.changed if "SystemModstamp >=" in question else self.rows
            return b'{"totalSize": %d, "done": true, "records": []}' % count
        if named := _QUOTED.findall(question):
            found = ",".join(
                records.salesforce(one, records.number_of(one, BULK) % BULK, self.version) for one in named
            )
            return _frame(found.encode(), len(named), None)
        place = path.rpartition("/")[2]
        kind, _, number = place.partition("-") if "-" in place else ("all", "", "0")
        if "SystemModstamp >=" in question:
            kind = "new"
        template, total = (self.newer, self.changed) if kind == "new" else (self.rest, self.rows)
        page = int(number)
        following = f"{ROOT}/query/{kind}-{page + 1}" if template.follows(page, total) else None
        return _frame(template.of(page, total), total, following)

    def _hubspot(self, path: str, given: dict[str, str]) -> bytes:
        if "/properties/" in path:
            return json.dumps(records.describe_hubspot()).encode()
        if "/objects/" not in path or given.get("archived"):
            return b'{"results": []}'
        page = int(given.get("after", "0"))
        more = self.listed.follows(page, self.rows)
        after = b',"paging":{"next":{"after":"%d"}}' % (page + 1) if more else b""
        return b'{"results":[' + self.listed.of(page, self.rows) + b"]" + after + b"}"


def _frame(found: bytes, total: int, following: str | None) -> bytes:
    done = b"true" if following is None else b'false,"nextRecordsUrl":"%s"' % following.encode()
    return b'{"totalSize":%d,"done":%s,"records":[' % (total, done) + found + b"]}"


class _Connection(asyncio.Protocol):
    def __init__(self, prepared: Prepared) -> None:
        self._prepared = prepared
        self._held = b""
        self._transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._held += data
        while True:
            head, separator, rest = self._held.partition(b"\r\n\r\n")
            if not separator:
                return
            found = re.search(rb"content-length: *(\d+)", head, re.IGNORECASE)
            length = int(found[1]) if found else 0
            if len(rest) < length:
                return
            self._held = rest[length:]
            method, target, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
            body, headers, delay = self._prepared.answer(method, target, rest[:length])
            kind = "text/csv" if "Sforce-Locator" in headers else "application/json"
            lines = [
                "HTTP/1.1 200 OK",
                f"Date: {formatdate(time.time(), usegmt=True)}",
                f"Content-Type: {kind}; charset=UTF-8",
                f"Content-Length: {len(body)}",
                *(f"{name}: {value}" for name, value in headers.items()),
            ]
            reply = "\r\n".join(lines).encode() + b"\r\n\r\n" + body
            if delay:
                asyncio.get_running_loop().call_later(delay, self._transport.write, reply)
            else:
                self._transport.write(reply)


async def _serve(prepared: Prepared) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Connection(prepared), "127.0.0.1", 0)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(Prepared(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))))
