"""Properties that replies leave out: HubSpot says nothing of a name that it does not know.

Source: CRM objects API, "List": an empty property is shown as null, an unknown one is not shown at all. Taken for
null, a property that was archived, or hidden from the app, would empty its column.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from crm_assets.connectors.hubspot.client import Client
from crm_assets.connectors.hubspot.describe import live
from crm_assets.core.errors import SchemaChanged
from crm_assets.core.model import Object


class Shown:
    """Whether replies show every property that was asked for."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._never: defaultdict[str, set[str]] = defaultdict(set)
        """By kind, properties that there are though replies leave them out; they are not asked about again."""

    def check(self, obj: Object, records: Sequence[Mapping[str, Any]]) -> None:
        """SchemaChanged if the account does not have a property any more that the records of a reply lack."""
        if not records:
            return
        shown = records[-1]["properties"]
        missing = {fld.name for fld in obj.fields if fld.name not in shown} - self._never[obj.name]
        if not missing:
            return
        known = {p["name"] for p in live(self._client, obj.name)}
        if gone := sorted(missing - known):
            raise SchemaChanged(
                f"{self._client.config.name}: {obj.name} has no property {', '.join(gone)} any more",
                "PROPERTY_DOESNT_EXIST",
            )
        self._never[obj.name] |= missing
