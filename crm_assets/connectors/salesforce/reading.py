"""Reading: REST queries with locators for few records, Bulk API 2.0 for many.

Sources: REST API Developer Guide, "Query" and "QueryAll"; Bulk API 2.0 Developer Guide, "Query Jobs".
"""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
import pyarrow as pa

from crm_assets.connectors.salesforce import failures, places, soql, wide
from crm_assets.connectors.salesforce.cast import page_from_csv, page_from_json, page_from_reply
from crm_assets.connectors.salesforce.client import Client
from crm_assets.connectors.salesforce.equality import same
from crm_assets.core.errors import CrmAssetsError, RejectedError, RetriableError
from crm_assets.core.model import Object, Page, Value, Window

_T = TypeVar("_T")

BULK_ROWS = 50_000
"""Records a page of Bulk results: some tens of megabytes of CSV."""
_LONGEST_URL = 16_000
"""Characters of a query once it is escaped; the vendor takes 16,384 with the path."""
# The first of its name in a reply is that of the query itself.
_TOTAL = re.compile(rb'"totalSize"\s*:\s*(\d+)')
_LONGEST_POLL_S = 5.0


def records(
    client: Client, obj: Object, window: Window | None, bulk_threshold: int, after: str | None = None
) -> Iterator[Page]:
    """All records of the window (None: all there are), deleted ones that the vendor still shows included.

    A place to go on from holds the query it belongs to: another query begins anew.
    """
    conditions = soql.within(obj, window) if window is not None and obj.version_field else []
    if window is not None and not obj.version_field:
        raise RejectedError(
            f"{client.config.name}: {obj.name} has no timestamp that can be filtered by; it can only be read in full"
        )
    statement = soql.select(obj, conditions)
    place = places.parse(after, statement)
    if isinstance(place, places.InJob):
        try:
            yield from _bulk_results(client, obj, statement, place)
            return
        except RejectedError as error:
            if error.code not in failures.JOB_GONE:
                raise
            place = None
    if place is not None:
        yield from _rest(client, obj, conditions, place)
    elif len(quote(statement)) > _LONGEST_URL:
        yield from _bulk(client, obj, statement)
    elif window is not None and window.low is not None:
        # A window mostly holds little: its first page is asked for at once, and tells how much there is.
        try:
            yield from _rest(client, obj, conditions, None, bulk_threshold)
        except _TooMany:
            yield from _bulk(client, obj, statement)
    elif count(client, obj, conditions, deleted=True) > bulk_threshold:
        yield from _bulk(client, obj, statement)
    else:
        yield from _rest(client, obj, conditions, None)


def count(client: Client, obj: Object, conditions: Sequence[str], *, deleted: bool) -> int:
    """How many records match."""
    query = f"SELECT COUNT() FROM {obj.name}{soql.where(obj, conditions)}"
    return int(_query(client, obj, query, "count", deleted=deleted)["totalSize"])


def by_ids(client: Client, obj: Object, field: str, values: Sequence[str]) -> Page:
    """A primary read of named records, the recycle bin included. Absent ones are simply not in the page."""
    parts = wide.parts(obj)
    pages: list[Page] = []
    for some in _chunks(values, max(len(soql.select(part)) for part in parts)):
        pages.append(_whole(client, obj, parts, soql.any_of(field, some)))
    return _joined(obj, pages)


def _whole(client: Client, obj: Object, parts: Sequence[Object], condition: str) -> Page:
    """The records with all their fields, though it may take several queries: read again if one changed in between."""
    for _ in range(3):
        read = [
            _joined(part, list(_rest_pages(client, part, soql.select(part, [condition]), "fetch"))) for part in parts
        ]
        if len(parts) == 1:
            return read[0]
        page = wide.joined(obj, read)
        if page is not None:
            return page
    raise RetriableError(f"{client.config.name}: records of {obj.name} changed each time while they were read in parts")


