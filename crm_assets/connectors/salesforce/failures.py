"""The vendor's errors, sorted once: by status and errorCode, never by text.

Source: REST API Developer Guide, "Status Codes and Error Responses". The body is ``[{"message", "errorCode",
"fields"?}]``; only OAuth answers ``{"error", "error_description"}``.
"""

from __future__ import annotations

from typing import Any

import httpx

from crm_assets.core.errors import (
    ConfigurationError,
    CrmAssetsError,
    ObjectUnavailable,
    QuotaExhausted,
    RejectedError,
    RetriableError,
    SchemaChanged,
    UnknownOutcome,
)

RETRY_CODES = frozenset(
    {
        "UNABLE_TO_LOCK_ROW",
        "SERVER_UNAVAILABLE",
        "QUERY_TIMEOUT",
        "TXN_SECURITY_METERING_ERROR",
        "ALL_OR_NONE_OPERATION_ROLLED_BACK",
        "PROCESSING_HALTED",
    }
)
GONE_CODES = frozenset({"ENTITY_IS_DELETED", "NOT_FOUND"})
LOCATOR_EXPIRED = "INVALID_QUERY_LOCATOR"
SESSION_EXPIRED = "INVALID_SESSION_ID"
UNKNOWN_FIELD = "INVALID_FIELD"
JOB_GONE = frozenset({"NOT_FOUND", "INVALID_QUERY_LOCATOR", "INVALIDJOBSTATE", "API_VERSION_MISMATCH"})
"""A place inside a job that is not to be had any more."""
TOO_MANY_IDS = "EXCEEDED_ID_LIMIT"
_UNAVAILABLE = frozenset({"INVALID_TYPE", "INSUFFICIENT_ACCESS", "INVALIDENTITY"})
_EDGE = frozenset({406, 420, 429, 502, 503, 504})


def read(response: httpx.Response) -> tuple[str, str]:
    """``(errorCode, message)`` of an error reply; empty strings if it is not the vendor's form."""
    try:
        body: Any = response.json()
    except ValueError:
        return "", ""
    if isinstance(body, list) and body and isinstance(body[0], dict):
        return str(body[0].get("errorCode", "")), str(body[0].get("message", ""))
    if isinstance(body, dict) and "error" in body:
        return str(body["error"]), str(body.get("error_description", ""))
    return "", ""


def translate(response: httpx.Response, what: str, *, may_have_written: bool) -> CrmAssetsError:
    """The error for a reply that is no success. ``what`` names connection, object and action."""
    code, message = read(response)
    said = f"{what}: Salesforce answered {response.status_code} {code} {message}".rstrip()
    if code == "REQUEST_LIMIT_EXCEEDED":
        return QuotaExhausted(said)
    if code in RETRY_CODES or response.status_code in _EDGE - {502, 504}:
        return RetriableError(said)
    if response.status_code >= 500 or response.status_code in _EDGE:
        # A gateway or the application gave up in the middle: for a write that proves nothing.
        return UnknownOutcome(said) if may_have_written else RetriableError(said)
    if code in _UNAVAILABLE or code.startswith("INSUFFICIENT_ACCESS"):
        return ObjectUnavailable(
            f"{said}; give the integration user the right to it, or remove it from defs.yaml", code
        )
    if code in ("API_DISABLED_FOR_ORG", "API_CURRENTLY_DISABLED"):
        return ConfigurationError(f"{said}; enable the API for the integration user's profile")
    return refused(said, code)


def refused(said: str, code: str) -> RejectedError:
    return SchemaChanged(said, code) if code == UNKNOWN_FIELD else RejectedError(said, code)
