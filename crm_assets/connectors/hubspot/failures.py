"""The vendor's errors, sorted once: by status, category and code, never by text.

Source: API reference, "Error handling". Messages of validation errors repeat the refused values, so only their codes
and property names are passed on.
"""

from __future__ import annotations

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

NOT_FOUND = "OBJECT_NOT_FOUND"
_LOCKED = 423
_MIGRATING = 477
_LOCK_WAIT = timedelta(seconds=2)
_TEN_SECONDS = timedelta(seconds=10)
_AN_HOUR = timedelta(hours=1)
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
    category = str(body.get("category") or "")
    said = f"{what}: HubSpot answered {status} {explain(body)}".rstrip()
    if status == 429:
        wait = limit(body)[1]
        return QuotaExhausted(said, until=None if wait > _TEN_SECONDS else datetime.now(UTC) + wait)
    if status in (_LOCKED, _MIGRATING):
        return RetriableError(said, retry_after=_retry_after(response))
    if status >= 500:
        # A gateway or the application gave up in the middle: for a write that proves nothing.
        return UnknownOutcome(said) if may_have_written else RetriableError(said)
    if status == 403:
        scopes = ", ".join(sorted(_scopes(body)))
        return ObjectUnavailable(
            f"{said}; give the app the scope {scopes or 'it lacks'}, or remove the object from defs.yaml", category
        )
    return RejectedError(said, category)


def explain(error: Mapping[str, Any]) -> str:
    """An error, of a whole call or of one record, in the vendor's words without the record's values."""
    category = str(error.get("category") or error.get("policyName") or "")
    details = [_detail(item) for item in error.get("errors") or ()]
    named = "; ".join(dict.fromkeys(detail for detail in details if detail))
    if named:
        return f"{category}: {named}" if category else named
    # A message that ends in JSON shows what was sent.
    text = str(error.get("message") or "").partition("[{")[0].strip()[:_LONGEST_TEXT]
    return f"{category} {text}".strip()


def properties(error: Mapping[str, Any]) -> tuple[str, ...]:
    """Names of the properties that the vendor complained about."""
    return tuple(dict.fromkeys(name for item in error.get("errors") or () for name in _names(item)))


def _detail(item: Mapping[str, Any]) -> str:
    code, names = str(item.get("code") or ""), ", ".join(_names(item))
    return f"{code} ({names})" if code and names else code or names


def _names(item: Mapping[str, Any]) -> Iterator[str]:
    context = item.get("context") or {}
    for name in context.get("propertyName") or ():
        yield str(name)


def _scopes(body: Mapping[str, Any]) -> Iterator[str]:
    for item in body.get("errors") or ():
        for scope in (item.get("context") or {}).get("requiredGranularScopes") or ():
            yield str(scope)


def limit(body: Mapping[str, Any]) -> tuple[str, timedelta]:
    """Which limit a 429 is about, and how long until its window has moved on. A search says so only in words; when
    the account's day ends, only its own clock knows."""
    policy = str(body.get("policyName") or "")
    if "DAILY" in policy:
        return "daily_calls", _AN_HOUR
    if policy == "SECONDLY" or (not policy and "your secondly limit" in str(body.get("message") or "")):
        return "search_1s", timedelta(seconds=1)
    return "calls_10s", _TEN_SECONDS


def _retry_after(response: httpx.Response) -> timedelta:
    seconds = response.headers.get("Retry-After", "")
    return timedelta(seconds=int(seconds)) if seconds.isdecimal() else _LOCK_WAIT