def find(client: Client, obj: Object, values: Mapping[str, Value], since: datetime) -> Page:
    """Records created since then that have these values. What the vendor cannot filter by is compared here."""
    # The vendor dates a record to the second, rounded down.
    created = since - timedelta(seconds=1)
    conditions = [f"CreatedDate >= {soql.moment(created)}"]
    conditions += [c for name, value in values.items() if (c := soql.equal(obj.by_column[name], value))]
    query = f"SELECT Id FROM {obj.name}{soql.where(obj, conditions)} LIMIT 200"
    found = [record["Id"] for record in _query(client, obj, query, "fetch", deleted=True)["records"]]
    page = by_ids(client, obj, "Id", found)
    alike = [
        all(same(obj.by_column[name], value, row[name]) for name, value in values.items())
        for row in page.table.select(list(values)).to_pylist()
    ]
    return Page(page.table.filter(pa.array(alike, pa.bool_())) if values else page.table, page.poison)


def ids(client: Client, obj: Object, window: Window | None = None) -> Iterator[list[str]]:
    """All live ids (of the window), page by page, by keyset: no locator that could expire in between."""
    last = ""
    while True:
        conditions = [*([f"Id > {soql.text(last)}"] if last else []), *(soql.within(obj, window) if window else [])]
        query = f"SELECT Id FROM {obj.name}{soql.where(obj, conditions)} ORDER BY Id LIMIT 2000"
        found = [record["Id"] for record in _query(client, obj, query, "query", deleted=False)["records"]]
        if found:
            yield found
        if len(found) < 2000:
            return
        last = found[-1]


class _TooMany(Exception):
    """A query matches more records than are to be read page by page."""


def _rest(
    client: Client, obj: Object, conditions: Sequence[str], place: places.Behind | None, most: int | None = None
) -> Iterator[Page]:
    """In the order (cursor, id), so that an expired locator goes on behind the last record instead of anew.

    _TooMany before the first page if there are more records than ``most``.
    """
    order = f" ORDER BY {obj.version_field}, Id" if obj.version_field else " ORDER BY Id"
    statement = soql.select(obj, conditions)
    while True:
        behind = [] if place is None else [_behind(obj, place)]
        try:
            limit = most if place is None else None
            for page in _rest_pages(client, obj, soql.select(obj, [*conditions, *behind], order), "query", limit):
                if page.table.num_rows:
                    last = page.table.slice(page.table.num_rows - 1)
                    place = places.Behind(last["_version"][0].as_py(), last["id"][0].as_py())
                following = place.text(statement) if page.next is not None and place is not None else None
                yield replace(page, next=following)
            return
        except RejectedError as error:
            if error.code != failures.LOCATOR_EXPIRED:
                raise


def _behind(obj: Object, place: places.Behind) -> str:
    if isinstance(place.version, datetime):
        return soql.after(obj, place.version, place.id)
    return f"Id > {soql.text(place.id)}"


def _rest_pages(client: Client, obj: Object, statement: str, api: str, most: int | None = None) -> Iterator[Page]:
    def first(response: httpx.Response) -> Page:
        total = _TOTAL.search(response.content)
        if most is not None and total is not None and int(total[1]) > most:
            raise _TooMany
        return _page(client, obj, response)

    page = _asked(client, obj, statement, api, first, deleted=True)
    while True:
        yield page
        if page.next is None:
            return
        page = _page(client, obj, client.get(page.next, api, f"next page of {obj.name}"))


def _page(client: Client, obj: Object, response: httpx.Response) -> Page:
    page = page_from_reply(obj, response.content)
    if page is not None:
        return page
    body = client.json(response)
    return page_from_json(obj, body["records"], None if body["done"] else str(body["nextRecordsUrl"]))


def _query(client: Client, obj: Object, statement: str, api: str, *, deleted: bool) -> Any:
    return _asked(client, obj, statement, api, client.json, deleted=deleted)


