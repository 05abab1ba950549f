"""Objects of the account's own: how events and paths call them.

Source: CRM custom objects API, "Retrieve existing custom objects". Paths take the full name (``p48210_machine``),
events carry the type id (``2-100``), and associations the plain name.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping
from typing import Any

from crm_assets.connectors.hubspot.client import SCHEMAS, Client
from crm_assets.core.errors import CrmAssetsError, ObjectUnavailable

log = logging.getLogger(__name__)

_ASK_AGAIN_SECONDS = 60.0


class Schemas:
    """The account's own objects, asked for when a name is not known, at most once a minute."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._names: Mapping[str, str] = {}
        self._asked = float("-inf")
        self._lock = threading.Lock()

    def all(self) -> list[Mapping[str, Any]]:
        """The schemas as HubSpot tells them; none without the right to see them."""
        try:
            body = self._client.read("GET", SCHEMAS, "describe", "custom objects")
        except ObjectUnavailable:
            return []
        return [one for one in body["results"] if not one.get("archived")]

    def find(self, name: str) -> Mapping[str, Any] | None:
        """The schema of an object by any of its names."""
        return next((one for one in self.all() if name in _names(one)), None)

    def name_of(self, called: str) -> str | None:
        """The full name of an object that an event calls by its type id or its plain name; None if there is none, or if
        HubSpot cannot be asked: an event is a hint, and what it was about is read in time all the same."""
        with self._lock:
            if called not in self._names and time.monotonic() - self._asked > _ASK_AGAIN_SECONDS:
                self._asked = time.monotonic()
                try:
                    found = self.all()
                except CrmAssetsError as error:
                    log.warning("an event of the object %s is left to the schedule: %s", called, error)
                    return None
                self._names = {name: one["fullyQualifiedName"] for one in found for name in _names(one)}
            return self._names.get(called)


def _names(schema: Mapping[str, Any]) -> tuple[str, str, str]:
    return schema["fullyQualifiedName"], schema["objectTypeId"], schema["name"]
