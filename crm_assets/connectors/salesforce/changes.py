"""What the vendor lists as updated and deleted, and how far its lists can be trusted.

Source: REST API Developer Guide, "sObject Get Updated" and "sObject Get Deleted". Both ignore seconds and want a
start before the end; ``latestDateCovered`` stops at the start of the oldest open transaction.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

from crm_assets.connectors.salesforce import failures
from crm_assets.connectors.salesforce.client import Client
from crm_assets.core.errors import RejectedError
from crm_assets.core.model import Bound, Deleted, Object, Window

_UPDATED_KEPT = timedelta(days=29)
_DELETED_KEPT = timedelta(days=14)
_AN_HOUR = timedelta(hours=1)
_MINUTE = timedelta(minutes=1)


def bound(client: Client, obj: Object, low: datetime | None) -> Bound:
    """latestDateCovered of getUpdated; where that is not to be had, the server's clock less a minute.

    ``quiet`` only if the vendor lists nothing since ``low`` (to the minute below it).
    """
    path = f"{client.root}/sobjects/{obj.name}/updated/"
    now = client.clock()
    since = low if low is not None and now - low < _UPDATED_KEPT else None
    start = _floor(since if since is not None else now - _AN_HOUR) - _MINUTE
    try:
        body = client.json(
            client.get(
                path,
                "updated",
                f"updated of {obj.name}",
                params={"start": _iso(start), "end": _iso(_floor(now) + 2 * _MINUTE)},
            )
        )
    except RejectedError:
        return Bound(now - _MINUTE)
    # The reply's own time: the one from before the request may be two seconds behind it.
    covered = min(_parse(body["latestDateCovered"]), client.clock())
    return Bound(covered, quiet=since is not None and not body["ids"])


def deleted(client: Client, obj: Object, window: Window) -> Iterator[Deleted]:
    """Deletions in the window as far back as the vendor keeps them (15 days); older ones are found by comparing ids."""
    now = client.clock()
    low = max(window.low or now - _DELETED_KEPT, now - _DELETED_KEPT)
    yield from _deleted(client, obj, _floor(low) - _MINUTE, _floor(max(window.high, low)) + 2 * _MINUTE)


def _deleted(client: Client, obj: Object, start: datetime, end: datetime) -> Iterator[Deleted]:
    """One call; a span with more ids than the vendor lists at once (600,000) is asked for in halves."""
    try:
        body = client.json(
            client.get(
                f"{client.root}/sobjects/{obj.name}/deleted/",
                "deleted",
                f"deleted of {obj.name}",
                params={"start": _iso(start), "end": _iso(end)},
            )
        )
    except RejectedError as error:
        middle = _floor(start + (end - start) / 2)
        if error.code != failures.TOO_MANY_IDS or middle <= start:
            raise
        yield from _deleted(client, obj, start, middle)
        yield from _deleted(client, obj, middle, end)
        return
    for item in body["deletedRecords"]:
        yield Deleted(item["id"], _parse(item["deletedDate"]))


def _floor(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(second=0, microsecond=0)


def _iso(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S+00:00")


def _parse(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)
