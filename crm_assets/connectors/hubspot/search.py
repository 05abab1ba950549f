"""Search: finds ids through an index that lags behind the records; values are always read from the records themselves.

Source: CRM search API. A search shows at most 10,000 results, and its pages are offsets into a set that changes
meanwhile. So no search here is paged: each one is for what lies behind the last id of the one before, however many
records share a time.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crm_assets.connectors.hubspot.client import OBJECTS, Client
from crm_assets.connectors.hubspot.describe import ID
from crm_assets.connectors.hubspot.kinds import kind_of
from crm_assets.connectors.hubspot.places import Found
from crm_assets.connectors.hubspot.wire import millis
from crm_assets.core.errors import ConfigurationError
from crm_assets.core.model import Object, Window

LARGEST = 200
MOST_FILTERS = 6
"""Of one group."""
_OURS = 3
"""Filters that a window and a place within it take."""

Filter = Mapping[str, Any]


def compare(name: str, operator: str, value: str) -> Filter:
    return {"propertyName": name, "operator": operator, "value": value}


def restriction(client: Client, obj: Object) -> list[Filter]:
    """``where`` of defs.yaml: the filters of one group, as JSON."""
    if obj.where is None:
        return []
    example = '[{"propertyName": "lifecyclestage", "operator": "EQ", "value": "customer"}]'
    try:
        found = json.loads(obj.where)
    except ValueError as error:
        raise ConfigurationError(
            f"{client.config.name}.{obj.table}: where is no JSON ({error}); write filters such as {example}"
        ) from error
    if not isinstance(found, list) or not all(isinstance(one, dict) and "propertyName" in one for one in found):
        raise ConfigurationError(f"{client.config.name}.{obj.table}: where is a list of filters such as {example}")
    if len(found) > MOST_FILTERS - _OURS:
        raise ConfigurationError(
            f"{client.config.name}.{obj.table}: where has {len(found)} filters; HubSpot's search leaves room for "
            f"{MOST_FILTERS - _OURS}"
        )
    return found


def within(name: str, window: Window | None) -> list[Filter]:
    """[low, high) on the cursor of a kind."""
    if window is None:
        return []
    cursor = kind_of(name).modified
    low = [] if window.low is None else [compare(cursor, "GTE", str(millis(window.low)))]
    return [*low, compare(cursor, "LT", str(millis(window.high)))]


def total(client: Client, name: str, filters: Sequence[Filter]) -> int:
    """How many records match, as the index has it."""
    return int(_search(client, name, filters, 1)["total"])


def found(client: Client, name: str, filters: Sequence[Filter], limit: int = LARGEST) -> list[str]:
    """Ids of the first records that match."""
    return [str(record["id"]) for record in _search(client, name, filters, limit)["results"]]


def by_id(client: Client, name: str, filters: Sequence[Filter], last: str | None = None) -> Iterator[Found]:
    """All ids that match (those behind ``last``), in the order of ids."""
    while True:
        behind = [] if last is None else [compare(ID, "GT", last)]
        ids = found(client, name, [*filters, *behind])
        full = len(ids) == LARGEST
        last = ids[-1] if full else None
        yield Found(ids, last)
        if not full:
            return


def _search(client: Client, name: str, filters: Sequence[Filter], limit: int) -> Any:
    body: dict[str, Any] = {
        "sorts": [{"propertyName": ID, "direction": "ASCENDING"}],
        "properties": [ID],
        "limit": limit,
    }
    if filters:
        body["filterGroups"] = [{"filters": list(filters)}]
    return client.read("POST", f"{OBJECTS}/{name}/search", "search", f"search of {name}", json=body)
