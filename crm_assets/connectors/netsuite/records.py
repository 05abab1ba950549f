"""Records of one table, read by SuiteQL: whole, by window, by id; and what was deleted.

Source: "SuiteQL"; "Deleted Record Search". SuiteQL reads the records themselves, no index that may be behind.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from zoneinfo import ZoneInfo

import pyarrow as pa

from crm_assets.connectors.netsuite import suiteql
from crm_assets.connectors.netsuite.cast import Reply, in_utc, page_of, reply_of
from crm_assets.connectors.netsuite.client import LARGEST_PAGE, Client
from crm_assets.connectors.netsuite.describe import CREATED, readable
from crm_assets.connectors.netsuite.equality import same
from crm_assets.connectors.netsuite.kinds import kind_of
from crm_assets.connectors.netsuite.suiteql import Query
from crm_assets.core.errors import ObjectUnavailable, RejectedError, SchemaChanged
from crm_assets.core.model import Deleted, Object, Page, Value, Window

AT_ONCE = 500
"""Ids that one query names."""


class Records:
    """Answers about customers, orders and all other records that are not part of another one."""

    def __init__(self, client: Client, zone: ZoneInfo) -> None:
        self._client = client
        self._zone = zone

    def read(self, obj: Object, window: Window | None, after: str | None) -> Iterator[Page]:
        query = self._query(obj, self._in(obj, window))
        for reply in self._replies(obj, query, query.behind(after)):
            yield page_of(kind_of(obj.name), obj, reply, self._zone, query.place(reply.last()))

    def fetch(self, obj: Object, ids: Sequence[str]) -> Page:
        """Ids that are no numbers are nobody's."""
        return self._named(obj, "id", [suiteql.number(one) for one in ids if one.isascii() and one.isdecimal()])

    def lookup(self, obj: Object, row_ids: Sequence[str]) -> Page:
        return self._named(obj, "externalid", [suiteql.text(row_id) for row_id in row_ids])

    def find(self, obj: Object, values: Mapping[str, Value], since: datetime) -> Page:
        """Looked through one by one: few records are as new as a write whose reply was lost."""
        kind = kind_of(obj.name)
        created = next((name for name in CREATED if name in obj.by_name), None)
        if created is None:
            raise RejectedError(
                f"{self._client.config.name}: {obj.name} does not tell when its records were created; "
                "give it an external_id in defs.yaml, or sync that field"
            )
        start = suiteql.instant(since.replace(microsecond=0), self._zone)
        query = self._query(obj, [f"{kind.column(created)} >= {start}"])
        found: list[pa.Table] = []
        for reply in self._replies(obj, query):
            page = page_of(kind, obj, reply, self._zone)
            alike = [
                all(same(obj.by_column[column], value, row[column]) for column, value in values.items())
                for row in page.table.to_pylist()
            ]
            found.append(page.table.filter(pa.array(alike, pa.bool_())))
        return Page(pa.concat_tables(found).slice(0, LARGEST_PAGE))

    def count(self, obj: Object, window: Window | None) -> int:
        kind = kind_of(obj.name)
        where = [*suiteql.restriction(kind, obj), *self._in(obj, window)]
        (row,) = self._client.rows(suiteql.counting(kind.table, where), f"count of {obj.name}")
        return int(row["n"])

    def ids(self, obj: Object, window: Window | None, behind: str | None = None) -> Iterator[Reply]:
        """Ids alone, a page at a time."""
        kind = kind_of(obj.name)
        where = (*suiteql.restriction(kind, obj), *self._in(obj, window))
        query = Query(kind.table, "id", where)
        return pages(self._client, query, ["id"], f"ids of {obj.name}", behind)

    def deletes(self, obj: Object, window: Window) -> Iterator[Deleted]:
        """What DeletedRecord lists, which keeps it for ever."""
        types = [suiteql.text(name.lower()) for name in kind_of(obj.name).types]
        where = (suiteql.among("LOWER(type)", types), *suiteql.within("deleteddate", window, self._zone))
        query = Query("deletedrecord", f"recordid, {suiteql.moment('deleteddate')} AS at", where, "recordid")
        try:
            for reply in pages(self._client, query, ["recordid", "at"], f"deletions of {obj.name}"):
                moments = in_utc(reply.columns["at"], self._zone).to_pylist()
                for record_id, at in zip(reply.columns["recordid"].to_pylist(), moments, strict=True):
                    yield Deleted(record_id, datetime.fromisoformat(at))
        except RejectedError as error:
            raise ObjectUnavailable(
                f"{error}; give the integration's role the permission Lists > Deleted Records", error.code
            ) from error

    def _in(self, obj: Object, window: Window | None) -> list[str]:
        if window is None or obj.version_field is None:
            return []
        return suiteql.within(kind_of(obj.name).column(obj.version_field), window, self._zone)

    def _query(self, obj: Object, where: Sequence[str]) -> Query:
        kind = kind_of(obj.name)
        return Query(kind.table, suiteql.columns(kind, obj), (*suiteql.restriction(kind, obj), *where))

    def _replies(self, obj: Object, query: Query, behind: str | None = None) -> Iterator[Reply]:
        kind = kind_of(obj.name)
        names = ["id", *(kind.column(f.name) for f in obj.fields)]
        try:
            yield from pages(self._client, query, names, f"query of {obj.name}", behind)
        except ObjectUnavailable:
            raise
        except RejectedError as error:
            if readable(self._client, kind.table, names[1:]):
                raise
            raise SchemaChanged(str(error), error.code) from error

    def _named(self, obj: Object, column: str, literals: Sequence[str]) -> Page:
        """Primary read of named records; absent ones are simply not there."""
        kind = kind_of(obj.name)
        found: list[Page] = []
        for start in range(0, len(literals), AT_ONCE):
            query = self._query(obj, [suiteql.among(column, literals[start : start + AT_ONCE])])
            found += [page_of(kind, obj, reply, self._zone) for reply in self._replies(obj, query)]
        tables = [page.table for page in found] or [obj.page_schema().empty_table()]
        return Page(pa.concat_tables(tables), tuple(poison for page in found for poison in page.poison))


def pages(client: Client, query: Query, names: list[str], what: str, behind: str | None = None) -> Iterator[Reply]:
    """All rows behind a key, each once, a page at a time; the last page says that there are no more."""
    while True:
        reply = reply_of(client.suiteql(query.page(behind), what), names)
        yield reply
        behind = reply.last(query.key)
        if behind is None:
            return
