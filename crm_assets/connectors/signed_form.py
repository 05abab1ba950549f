"""Webhook deliveries in the signed generic form, of vendors that have none of their own.

``X-Crm-Timestamp`` holds Unix seconds, ``X-Crm-Signature`` is ``sha256=`` and the hex HMAC-SHA256 of timestamp, a
dot and the raw body; the body is ``{"connection", "events": [{"id", "object", "record_id", "change", "at"}]}``.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from crm_assets.core.model import Change

WINDOW_S = 300


def parse(secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> Sequence[Change]:
    """PermissionError: no, a wrong or an old signature. ValueError: signed, but not of this form."""
    verify(secret, headers, body, now=now)
    return changes(json.loads(body))


def verify(secret: str, headers: Mapping[str, str], body: bytes, *, now: float | None = None) -> None:
    """PermissionError: no, a wrong or an old signature."""
    names = {name.lower(): value for name, value in headers.items()}
    stamp, signature = names.get("x-crm-timestamp", ""), names.get("x-crm-signature", "")
    expected = "sha256=" + hmac.new(secret.encode(), stamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
        raise PermissionError("the signature does not match")
    if not stamp.isdecimal() or abs((time.time() if now is None else now) - int(stamp)) > WINDOW_S:
        raise PermissionError("the delivery is older than five minutes, or from the future")


def changes(delivery: Any) -> Sequence[Change]:
    """The changes that a delivery names. ValueError: it is not of this form."""
    try:
        return [
            Change(
                event_id=words(event, "id"),
                object=words(event, "object"),
                record_id=words(event, "record_id"),
                change=words(event, "change"),
                at=datetime.fromisoformat(event["at"]) if event.get("at") else None,
            )
            for event in delivery["events"]
        ]
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the delivery is not of the documented form: {error}") from error


def words(event: Mapping[str, object], name: str) -> str:
    """A text of an event that must be there."""
    value = event[name]
    if not isinstance(value, str) or not value or "\x00" in value:
        raise ValueError(f"the event's {name} is no text")
    return value