def _asked(
    client: Client, obj: Object, statement: str, api: str, read: Callable[[httpx.Response], _T], *, deleted: bool
) -> _T:
    """What ``read`` makes of the reply; one that is cut off is asked for again."""
    path = f"{client.root}/{'queryAll' if deleted else 'query'}"
    for attempt in range(3):
        response = client.get(path, api, f"query of {obj.name}", params={"q": statement})
        try:
            return read(response)
        except RetriableError:
            if attempt == 2:
                raise
    raise AssertionError("unreachable")


def _chunks(values: Sequence[str], fixed: int) -> Iterator[Sequence[str]]:
    """As many ids a query as its URL can carry; quotes and commas are escaped to three characters each."""
    width = max((len(v) for v in values), default=18) + 9
    size = max(1, (_LONGEST_URL - fixed * 2) // width)
    for start in range(0, len(values), size):
        yield values[start : start + size]


def _joined(obj: Object, pages: Sequence[Page]) -> Page:
    tables = [page.table for page in pages] or [obj.page_schema().empty_table()]
    return Page(
        pa.concat_tables(tables),
        tuple(poison for page in pages for poison in page.poison),
        merged=tuple(pair for page in pages for pair in page.merged),
    )


def _bulk(client: Client, obj: Object, statement: str) -> Iterator[Page]:
    what = f"bulk query of {obj.name}"
    made = client.json(
        client.call(
            "POST",
            f"{client.root}/jobs/query",
            "bulk",
            what,
            writes=False,
            json={"operation": "queryAll", "query": statement, "contentType": "CSV", "lineEnding": "LF"},
        )
    )
    try:
        _wait(client, f"{client.root}/jobs/query/{made['id']}", what)
    except RejectedError:
        _drop(client, made["id"], what)
        raise
    yield from _bulk_results(client, obj, statement, places.InJob(str(made["id"]), None))


def _bulk_results(client: Client, obj: Object, statement: str, place: places.InJob) -> Iterator[Page]:
    """The pages of a finished job. A read that stops in between leaves the job, so that it can go on."""
    what = f"bulk query of {obj.name}"
    job = f"{client.root}/jobs/query/{place.job}"
    while True:
        params: dict[str, str | int] = {"maxRecords": BULK_ROWS}
        if place.locator is not None:
            params["locator"] = place.locator
        response = _results(client, job, what, params)
        following = response.headers.get("Sforce-Locator", "null")
        place = places.InJob(place.job, None if following in ("null", "") else following)
        if response.status_code != 204 and response.content:
            yield page_from_csv(obj, response.content, place.text(statement) if place.locator else None)
        if place.locator is None:
            _drop(client, place.job, what)
            return


def _drop(client: Client, job: str, what: str) -> None:
    """Kept seven days otherwise, and counted against the org. Not worth failing for."""
    with contextlib.suppress(CrmAssetsError):
        client.call("DELETE", f"{client.root}/jobs/query/{job}", "bulk", what, writes=False)


def _results(client: Client, job: str, what: str, params: dict[str, str | int]) -> httpx.Response:
    """One page. The vendor says how many records it holds; a page that is cut off is fetched again."""
    for _ in range(3):
        response = client.get(f"{job}/results", "bulk", what, params=params, headers={"Accept": "text/csv"})
        if response.status_code == 204 or response.content.endswith(b"\n") or not response.content:
            return response
    raise RetriableError(f"{client.config.name}: {what}: a page of the result was cut off three times")


def _wait(client: Client, job: str, what: str) -> None:
    """Until the job ends. The pauses wait for the vendor's work, not for its limits."""
    pause = 0.05
    while True:
        state = client.json(client.get(job, "bulk", what))
        if state["state"] == "JobComplete":
            return
        if state["state"] in ("Failed", "Aborted"):
            reason = str(state.get("errorMessage") or "no reason given")
            code = failures.UNKNOWN_FIELD if failures.UNKNOWN_FIELD in reason else ""
            raise failures.refused(f"{client.config.name}: {what}: the job is {state['state']}: {reason}", code)
        time.sleep(pause)
        pause = min(pause * 1.6, _LONGEST_POLL_S)
