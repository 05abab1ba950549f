"""What scripts of the account tell the outside of a change.

The vendor has no webhooks: an account deploys a script that posts after each save. This is the form the sandbox's
script has: one change per post, signed as in :mod:`crm_assets.sandbox.signed`, and not repeated when nobody listens.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from crm_assets.sandbox.push import Event, Target
from crm_assets.sandbox.signed import sign

from . import clock
from .store import Change

ACCOUNT = "1234567_SB1"


def event(change: Change) -> Event:
    body = {
        "event": change.event,
        "recordType": change.record,
        "id": str(change.record_id),
        "at": clock.rest(change.stamp),
        "account": ACCOUNT,
    }
    return Event(change.record, body)


class ScriptForm:
    """One event per delivery; at most once."""

    ordered = False
    answer_seconds = 10.0
    batch = 1

    def request(self, target: Target, events: Sequence[Any], attempt: int) -> tuple[bytes, dict[str, str]]:
        body = json.dumps(events[0]).encode()
        timestamp = str(int(time.time()))
        return body, {"X-Crm-Timestamp": timestamp, "X-Crm-Signature": sign(target.secret, timestamp, body)}

    def taken(self, answer: bytes) -> bool:
        return True

    def again(self, status: int) -> bool:
        return False

    def pauses(self) -> Iterator[float]:
        """None: a script does not come back to what it could not tell."""
        return iter(())
