"""The Tooling API, as far as it tells what is chosen in Change Data Capture."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from crm_assets.sandbox.http import Reply

from . import ids
from .errors import error
from .wire import Call, Router

_QUERY = re.compile(
    r"\s*SELECT\s+(?P<fields>[\w\s,]+?)\s+FROM\s+PlatformEventChannelMember"
    r"(?:\s+WHERE\s+EventChannel\s*=\s*'(?P<channel>\w+)')?\s*",
    re.IGNORECASE,
)
_NAME = "PlatformEventChannelMember"
_FIELDS = ("Id", "DeveloperName", "EventChannel", "SelectedEntity")
_CHANNEL = "ChangeEvents"
_PREFIX = "0v8"


class Tooling:
    """``tooling/query``, of one object and with no condition but the channel. ``chosen`` names change events."""

    def __init__(self, chosen: Callable[[], Iterable[str]]) -> None:
        self._chosen = chosen

    def routes(self, router: Router) -> None:
        router.add("GET", "tooling/query", "tooling", self.query)

    def query(self, call: Call) -> Reply:
        match = _QUERY.fullmatch(call.query.get("q", ""))
        if match is None:
            raise error(400, "MALFORMED_QUERY", f"only {_NAME} can be queried here, by EventChannel or whole")
        named = {one.lower(): one for one in _FIELDS}
        fields = [part.strip() for part in match["fields"].split(",")]
        for field in fields:
            if field.lower() not in named:
                raise error(400, "INVALID_FIELD", f"No such column '{field}' on entity '{_NAME}'.")
        entities = list(self._chosen()) if match["channel"] in (None, _CHANNEL) else []
        records = []
        for number, entity in enumerate(entities, 1):
            record_id = ids.make(_PREFIX, number)
            row = {
                "Id": record_id,
                "DeveloperName": f"{_CHANNEL}_{entity}",
                "EventChannel": _CHANNEL,
                "SelectedEntity": entity,
            }
            url = f"{call.base}/tooling/sobjects/{_NAME}/{record_id}"
            shown = {named[field.lower()]: row[named[field.lower()]] for field in fields}
            records.append({"attributes": {"type": _NAME, "url": url}} | shown)
        body = {"size": len(records), "totalSize": len(records), "done": True, "queryLocator": None}
        return Reply(body=body | {"entityTypeName": _NAME, "records": records})
