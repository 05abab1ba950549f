"""Owners, pipelines and their stages: short lists that are read whole and cannot be written here.

Sources: Owners API; Pipelines API. They have no search, so a window is cut out of the list.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

import pyarrow as pa

from crm_assets.connectors.cast import as_text, typed_page
from crm_assets.connectors.hubspot.client import OWNERS as OWNERS_PATH
from crm_assets.connectors.hubspot.client import Client
from crm_assets.connectors.hubspot.describe import pipelined, pipelines
from crm_assets.connectors.hubspot.kinds import OWNERS, PIPELINES, STAGES
from crm_assets.core.errors import ObjectUnavailable
from crm_assets.core.model import Deleted, Field, FieldType, Object, Page, Window
from crm_assets.core.naming import columns, snake

_TEXT, _TIME = FieldType.TEXT, FieldType.TIMESTAMP
_DATES = {"createdAt": _TIME, "updatedAt": _TIME}
_FIELDS: Mapping[str, Mapping[str, FieldType]] = {
    OWNERS: {
        "email": _TEXT,
        "firstName": _TEXT,
        "lastName": _TEXT,
        "type": _TEXT,
        "userId": FieldType.INTEGER,
        "userIdIncludingInactive": FieldType.INTEGER,
        "teams": _TEXT,
        **_DATES,
    },
    PIPELINES: {"objectType": _TEXT, "label": _TEXT, "displayOrder": FieldType.INTEGER, **_DATES},
    STAGES: {
        "pipelineId": FieldType.REFERENCE,
        "label": _TEXT,
        "displayOrder": FieldType.INTEGER,
        "isClosed": FieldType.BOOLEAN,
        "probability": FieldType.NUMBER,
        "ticketState": _TEXT,
        **_DATES,
    },
}


def describe(name: str, chosen: Mapping[str, str]) -> Object:
    kinds = _FIELDS[name]
    names = columns(list(kinds), chosen, "id")
    return Object(
        name=name,
        table=snake(name),
        label=name.replace("_", " ").capitalize(),
        fields=tuple(
            Field(
                field,
                names[field],
                kind,
                "json" if field == "teams" else kind.value,
                label=field,
                reference_to=(PIPELINES,) if field == "pipelineId" else (),
            )
            for field, kind in kinds.items()
        ),
        id_field="id",
        version_field="updatedAt",
    )


class Directory:
    """Answers about the short lists."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def read(self, obj: Object, window: Window | None, after: str | None) -> Iterator[Page]:
        page = self._page(obj, list(self._live(obj)))
        yield page if window is None else Page(page.table.filter(pa.array(_within(page, window), pa.bool_())))

    def fetch(self, obj: Object, ids: Sequence[str]) -> Page:
        wanted = set(ids)
        return self._page(obj, [item for item in self._live(obj) if str(item["id"]) in wanted])

    def ids(self, obj: Object, window: Window | None) -> Iterator[Sequence[str]]:
        for page in self.read(obj, window, None):
            yield page.table["id"].to_pylist()

    def count(self, obj: Object, window: Window | None) -> int:
        return sum(len(ids) for ids in self.ids(obj, window))

    def deletes(self, obj: Object, window: Window) -> Iterator[Deleted]:
        """Archived owners; of pipelines and stages only their absence tells."""
        if obj.name != OWNERS:
            return
        for item in self._owners(archived=True):
            at = datetime.fromisoformat(item["updatedAt"])
            if window.low is None or at >= window.low:
                yield Deleted(str(item["id"]), at)

    def _live(self, obj: Object) -> Iterator[Mapping[str, Any]]:
        return self._owners() if obj.name == OWNERS else self._pipelines(stages=obj.name == STAGES)

    def _owners(self, *, archived: bool = False) -> Iterator[Mapping[str, Any]]:
        params: dict[str, str | int] = {"limit": 100}
        if archived:
            params["archived"] = "true"
        while True:
            body = self._client.read("GET", OWNERS_PATH, "owners", "list of owners", params=params)
            for item in body["results"]:
                yield item | {"teams": json.dumps(item["teams"]) if item.get("teams") else None}
            after = ((body.get("paging") or {}).get("next") or {}).get("after")
            if after is None:
                return
            params["after"] = str(after)

    def _pipelines(self, *, stages: bool) -> Iterator[Mapping[str, Any]]:
        """Of all kinds that move through pipelines and that the app may see."""
        refused: list[ObjectUnavailable] = []
        for kind in pipelined():
            try:
                found = pipelines(self._client, kind)
            except ObjectUnavailable as error:
                refused.append(error)
                continue
            for pipeline in found:
                if pipeline.get("archived"):
                    continue
                if not stages:
                    yield {**pipeline, "objectType": kind}
                    continue
                for stage in pipeline.get("stages") or ():
                    if not stage.get("archived"):
                        yield {**(stage.get("metadata") or {}), **stage, "pipelineId": pipeline["id"]}
        if len(refused) == len(list(pipelined())):
            raise refused[0]

    def _page(self, obj: Object, items: Sequence[Mapping[str, Any]]) -> Page:
        names = [obj.id_field, *(fld.name for fld in obj.fields)]
        raw = pa.table({n: pa.array([as_text(item.get(n)) or None for item in items], pa.string()) for n in names})
        return typed_page(obj, raw, pa.array([False] * len(items), pa.bool_()))


def _within(page: Page, window: Window) -> list[bool]:
    return [
        at is None or ((window.low is None or at >= window.low) and at < window.high)
        for at in page.table["_version"].to_pylist()
    ]
