"""The vendor's errors, sorted once: by status and code, never by text.

Source: REST Web Services, "Error Messages". Details repeat the refused values, which are taken out again.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from crm_assets.core.errors import (
    CrmAssetsError,
    ObjectUnavailable,
    QuotaExhausted,
    RejectedError,
    RetriableError,
    UnknownOutcome,
)

NONEXISTENT_ID = "NONEXISTENT_ID"
SENT_BEFORE = "IDEMPOTENCY_ERROR"
CHANGED_MEANWHILE = "RCRD_HAS_BEEN_CHANGED"
CONCURRENCY_WAIT = timedelta(seconds=2)
"""The vendor does not say when a slot is free again."""


class Refused(RejectedError):
    """NetSuite refused this call for good; ``fields`` are those it complained about."""

    def __init__(self, message: str, code: str, fields: tuple[str, ...]) -> None:
        super().__init__(message, code)
        self.fields = fields


_REFUSED_VALUE = re.compile(r"(Invalid Field Value ).*?( for the following field)", re.DOTALL)
_LONGEST_TEXT = 300


def read(response: httpx.Response) -> Mapping[str, Any]:
    """The error's body; empty if it is not of the vendor's form."""
    try:
        body: Any = response.json()
    except ValueError:
        return {}
    return body if isinstance(body, dict) else {}


def translate(response: httpx.Response, what: str, *, may_have_written: bool) -> CrmAssetsError:
    """The error for a reply that is no success. ``what`` names connection, object and action."""
    body, status = read(response), response.status_code
    first = code(body)
    said = f"{what}: NetSuite answered {status} {explain(body)}".rstrip()
    if status == 429:
        return QuotaExhausted(said, until=datetime.now(UTC) + CONCURRENCY_WAIT)
    if first == CHANGED_MEANWHILE:
        return RetriableError(said)
    if status >= 500:
        # The application gave up in the middle: for a write that proves nothing.
        return UnknownOutcome(said) if may_have_written else RetriableError(said)
    if status == 403:
        return ObjectUnavailable(
            f"{said}; give the integration's role the permission for it, or remove the object from defs.yaml", first
        )
    return Refused(said, first, _fields(body))


def code(body: Mapping[str, Any]) -> str:
    """The code of the first error told."""
    return next((str(item.get("o:errorCode") or "") for item in _details(body)), "")


def explain(body: Mapping[str, Any]) -> str:
    """The errors in the vendor's words, without the values that it refused."""
    told = []
    for item in _details(body):
        path = str(item.get("o:errorPath") or "")
        text = _REFUSED_VALUE.sub(r"\1…\2", str(item.get("detail") or ""))[:_LONGEST_TEXT]
        told.append(" ".join(part for part in (str(item.get("o:errorCode") or ""), path and f"({path})", text) if part))
    return "; ".join(told) or str(body.get("title") or body.get("error") or "")


def _fields(body: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the fields that the vendor complained about."""
    paths = (str(item.get("o:errorPath") or "") for item in _details(body))
    return tuple(dict.fromkeys(path.partition(".")[0] for path in paths if path))


def _details(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    details = body.get("o:errorDetails")
    for item in details if isinstance(details, list) else ():
        if isinstance(item, dict):
            yield item
