"""Several calls in one: ``/composite`` and ``/composite/batch``."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import simplejson

from crm_assets.sandbox.http import Reply

from .errors import error
from .records import Records
from .store import Tx
from .wire import Call, Router

MOST = 25
_REFERENCE = re.compile(r"@\{([^}]+)\}")
_DATA = re.compile(r"^(?:/salesforce)?/?(?:services/data/)?v(\d+\.0)/(.*)$")


class _UndoError(Exception):
    """Leaves the transaction of an allOrNone composite that failed."""

    def __init__(self, replies: list[dict[str, Any]]) -> None:
        super().__init__()
        self.replies = replies


class Composite:
    """The composite resources; they answer each part through the router they are part of."""

    def __init__(self, records: Records, router: Router) -> None:
        self._records = records
        self._router = router

    def routes(self, router: Router) -> None:
        router.add("POST", "composite", "composite", self.composite)
        router.add("POST", "composite/batch", "composite_batch", self.batch)

    def _part(self, call: Call, method: str, url: str, body: Any, headers: Mapping[str, str]) -> Call:
        parts = urlsplit(url)
        match = _DATA.match(parts.path)
        # Jobs have transactions of their own, which do not fit into one of a composite.
        if match is None or match[2].startswith("jobs"):
            raise error(400, "INVALID_ARGUMENT", f"bad url in subrequest: {url}")
        return replace(
            call,
            method=method.upper(),
            version=match[1],
            path=match[2],
            query=dict(parse_qsl(parts.query, keep_blank_values=True)),
            headers={name.lower(): value for name, value in headers.items()},
            body=b"" if body is None else simplejson.dumps(body).encode(),
        )

    def composite(self, call: Call) -> Reply:
        body = call.record()
        requests = body.get("compositeRequest")
        if not isinstance(requests, list) or len(requests) > MOST:
            raise error(400, "LIMIT_EXCEEDED", f"compositeRequest: a list of at most {MOST} subrequests is needed")
        if not body.get("allOrNone"):
            return Reply(body={"compositeResponse": self._each(call, requests, stop=False)})

        def work(tx: Tx) -> list[dict[str, Any]]:
            replies = self._each(call, requests, stop=True)
            if any(one["httpStatusCode"] >= 400 for one in replies):
                raise _UndoError(replies)
            return replies

        try:
            replies = self._records.store.together(work)
        except _UndoError as undone:
            halted = [
                {
                    "errorCode": "PROCESSING_HALTED",
                    "message": "The transaction was rolled back since another "
                    "operation in the same transaction failed.",
                }
            ]
            replies = [
                one if one["httpStatusCode"] >= 400 else one | {"body": halted, "httpStatusCode": 400}
                for one in undone.replies
            ]
        return Reply(body={"compositeResponse": replies})

    def _each(self, call: Call, requests: list[Any], stop: bool) -> list[dict[str, Any]]:
        replies: list[dict[str, Any]] = []
        results: dict[str, Any] = {}
        failed = False
        for one in requests:
            name = str(one.get("referenceId"))
            if failed and stop:
                reply = Reply(
                    400,
                    [
                        {
                            "errorCode": "PROCESSING_HALTED",
                            "message": "The transaction was rolled back since another operation in the "
                            "same transaction failed.",
                        }
                    ],
                )
            else:
                try:
                    url, body = _fill(one["url"], results), _fill(one.get("body"), results)
                    part = self._part(call, one["method"], url, body, one.get("httpHeaders") or {})
                    reply = self._router.answer(part)
                except KeyError as missing:
                    reply = Reply(
                        400,
                        [
                            {
                                "errorCode": "PROCESSING_HALTED",
                                "message": f"Invalid reference specified. No value for {missing}",
                            }
                        ],
                    )
            failed = failed or reply.status >= 400
            results[name] = reply.body
            replies.append(
                {
                    "body": reply.body,
                    "httpHeaders": dict(reply.headers),
                    "httpStatusCode": reply.status,
                    "referenceId": name,
                }
            )
        return replies

    def batch(self, call: Call) -> Reply:
        body = call.record()
        requests = body.get("batchRequests")
        if not isinstance(requests, list) or len(requests) > MOST:
            raise error(400, "LIMIT_EXCEEDED", f"batchRequests: a list of at most {MOST} subrequests is needed")
        results: list[dict[str, Any]] = []
        failed = False
        for one in requests:
            if failed and body.get("haltOnError"):
                halted = [{"errorCode": "BATCH_PROCESSING_HALTED", "message": "Batch processing halted per request"}]
                results.append({"statusCode": 412, "result": halted})
                continue
            url = "services/data/" + str(one["url"]).removeprefix("/").removeprefix("services/data/")
            reply = self._router.answer(self._part(call, one["method"], url, one.get("richInput"), {}))
            failed = failed or reply.status >= 400
            results.append({"statusCode": reply.status, "result": reply.body})
        return Reply(body={"hasErrors": failed, "results": results})


def _fill(value: Any, results: Mapping[str, Any]) -> Any:
    """``@{ref.id}`` → the value of an earlier reply; KeyError if there is none."""
    if isinstance(value, str):
        whole = _REFERENCE.fullmatch(value)
        if whole:
            return _look(whole[1], results)
        return _REFERENCE.sub(lambda match: str(_look(match[1], results)), value)
    if isinstance(value, dict):
        return {name: _fill(one, results) for name, one in value.items()}
    if isinstance(value, list):
        return [_fill(one, results) for one in value]
    return value


def _look(path: str, results: Mapping[str, Any]) -> Any:
    value: Any = results
    for step in re.findall(r"[^.\[\]]+", path):
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, TypeError, ValueError):
            raise KeyError(path) from None
    return value
