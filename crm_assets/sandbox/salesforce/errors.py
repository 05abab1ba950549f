"""Errors as the vendor words them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from crm_assets.sandbox.http import Reply, VendorError


@dataclass(frozen=True, slots=True)
class Fault:
    """One reason of a refusal."""

    code: str
    message: str
    fields: tuple[str, ...] | None = None

    def top(self) -> dict[str, Any]:
        """As an entry of an error body."""
        body: dict[str, Any] = {"message": self.message, "errorCode": self.code}
        if self.fields is not None:
            body["fields"] = list(self.fields)
        return body

    def item(self) -> dict[str, Any]:
        """As an entry of one record's result inside a batch, where the code has another name."""
        return {"statusCode": self.code, "message": self.message, "fields": list(self.fields or ())}


class ApiError(VendorError):
    """A refusal: a status and its reasons."""

    def __init__(self, status: int, *faults: Fault) -> None:
        super().__init__("; ".join(f"{one.code}: {one.message}" for one in faults))
        self.status = status
        self.faults = faults

    def reply(self) -> Reply:
        return Reply(self.status, [one.top() for one in self.faults])


def error(status: int, code: str, message: str, fields: Sequence[str] | None = None) -> ApiError:
    """A refusal with one reason."""
    return ApiError(status, Fault(code, message, None if fields is None else tuple(fields)))


def not_found(message: str = "The requested resource does not exist") -> ApiError:
    return error(404, "NOT_FOUND", message)
