"""Refusals in the vendor's envelope."""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from crm_assets.sandbox.http import Reply, VendorError

PORTAL = 48210
CORRELATION = "x-hubspot-correlation-id"


@dataclass(frozen=True, slots=True)
class Detail:
    """One entry of ``errors``."""

    message: str
    code: str
    context: Mapping[str, Sequence[str]]

    def body(self) -> dict[str, Any]:
        return {"message": self.message, "code": self.code, "context": {k: list(v) for k, v in self.context.items()}}


class ApiError(VendorError):
    """A refusal: ``{"status": "error", "message", "correlationId", "category", "context", "errors"}``."""

    def __init__(
        self,
        status: int,
        message: str,
        category: str | None = None,
        context: Mapping[str, Sequence[str]] | None = None,
        details: Sequence[Detail] = (),
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.category = category
        self.context = dict(context or {})
        self.details = tuple(details)
        self._extra = dict(extra or {})

    def reply(self) -> Reply:
        correlation = str(uuid.uuid4())
        body: dict[str, Any] = {"status": "error", "message": self.message, "correlationId": correlation}
        if self.context:
            body["context"] = {key: list(values) for key, values in self.context.items()}
        if self.details:
            body["errors"] = [one.body() for one in self.details]
        if self.category:
            body["category"] = self.category
        return Reply(self.status, body | self._extra, {CORRELATION: correlation})

    def item(self, context: Mapping[str, Sequence[str]]) -> dict[str, Any]:
        """As an entry of a batch's ``errors``; ``context`` says which input it is about."""
        merged = self.context | dict(context)
        return {
            "status": "error",
            "category": self.category or "VALIDATION_ERROR",
            "message": self.message,
            "context": {key: list(values) for key, values in merged.items()},
            "links": {},
            "errors": [one.body() for one in self.details],
        }


def invalid(message: str, **context: Sequence[str]) -> ApiError:
    """A request that says something impossible."""
    return ApiError(400, message, "VALIDATION_ERROR", context)


def not_found() -> ApiError:
    return ApiError(404, "resource not found")


def unknown_id(text: str) -> ApiError:
    """For an id that is no number."""
    return ApiError(
        404, f"Object not found.  objectId are usually numeric. ({text})", "OBJECT_NOT_FOUND", {"id": [text]}
    )


def conflict(noun: str, existing: int) -> ApiError:
    """A record with this e-mail address is there. Clients read the id out of the text."""
    return ApiError(409, f"{noun} already exists. Existing ID: {existing}", "CONFLICT")


@dataclass(frozen=True, slots=True)
class BadValue:
    """A property's value that is not taken."""

    name: str
    value: Any
    code: str
    message: str


def bad_values(found: Sequence[BadValue]) -> ApiError:
    """All of a record's bad values in one refusal."""
    listed = [
        {
            "isValid": False,
            "message": one.message,
            "error": one.code,
            "name": one.name,
            "localizedErrorMessage": one.message,
            "propertyValue": one.value,
            "portalId": PORTAL,
        }
        for one in found
    ]
    text = json.dumps(listed, ensure_ascii=False, separators=(",", ":"), default=str)
    details = [Detail(one.message, one.code, {"propertyName": [one.name]}) for one in found]
    return ApiError(400, f"Property values were not valid: {text}", "VALIDATION_ERROR", details=details)
