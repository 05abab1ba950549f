"""Records of one kind: lists and batch reads of the primary store, searches for what changed.

Source: CRM objects API, "List", "Read a batch", "Search". A list shows 100 records a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from crm_assets.connectors.hubspot import search, writing
from crm_assets.connectors.hubspot.cast import page_of
from crm_assets.connectors.hubspot.client import OBJECTS, Client
from crm_assets.connectors.hubspot.describe import ID, MERGED
from crm_assets.connectors.hubspot.equality import same
from crm_assets.connectors.hubspot.failures import NOT_FOUND, explain
from crm_assets.connectors.hubspot.kinds import kind_of
from crm_assets.connectors.hubspot.wire import filter_text, millis
from crm_assets.core.errors import RejectedError
from crm_assets.core.model import Deleted, FieldType, Mutation, Object, Outcome, Page, Value, Window

AT_ONCE = 100
"""Records of one page of a list, and of one batch."""

_LONGEST_NAMES = 6_000
"""Characters of property names that fit into a URL; beyond, the names go into the body of batch reads."""
_MOST_FOUND = 200


class Records:
    """Answers about contacts, deals and all other kinds that have properties.

    ``sweep`` is how often a large archive is looked through as a whole, ``shallow`` how many of its pages are looked
    at each time.
    """

    def __init__(self, client: Client, sweep: timedelta, shallow: int) -> None:
        self._client = client
        self._sweep = sweep
        self._shallow = shallow

    def read(self, obj: Object, window: Window | None) -> Iterator[Page]:
        if window is not None:
            return self._named(obj, self.ids(obj, window))
        if obj.where is None and len(",".join(_names(obj))) <= _LONGEST_NAMES:
            return self._listed(obj)
        return self._named(obj, self.ids(obj, None))

    def _listed(self, obj: Object) -> Iterator[Page]:
        for records in _list(self._client, obj.name, _names(obj)):
            yield page_of(obj, records)

    def _named(self, obj: Object, found: Iterator[Sequence[str]]) -> Iterator[Page]:
        """Full records of the ids: what a search finds is read from the records, never from its index."""
        waiting: list[str] = []
        for ids in found:
            waiting += ids
            while len(waiting) >= AT_ONCE:
                yield self.fetch(obj, waiting[:AT_ONCE])
                waiting = waiting[AT_ONCE:]
        if waiting:
            yield self.fetch(obj, waiting)

    def ids(self, obj: Object, window: Window | None) -> Iterator[Sequence[str]]:
        filters = search.restriction(self._client, obj)
        if window is not None:
            yield from search.changed(self._client, obj.name, filters, window)
        elif filters:
            yield from search.by_id(self._client, obj.name, filters)
        else:
            yield from self.all_ids(obj.name)

    def all_ids(self, name: str) -> Iterator[list[str]]:
        """Ids of all live records of a kind, in their order."""
        for records in _list(self._client, name, [ID]):
            yield [str(record["id"]) for record in records]

    def fetch(self, obj: Object, ids: Sequence[str]) -> Page:
        """Archived records are absent, as are those that were merged away: HubSpot shows their survivor."""
        return page_of(obj, self._batch(obj, ids))

    def lookup(self, obj: Object, row_ids: Sequence[str]) -> Page:
        alive = self._batch(obj, row_ids, obj.external_id)
        present = {record["properties"].get(obj.external_id) for record in alive}
        missing = [row_id for row_id in row_ids if row_id not in present]
        archived = self._batch(obj, missing, obj.external_id, archived=True) if missing else []
        return page_of(obj, [*alive, *archived])

    def find(self, obj: Object, values: Mapping[str, Value], since: datetime) -> Page:
        filters = [search.compare(kind_of(obj.name).created, "GTE", str(millis(since)))]
        for column, value in values.items():
            fld = obj.by_column[column]
            # What the index cannot be asked for, or has no room for, is compared below.
            if value in (None, "") or (fld.type is FieldType.TEXT and len(str(value)) > _MOST_FOUND):
                continue
            if len(filters) < search.MOST_FILTERS:
                filters.append(search.compare(fld.name, "EQ", filter_text(value)))
        ids = search.found(self._client, obj.name, filters, _MOST_FOUND)
        page = page_of(obj, self._batch(obj, ids))
        alike = [
            all(same(obj.by_column[column], value, row[column]) for column, value in values.items())
            for row in page.table.select(list(values)).to_pylist()
        ]
        return Page(page.table.filter(alike) if values else page.table, page.poison)

    def count(self, obj: Object, window: Window | None) -> int:
        filters = search.restriction(self._client, obj)
        return search.total(self._client, obj.name, [*filters, *search.within(obj.name, window)])

    def deletes(self, obj: Object, window: Window) -> Iterator[Deleted]:
        """Archived records, by the time they were archived at: the list has no filter and stands in order of ids.

        A large archive is looked through as a whole only by the window in which the sweep falls due, for all that
        was archived since the sweep before; the others look at its first pages.
        """
        low, due = window.low, self._due(window)
        if due and low is not None:
            low -= self._sweep
        for number, records in enumerate(_list(self._client, obj.name, [ID], archived=True), 1):
            for record in records:
                at = datetime.fromisoformat(record.get("archivedAt") or record["updatedAt"])
                if low is None or at >= low:
                    yield Deleted(str(record["id"]), at)
            if number == self._shallow and not due:
                return

    def _due(self, window: Window) -> bool:
        """Whether a sweep falls into the window. Windows follow each other without a gap, so none is left out."""
        if window.low is None or not self._sweep:
            return True
        every = self._sweep // timedelta(milliseconds=1)
        return millis(window.low) // every != millis(window.high) // every

    def write(self, obj: Object, mutations: Sequence[Mutation]) -> Sequence[Outcome]:
        return writing.write(self._client, obj, mutations)

    def _batch(
        self, obj: Object, ids: Sequence[str], by: str | None = None, *, archived: bool = False
    ) -> list[dict[str, Any]]:
        """Primary read of named records; absent ones are simply not there."""
        records: list[dict[str, Any]] = []
        for start in range(0, len(ids), AT_ONCE):
            body: dict[str, Any] = {
                "properties": _names(obj),
                "propertiesWithHistory": [],
                "inputs": [{"id": one} for one in ids[start : start + AT_ONCE]],
            }
            if by is not None:
                body["idProperty"] = by
            reply = self._client.read(
                "POST",
                f"{OBJECTS}/{obj.name}/batch/read",
                "fetch",
                f"batch read of {obj.name}",
                params={"archived": "true"} if archived else None,
                json=body,
            )
            for error in reply.get("errors") or ():
                if error.get("category") != NOT_FOUND:
                    raise RejectedError(
                        f"{self._client.config.name}: batch read of {obj.name}: {explain(error)}",
                        str(error.get("category") or ""),
                    )
            records += reply["results"]
        return records


def _names(obj: Object) -> list[str]:
    """Properties to ask for; which records were merged into one is asked whatever fields are synced."""
    names = [fld.name for fld in obj.fields]
    return names if MERGED in names else [*names, MERGED]


def _list(client: Client, name: str, names: Sequence[str], *, archived: bool = False) -> Iterator[list[dict[str, Any]]]:
    """The primary store page by page, in the order of ids."""
    params: dict[str, str | int] = {"limit": AT_ONCE, "properties": ",".join(names)}
    if archived:
        params["archived"] = "true"
    while True:
        body = client.read("GET", f"{OBJECTS}/{name}", "list", f"list of {name}", params=params)
        yield body["results"]
        after = ((body.get("paging") or {}).get("next") or {}).get("after")
        if after is None:
            return
        params["after"] = str(after)
