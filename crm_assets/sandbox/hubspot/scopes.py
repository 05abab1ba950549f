"""The scopes of the app: what it may read and write."""

from __future__ import annotations

from collections.abc import Iterator

from .errors import ApiError
from .kinds import KINDS, Kind, find

READING = frozenset({"search", "batch_read", "associations_batch_read"})
"""Calls that change nothing, though they are no GET."""
_OWNERS = "crm.objects.owners.read"
_CUSTOM = "crm.objects.custom"


def _of(kind: Kind, action: str) -> str:
    """Activities come with the contacts they are about."""
    name = "contacts" if kind.required == ("hs_timestamp",) else kind.name
    return f"crm.objects.{name}.{action}"


def _all() -> Iterator[str]:
    yield from ("oauth", "e-commerce", "tickets", "sales-email-read", _OWNERS)
    yield from (f"{_CUSTOM}.read", f"{_CUSTOM}.write", "crm.schemas.custom.read")
    for kind in KINDS:
        yield from (_of(kind, "read"), _of(kind, "write"), f"crm.schemas.{kind.name}.read")


class Scopes:
    """A fresh app has all of them."""

    def __init__(self) -> None:
        self.granted = frozenset(_all())

    def grant(self, names: list[str] | None) -> None:
        """Gives the app these scopes and no others; None: all."""
        self.granted = frozenset(_all() if names is None else names)

    def refusal(self, method: str, path: str, api: str, type: str | None) -> ApiError | None:
        """Why a call on records or owners may not go on."""
        if path.startswith("/crm/v3/owners"):
            wanted = _OWNERS
        elif type is not None and path.startswith("/crm/v3/objects"):
            action, kind = "read" if method == "GET" or api in READING else "write", find(type)
            wanted = _of(kind, action) if kind else f"{_CUSTOM}.{action}"
        else:
            return None
        if wanted in self.granted:
            return None
        message = "This app hasn't been granted all required scopes to make this call."
        detail = {"message": message, "context": {"requiredGranularScopes": [wanted]}}
        return ApiError(403, message, "MISSING_SCOPES", extra={"errors": [detail]})
