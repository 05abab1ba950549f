"""Search: ``POST /crm/v3/objects/{type}/search``.

Answers come from an index that runs behind the records by the store's ``index_lag``, in milliseconds, and never has
archived ones. What is newer than that is seen as it was before, from the table of lagging states.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from crm_assets.sandbox.http import Reply
from crm_assets.sandbox.routes import Routes

from . import clock, filters
from .errors import invalid
from .kinds import Kind
from .properties import Property
from .records import Records
from .shape import Shape
from .store import Row
from .wire import Call, limit, page, strings

WINDOW = 10_000
_MOST = 200


class Search:
    """Finds records by their values, as they were a moment ago."""

    def __init__(self, records: Records) -> None:
        self._store = records.store
        self._schema = records.schema

    def routes(self, routes: Routes) -> None:
        routes.add("POST", "/crm/v3/objects/{type}/search", "search", self.search)

    def search(self, call: Call, type: str) -> Reply:
        kind, body = self._schema.kind(type), call.body()
        live = self._schema.live(kind)
        size = limit(body.get("limit"), 10, _MOST)
        after = str(body.get("after") or "0")
        if not after.isdigit():
            raise invalid(f"after: {after} is no number")
        start = int(after)
        if start + size > WINDOW:
            raise invalid(f"A search returns the first {WINDOW} results only; paging beyond them is not possible")
        where, params = filters.conditions(kind, live, body)
        order, key = _sort(kind, live, body.get("sorts"))
        with self._store.snapshot() as db:
            arms, held = self._arms(db, kind, where, params)
            total = sum(
                db.execute(f"SELECT count(*) FROM {arm}", held[at]).fetchone()[0] for at, arm in enumerate(arms)
            )
            union = " UNION ALL ".join(f"SELECT id, props, updated, {key} AS sort_key FROM {arm}" for arm in arms)
            found = db.execute(
                f"{union} ORDER BY {order} LIMIT ? OFFSET ?", (*(one for some in held for one in some), size, start)
            ).fetchall()
        shape = Shape(kind, live, strings(body.get("properties")))
        made = [shape.record(Row(one[0], one[1], one[2], None, None)) for one in found]
        following = start + size if start + len(made) < total else None
        return page(made, following, call.request, total=total)

    def _arms(
        self, db: sqlite3.Connection, kind: Kind, where: str, params: list[Any]
    ) -> tuple[list[str], list[list[Any]]]:
        """Where to look, with the parameters of each place: the records, and the states the index still has."""
        since = clock.now() - self._store.index_lag.most
        more = f" AND ({where})" if where else ""
        records = f"{kind.name} WHERE archived IS NULL AND merged IS NULL"
        lagging = "lagging WHERE kind = ? AND at > ?"
        if db.execute(f"SELECT 1 FROM {lagging} LIMIT 1", (kind.name, since)).fetchone() is None:
            return [records + more], [params]
        # Of several states the index misses, it has the one before the first.
        first = f"SELECT min(rowid) FROM {lagging} GROUP BY id"
        old = f"lagging WHERE rowid IN ({first}) AND props NOTNULL{more}"
        apart = f"{records} AND id NOT IN (SELECT id FROM {lagging}){more}"
        return [apart, old], [[kind.name, since, *params], [kind.name, since, *params]]


def _sort(kind: Kind, live: Mapping[str, Property], sorts: Any) -> tuple[str, str]:
    """The order of the results, and what it is by."""
    if not sorts:
        return "id", "NULL"
    if not isinstance(sorts, list) or len(sorts) > 1:
        raise invalid("A search has one sort at most")
    if isinstance(sorts[0], dict):
        name = str(sorts[0].get("propertyName"))
        falling = str(sorts[0].get("direction") or "ASCENDING") == "DESCENDING"
    else:
        text = str(sorts[0])
        name, falling = text.removeprefix("-"), text.startswith("-")
    one = live.get(name)
    if one is None:
        raise invalid(f"There is no property {name} to sort {kind.name} by", propertyName=[name])
    direction = " DESC" if falling else ""
    return f"sort_key{direction}, id{direction}", filters.column(kind, one)[0]
