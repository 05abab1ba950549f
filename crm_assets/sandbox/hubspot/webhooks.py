"""Webhooks, version 3: committed changes as the vendor's events, and how their deliveries are signed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import orjson

from crm_assets.sandbox.push import Event, Target

from . import clock
from .errors import PORTAL
from .store import Told

APP = 1_160_452
_ENCODED = re.compile("%(?:3A|2F|3F|40|21|24|27|28|29|2A|2C|3B)", re.IGNORECASE)
_PAUSES = 9


def events(told: Iterable[Told], numbers: Iterator[int]) -> list[Event]:
    """The events of committed changes; an ordered fault knows each by ``<object>/<subscription type>``."""
    made = []
    for one in told:
        kind = one.kind
        name = f"{kind.event or 'object'}.{one.what}"
        body: dict[str, Any] = {
            "eventId": next(numbers),
            # One subscription for each type of event.
            "subscriptionId": zlib.crc32(f"{kind.name}/{one.what}".encode()) % 1_000_000,
            "portalId": PORTAL,
            "appId": APP,
            "occurredAt": one.at,
            "subscriptionType": name,
            "attemptNumber": 0,
            **one.facts,
            "changeSource": one.source[0],
            "sourceId": one.source[1],
        }
        if not kind.event:
            body["objectTypeId"] = kind.type_id
        made.append(Event(f"{kind.name}/{name}", body))
    return made


def signed_url(url: str) -> str:
    """The URL as it goes into a signature: some encoded characters are decoded, others are not."""
    return _ENCODED.sub(lambda match: chr(int(match[0][1:], 16)), url)


def signature(secret: str, method: str, url: str, body: bytes, timestamp: str) -> str:
    """The signature of version 3."""
    text = method.encode() + signed_url(url).encode() + body + timestamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), text, hashlib.sha256).digest()).decode()


class HubSpotForm:
    """An array of up to a hundred events, signed in versions 3 and 1; whatever is not taken is tried again."""

    ordered = False
    batch = 100
    answer_seconds = 5.0

    def request(self, target: Target, bodies: Sequence[Any], attempt: int) -> tuple[bytes, dict[str, str]]:
        body = orjson.dumps([one | {"attemptNumber": attempt} for one in bodies])
        timestamp = str(clock.now())
        return body, {
            "X-HubSpot-Signature-v3": signature(target.secret, "POST", target.url, body, timestamp),
            "X-HubSpot-Request-Timestamp": timestamp,
            "X-HubSpot-Signature": hashlib.sha256(target.secret.encode() + body).hexdigest(),
            "X-HubSpot-Signature-Version": "v1",
        }

    def taken(self, answer: bytes) -> bool:
        return True

    def again(self, status: int) -> bool:
        return True

    def pauses(self) -> Iterator[float]:
        """Ten tries in all; the vendor's day is a quarter of an hour here."""
        yield from (0.1 * 3**number for number in range(_PAUSES))
