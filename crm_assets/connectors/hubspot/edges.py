"""Associations as records of their own: one for each pair of records and type of association.

Source: Associations API v4. Associations carry no time of change and are read from their first record, so that one
read tells of all that a record has. A pair that is associated at all has an unlabelled type; labels come on top.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa

from crm_assets.connectors.cast import typed_page
from crm_assets.connectors.hubspot import search
from crm_assets.connectors.hubspot.client import ASSOCIATIONS, Client
from crm_assets.connectors.hubspot.failures import NOT_FOUND, explain
from crm_assets.connectors.hubspot.kinds import edge
from crm_assets.connectors.hubspot.places import Found, behind, place
from crm_assets.connectors.hubspot.records import Records
from crm_assets.core.errors import ObjectUnavailable, RejectedError
from crm_assets.core.model import Field, FieldType, Object, Page, Value, Window
from crm_assets.core.naming import columns, snake

DEFINED = "HUBSPOT_DEFINED"
_PARENTS = 1_000
"""Records whose associations one call reads."""


@dataclass(frozen=True, slots=True)
class EdgeType:
    """A type of association, by category and number; ``label`` is none for the unlabelled ones."""

    category: str
    number: int
    label: str | None = None

    @property
    def text(self) -> str:
        """As ids of associations end. Numbers of the account's own types may repeat HubSpot's."""
        return str(self.number) if self.category == DEFINED else f"{self.category}-{self.number}"


@dataclass(frozen=True, slots=True)
class Edge:
    """The identity of one association."""

    start: str
    end: str
    type: EdgeType

    @property
    def id(self) -> str:
        return f"{self.start}:{self.end}:{self.type.text}"

    @classmethod
    def parse(cls, record_id: str) -> Edge:
        """ValueError for what is no id of an association."""
        start, end, last = record_id.split(":")
        category, _, number = last.rpartition("-")
        return cls(start, end, EdgeType(category or DEFINED, int(number)))


def describe(client: Client, name: str, chosen: Mapping[str, str]) -> Object:
    """The table between two kinds; ObjectUnavailable if HubSpot knows no such association."""
    ends = edge(name)
    assert ends is not None
    try:
        labels = [known.label for known in types(client, *ends) if known.label]
    except ObjectUnavailable:
        raise
    except RejectedError as error:
        raise ObjectUnavailable(
            f"{client.config.name}: HubSpot knows no associations from {ends[0]} to {ends[1]}; "
            f"correct {name!r} in defs.yaml ({error})",
            error.code,
        ) from error
    fields = (
        Field("from_id", "", FieldType.REFERENCE, "id", nillable=False, reference_to=(ends[0],)),
        Field("to_id", "", FieldType.REFERENCE, "id", nillable=False, reference_to=(ends[1],)),
        Field("type", "", FieldType.TEXT, "association type"),
        Field("label", "", FieldType.TEXT, "association label", picklist=tuple(dict.fromkeys(labels))),
        Field("category", "", FieldType.TEXT, "association category"),
    )
    names = columns([fld.name for fld in fields], chosen, "id")
    return Object(
        name=name,
        table=snake(name),
        label=f"{ends[0]} to {ends[1]}",
        fields=tuple(replace(fld, column=names[fld.name], label=fld.name, createable=True) for fld in fields),
        id_field="id",
        version_field=None,
        createable=True,
        deletable=True,
        parent="from_id",
        natural_key=tuple(names[name] for name in ("from_id", "to_id", "type")),
    )


def types(client: Client, start: str, end: str) -> list[EdgeType]:
    """The types of association that the account has between two kinds."""
    what = f"association types from {start} to {end}"
    body = client.read("GET", f"{ASSOCIATIONS}/{start}/{end}/labels", "describe", what)
    return [type_of(item) for item in body["results"]]


class Edges:
    """Answers about associations; the records they start from are found by ``records``."""

    def __init__(self, client: Client, records: Records) -> None:
        self._client = client
        self._records = records

    def read(self, obj: Object, window: Window | None, after: str | None) -> Iterator[Page]:
        """The associations of all records (of those that changed in the window), complete for each of them."""
        waiting: list[str] = []
        for found in self._parents(obj, window, behind(obj, after)):
            waiting += found.ids
            if len(waiting) >= _PARENTS or found.behind is None:
                yield replace(self.of(obj, waiting), next=place(obj, found.behind))
                waiting = []

    def _parents(self, obj: Object, window: Window | None, start: str | None) -> Iterator[Found]:
        kind, _ = ends_of(obj)
        if window is not None:
            return search.by_id(self._client, kind, search.within(kind, window), start)
        return self._records.listed(kind, start)

    def fetch(self, obj: Object, ids: Sequence[str]) -> Page:
        """By ids of associations or of the records they start from; the page has all that those records have."""
        return self.of(obj, list(dict.fromkeys(record_id.partition(":")[0] for record_id in ids)))

    def of(self, obj: Object, parents: Sequence[str]) -> Page:
        """All associations of these records."""
        edges: dict[str, Edge] = {}
        for start in range(0, len(parents), _PARENTS):
            edges |= {found.id: found for found in self._of(obj, parents[start : start + _PARENTS])}
        return replace(_page(obj, list(edges.values())), complete_for=tuple(parents))

    def _of(self, obj: Object, parents: Sequence[str]) -> Iterator[Edge]:
        inputs: list[dict[str, str]] = [{"id": parent} for parent in parents]
        start, end = ends_of(obj)
        what = f"associations from {start} to {end}"
        while inputs:
            body = self._client.read(
                "POST", f"{ASSOCIATIONS}/{start}/{end}/batch/read", "associations", what, json={"inputs": inputs}
            )
            for error in body.get("errors") or ():
                # Records that have none are told of as errors, too.
                if error.get("category") != NOT_FOUND:
                    raise RejectedError(
                        f"{self._client.config.name}: {what}: {explain(error)}", str(error.get("category") or "")
                    )
            inputs = []
            for result in body["results"]:
                parent = str(result["from"]["id"])
                for to in result.get("to") or ():
                    for item in to.get("associationTypes") or ():
                        yield Edge(parent, str(to["toObjectId"]), type_of(item))
                after = ((result.get("paging") or {}).get("next") or {}).get("after")
                if after is not None:
                    inputs.append({"id": parent, "after": str(after)})

    def ids(self, obj: Object, window: Window | None) -> Iterator[Sequence[str]]:
        for page in self.read(obj, window, None):
            yield page.table["id"].to_pylist()

    def count(self, obj: Object, window: Window | None) -> int:
        return sum(len(ids) for ids in self.ids(obj, window))

    def find(self, obj: Object, values: Mapping[str, Value]) -> Page:
        """The associations of the pair that have these values; associations do not say when they were made."""
        page = self.of(obj, [str(values["from_id"])])
        wanted = {column: value for column, value in values.items() if value is not None}
        alike = [all(row[c] == v for c, v in wanted.items()) for row in page.table.to_pylist()]
        return Page(page.table.filter(pa.array(alike, pa.bool_())))


def ends_of(obj: Object) -> tuple[str, str]:
    ends = edge(obj.name)
    assert ends is not None
    return ends


def type_of(item: Mapping[str, Any]) -> EdgeType:
    return EdgeType(str(item["category"]), int(item["typeId"]), item.get("label") or None)


def _page(obj: Object, edges: Sequence[Edge]) -> Page:
    values = {
        "id": [e.id for e in edges],
        "from_id": [e.start for e in edges],
        "to_id": [e.end for e in edges],
        "type": [str(e.type.number) for e in edges],
        "label": [e.type.label for e in edges],
        "category": [e.type.category for e in edges],
    }
    raw = pa.table({name: pa.array(column, pa.string()) for name, column in values.items()})
    return typed_page(obj, raw, pa.array([False] * len(edges), pa.bool_()))
