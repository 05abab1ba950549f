"""Webhook deliveries: the v3 signature, and which records the events are about.

Source: Webhooks API, "Webhook notifications"; "Validating requests", version 3. The signature covers method, URL, body
and time, under the app's client secret. Events come in any order and more than once; their ids alone are not unique.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from crm_assets.connectors.hubspot.kinds import BY_SINGULAR, BY_TYPE_ID, Kind, edge_name, kind_of
from crm_assets.core.model import Change

OLDEST_MS = 300_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# Before signing, HubSpot decodes these characters of the URL and no others.
_DECODED = {f"%{ord(c):02X}": c for c in ":/?@!$'()*,;"}


def parse(
    secret: str,
    headers: Mapping[str, str],
    body: bytes,
    urls: Iterable[str],
    custom: Callable[[str], str | None] = lambda called: None,
    *,
    now_ms: float | None = None,
) -> Sequence[Change]:
    """PermissionError: no, a wrong or an old signature. ValueError: signed, but not of this form.

    ``urls`` are what HubSpot may have called: a proxy in between can hide it. A signature fits one of them or none.
    ``custom`` names an object of the account's own by its type id or its plain name.
    """
    names = {name.lower(): value for name, value in headers.items()}
    stamp, signature = names.get("x-hubspot-request-timestamp", ""), names.get("x-hubspot-signature-v3", "")
    # Checked against all of them, so that the time it takes does not tell which came near.
    fits = [hmac.compare_digest(sign(secret, url, body, stamp).encode(), signature.encode()) for url in urls]
    if not any(fits):
        raise PermissionError("the v3 signature does not match the secret, the body and the URL that was called")
    now = time.time() * 1000 if now_ms is None else now_ms
    if not stamp.isdecimal() or abs(now - int(stamp)) > OLDEST_MS:
        raise PermissionError("the delivery is older than five minutes, or from the future")
    events = json.loads(body)
    if not isinstance(events, list):
        raise ValueError("the delivery is no list of events")
    try:
        return [change for event in events for change in _changes(event, custom)]
    except (KeyError, TypeError, AttributeError, OverflowError) as error:
        raise ValueError(f"an event is not of the documented form: {type(error).__name__}") from error


def sign(secret: str, url: str, body: bytes, stamp: str) -> str:
    """The v3 signature of a POST."""
    for encoded, plain in _DECODED.items():
        url = url.replace(encoded, plain).replace(encoded.lower(), plain)
    message = b"POST" + url.encode() + body + stamp.encode()
    return base64.b64encode(hmac.new(secret.encode(), message, hashlib.sha256).digest()).decode()


def called(url: str, headers: Mapping[str, str], configured: str | None) -> list[str]:
    """What the sender may have called: the configured URL, else what arrived, also as a proxy says it was before."""
    if configured:
        return [configured]
    names = {name.lower(): value for name, value in headers.items()}
    parts = urlsplit(url)
    scheme = names.get("x-forwarded-proto", parts.scheme).partition(",")[0].strip()
    host = names.get("x-forwarded-host", parts.netloc).partition(",")[0].strip()
    return list(dict.fromkeys((url, urlunsplit((scheme, host, parts.path, parts.query, "")))))


def _changes(event: Mapping[str, Any], custom: Callable[[str], str | None]) -> Iterator[Change]:
    """The records to read again. Events of kinds that are not known here name none."""

    def known(called: str, kinds: Mapping[str, Kind]) -> Kind | None:
        found = kinds.get(called)
        name = custom(called) if found is None and called else None
        return kind_of(name) if name else found

    subscription = str(event.get("subscriptionType") or event["eventType"])
    singular, _, what = subscription.partition(".")
    at = _EPOCH + timedelta(milliseconds=int(event["occurredAt"]))
    type_id = str(event.get("objectTypeId") or "")
    kind = known(type_id, BY_TYPE_ID) if singular == "object" else BY_SINGULAR.get(singular)
    if what == "associationChange":
        first, _, second = str(event["associationType"]).lower().partition("_to_")
        yield from _association(event, subscription, known(first, BY_SINGULAR) or kind, known(second, BY_SINGULAR), at)
        return
    if kind is None:
        return
    records = {_id(event["objectId"])} if "objectId" in event else set()
    if what == "merge":
        records |= {_id(event[name]) for name in ("primaryObjectId", "newObjectId") if event.get(name)}
        records |= {_id(loser) for loser in event.get("mergedObjectIds") or ()}
    if not records:
        raise KeyError("objectId")
    for record_id in sorted(records):
        yield Change(f"{_event_id(event, subscription)}:{record_id}", kind.name, record_id, what, at)


def _association(
    event: Mapping[str, Any], subscription: str, start: Kind | None, end: Kind | None, at: datetime
) -> Iterator[Change]:
    """Both directions, each as a table of its own that is read from its first record."""
    if start is None or end is None:
        return
    for one, other, record_id in (
        (start, end, _id(event["fromObjectId"])),
        (end, start, _id(event["toObjectId"])),
    ):
        name = edge_name(one.name, other.name)
        yield Change(f"{_event_id(event, subscription)}:{name}:{record_id}", name, record_id, "associationChange", at)


def _event_id(event: Mapping[str, Any], subscription: str) -> str:
    """The same for each repetition of an event. Its own id is not unique, and the number of the attempt changes."""
    named = event.get("objectId") or f"{event.get('fromObjectId')}-{event.get('toObjectId')}"
    return f"{event.get('portalId')}:{subscription}:{named}:{event.get('eventId')}:{event['occurredAt']}"


def _id(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | str) or not str(value).isalnum():
        raise ValueError("a record's id in the event is no number")
    return str(value)
