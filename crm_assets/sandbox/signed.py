"""The generic signed form of a delivery: for vendors whose own events need more than a web address."""

from __future__ import annotations

import hashlib
import hmac
import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from .push import Target


def sign(secret: str, timestamp: str, body: bytes) -> str:
    """The signature of a delivery: over its time and its exact bytes."""
    return "sha256=" + hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()


class SignedForm:
    """``{"connection", "events"}``, signed with a time. Only what may pass by itself is tried again."""

    ordered = True
    batch = 100
    answer_seconds = 10.0

    def __init__(self, connection: str) -> None:
        self._connection = connection

    def request(self, target: Target, events: Sequence[Any], attempt: int) -> tuple[bytes, dict[str, str]]:
        body = json.dumps({"connection": self._connection, "events": list(events)}).encode()
        # Signed anew for each attempt: receivers refuse old timestamps.
        timestamp = str(int(time.time()))
        return body, {"X-Crm-Timestamp": timestamp, "X-Crm-Signature": sign(target.secret, timestamp, body)}

    def taken(self, answer: bytes) -> bool:
        return True

    def again(self, status: int) -> bool:
        return status >= 500 or status == 429

    def pauses(self) -> Iterator[float]:
        """Doubling, for about a minute."""
        yield from (min(0.1 * 2**number, 10.0) for number in range(12))
