"""Records of one kind: lists and batch reads of the primary store, searches for what changed.

Source: CRM objects API, "List", "Read a batch", "Search". A list shows 100 records a call.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pyarrow as pa

from crm_assets.connectors.hubspot import listing, search, writing
from crm_assets.connectors.hubspot.cast import page_of, page_of_lists
from crm_assets.connectors.hubspot.client import OBJECTS, Client
from crm_assets.connectors.hubspot.describe import ID, MERGED
from crm_assets.connectors.hubspot.equality import same
from crm_assets.connectors.hubspot.failures import NOT_FOUND, explain
from crm_assets.connectors.hubspot.kinds import kind_of
from crm_assets.connectors.hubspot.listing import AT_ONCE, Reply
from crm_assets.connectors.hubspot.places import Found, behind, place
from crm_assets.connectors.hubspot.shown import Shown
from crm_assets.connectors.hubspot.wire import filter_text, millis
from crm_assets.core.errors import RejectedError
from crm_assets.core.model import Deleted, FieldType, Mutation, Object, Outcome, Page, Value, Window

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
        self._shown = Shown(client)

    def read(self, obj: Object, window: Window | None, after: str | None) -> Iterator[Page]:
        names = _names(obj)
        if window is None and obj.where is None and len(",".join(names)) <= _LONGEST_NAMES:
            yield from self._listed(obj, listing.replies(self._client, obj.name, names, behind(obj, after)))
            return
        # What a search finds is read from the records, never from its index.
        for found in self._found(obj, window, behind(obj, after)):
            yield replace(self.fetch(obj, found.ids), next=place(obj, found.behind))

    def _listed(self, obj: Object, replies: Iterator[Reply]) -> Iterator[Page]:
        for some in listing.together(replies):
            self._shown.check(obj, some[-1].records)
            page = page_of_lists(obj, [reply.body for reply in some])
            if page is not None:
                yield replace(page, next=place(obj, some[-1].mark))
                continue
            for reply in some:
                yield replace(page_of(obj, reply.records), next=place(obj, reply.mark))

    def _found(self, obj: Object, window: Window | None, start: str | None = None) -> Iterator[Found]:
        filters = [*search.restriction(self._client, obj), *search.within(obj.name, window)]
        if filters:
            return search.by_id(self._client, obj.name, filters, start)
        return self.listed(obj.name, start)

    def listed(self, name: str, start: str | None = None) -> Iterator[Found]:
        """Ids of all live records of a kind, in their order."""
        for reply in listing.replies(self._client, name, [ID], start):
            yield Found([str(record["id"]) for record in reply.records], reply.mark)

    def ids(self, obj: Object, window: Window | None) -> Iterator[Sequence[str]]:
        for found in self._found(obj, window):
            yield found.ids

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
        return Page(page.table.filter(pa.array(alike, pa.bool_())) if values else page.table, page.poison)

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
        for number, reply in enumerate(listing.replies(self._client, obj.name, [ID], archived=True), 1):
            for record in reply.records:
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
            self._shown.check(obj, reply["results"])
            records += reply["results"]
        return records


def _names(obj: Object) -> list[str]:
    """Properties to ask for; which records were merged into one is asked whatever fields are synced."""
    names = [fld.name for fld in obj.fields]
    return names if MERGED in names else [*names, MERGED]
