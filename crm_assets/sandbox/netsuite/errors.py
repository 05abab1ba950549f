"""Errors as the vendor words them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from crm_assets.sandbox.http import Reply, VendorError

MEDIA = "application/vnd.oracle.resource+json; type="

_RFC = "https://www.rfc-editor.org/rfc/rfc9110.html#section-"
_KINDS = {
    400: ("Bad Request", f"{_RFC}15.5.1"),
    401: ("Unauthorized", f"{_RFC}15.5.2"),
    403: ("Forbidden", f"{_RFC}15.5.4"),
    404: ("Not Found", f"{_RFC}15.5.5"),
    405: ("Method Not Allowed", f"{_RFC}15.5.6"),
    406: ("Not Acceptable", f"{_RFC}15.5.7"),
    415: ("Unsupported Media Type", f"{_RFC}15.5.16"),
    429: ("Too Many Requests", "https://www.rfc-editor.org/rfc/rfc6585.html#section-4"),
    500: ("Internal Server Error", f"{_RFC}15.6.1"),
    503: ("Service Unavailable", f"{_RFC}15.6.4"),
}


@dataclass(frozen=True, slots=True)
class Problem:
    """One reason of a refusal; ``where`` is a key such as ``o:errorPath`` with its value."""

    detail: str
    code: str
    where: tuple[str, str] | None = None

    def body(self) -> dict[str, str]:
        own = {"detail": self.detail}
        if self.where:
            own[self.where[0]] = self.where[1]
        return own | {"o:errorCode": self.code}


class ApiError(VendorError):
    """A refusal: a status, its reasons, and what its headers add."""

    def __init__(self, status: int, *problems: Problem, title: str = "", headers: dict[str, str] | None = None) -> None:
        super().__init__("; ".join(f"{one.code}: {one.detail}" for one in problems))
        self.status = status
        self.problems = problems
        self._title = title
        self._headers = headers or {}

    def body(self) -> dict[str, Any]:
        title, kind = _KINDS[self.status]
        return {
            "type": kind,
            "title": self._title or title,
            "status": self.status,
            "o:errorDetails": [one.body() for one in self.problems],
        }

    def reply(self) -> Reply:
        return Reply(self.status, self.body(), {"Content-Type": f"{MEDIA}error"} | self._headers)


def user_error(detail: str, path: str = "") -> ApiError:
    """A value or a record that the account's rules refuse."""
    where = ("o:errorPath", path) if path else None
    return ApiError(400, Problem(f"Error while accessing a resource. {detail}", "USER_ERROR", where))


def parameter(detail: str, name: str = "") -> ApiError:
    """A query parameter, or a query, that cannot be used."""
    return ApiError(400, Problem(detail, "INVALID_PARAMETER", ("o:errorQueryParam", name) if name else None))


def content(detail: str, path: str = "") -> ApiError:
    """A body that cannot be read."""
    return ApiError(400, Problem(detail, "INVALID_CONTENT", ("o:errorPath", path) if path else None))


def header(detail: str, name: str) -> ApiError:
    return ApiError(400, Problem(detail, "INVALID_HEADER", ("o:errorHeader", name)))


def no_record() -> ApiError:
    detail = "The record instance does not exist. Provide a valid record instance ID."
    return ApiError(
        404, Problem(f"Error while accessing a resource. Record does not exist. {detail}", "NONEXISTENT_ID")
    )


def no_type(name: str) -> ApiError:
    detail = f"Record type '{name}' does not exist."
    return ApiError(404, Problem(detail, "NONEXISTENT_RECORD_TYPE", ("o:errorUrl", name)))


def no_permission(detail: str) -> ApiError:
    return ApiError(403, Problem(detail, "INSUFFICIENT_PERMISSION"))
