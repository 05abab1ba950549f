"""Calls of the data resources, and who answers them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import simplejson

from crm_assets.sandbox.http import Reply
from crm_assets.sandbox.routes import Routes

from .errors import ApiError, error, not_found

Headers = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Call:
    """One API call after authentication; sub-calls of a composite look the same."""

    method: str
    path: str
    version: str
    query: Mapping[str, str] = field(default_factory=dict)
    headers: Headers = field(default_factory=dict)
    body: bytes = b""
    late: float = 0.0
    half: bool = False

    @property
    def base(self) -> str:
        return f"/services/data/v{self.version}"

    def json(self) -> Any:
        """The body as JSON, or the vendor's parser error."""
        try:
            return simplejson.loads(self.body)
        except ValueError as failed:
            raise error(400, "JSON_PARSER_ERROR", f"{failed}") from None

    def record(self) -> dict[str, Any]:
        """The body as one JSON object."""
        body = self.json()
        if not isinstance(body, dict):
            raise error(400, "JSON_PARSER_ERROR", "Cannot deserialize: an object is needed at [line:1, column:1]")
        return body


def refused(failed: ApiError) -> Reply:
    return failed.reply()


class Router(Routes):
    """The resources below ``/services/data/v…/``."""

    def answer(self, call: Call) -> Reply:
        """The reply to a call; refusals become their bodies."""
        try:
            found = self.find(call.method, call.path)
            if found is not None:
                return found.handler(call, **found.arguments)
            if self.knows(call.path):
                allowed = "HTTP Method '" + call.method + "' not allowed."
                raise error(405, "METHOD_NOT_ALLOWED", allowed)
            raise not_found()
        except ApiError as failed:
            return refused(failed)
