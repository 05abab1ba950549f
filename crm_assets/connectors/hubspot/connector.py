"""The HubSpot room's answers to the socket's questions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from crm_assets.connectors.base import ConnectionConfig, Gate
from crm_assets.connectors.hubspot import describe, directory, edges, inspection, kinds, webhook, writing
from crm_assets.connectors.hubspot.client import Client
from crm_assets.connectors.hubspot.directory import Directory
from crm_assets.connectors.hubspot.edge_writing import EdgeWriter
from crm_assets.connectors.hubspot.edges import Edges
from crm_assets.connectors.hubspot.equality import same
from crm_assets.connectors.hubspot.listing import AT_ONCE
from crm_assets.connectors.hubspot.records import Records
from crm_assets.connectors.hubspot.schemas import Schemas
from crm_assets.core.model import (
    Bound,
    Budget,
    Change,
    Deleted,
    Field,
    Mutation,
    Object,
    Outcome,
    Page,
    Value,
    Window,
)
from crm_assets.core.readiness import Finding, Need

_TEN_SECONDS = timedelta(seconds=10)


class HubspotConnector:
    """One HubSpot account. Options: ``index_lag_seconds`` (60: how far the search index may be behind),
    ``archive_sweep_seconds`` (900) and ``archive_pages`` (5: see ``Records``), ``calls_10s`` (100) and ``daily_calls``
    (250000: the edition's allowances), ``webhook_url`` (what HubSpot calls, where a proxy hides it)."""

    def __init__(self, config: ConnectionConfig, gate: Gate) -> None:
        self.config = config
        self.gate = gate
        self._client = Client(config, gate)
        self._records = Records(
            self._client,
            timedelta(seconds=float(config.options.get("archive_sweep_seconds", 900))),
            int(config.options.get("archive_pages", 5)),
        )
        self._edges = Edges(self._client, self._records)
        self._directory = Directory(self._client)
        self._schemas = Schemas(self._client)

    def object_names(self) -> Sequence[str]:
        return [*kinds.usual_names(), *(str(one["fullyQualifiedName"]) for one in self._schemas.all())]

    def describe(self, object_name: str, chosen: Mapping[str, str] | None = None) -> Object:
        if object_name in kinds.DIRECTORY:
            return directory.describe(object_name, chosen or {})
        if kinds.edge(object_name):
            return edges.describe(self._client, object_name, chosen or {})
        own = None if object_name in kinds.KINDS else self._schemas.find(object_name)
        return describe.describe(self._client, object_name, chosen or {}, own)

    def bound(self, obj: Object, low: datetime | None) -> Bound:
        """The server's clock, less what the search index may be behind: it tells nothing safer."""
        return Bound(self._client.clock() - self._lag)

    def read(self, obj: Object, window: Window | None, after: str | None = None) -> Iterator[Page]:
        return self._room(obj).read(obj, window, after)

    def deletes(self, obj: Object, window: Window) -> Iterator[Deleted]:
        """Of associations none: a parent's read is complete, so that what it lacks is gone."""
        room = self._room(obj)
        return iter(()) if isinstance(room, Edges) else room.deletes(obj, window)

    def fetch(self, obj: Object, ids: Sequence[str]) -> Page:
        return self._room(obj).fetch(obj, ids)

    def lookup(self, obj: Object, row_ids: Sequence[str]) -> Page:
        return self._records.lookup(obj, row_ids)

    def find(self, obj: Object, values: Mapping[str, Value], since: datetime) -> Page:
        if obj.parent is not None:
            return self._edges.find(obj, values)
        return self._records.find(obj, values, since)

    def count(self, obj: Object, window: Window | None = None) -> int:
        return self._room(obj).count(obj, window)

    def ids(self, obj: Object, window: Window | None = None) -> Iterator[Sequence[str]]:
        return self._room(obj).ids(obj, window)

    def write(self, obj: Object, mutations: Sequence[Mutation]) -> Sequence[Outcome]:
        if obj.parent is not None:
            return EdgeWriter(self._client, self._edges, obj).write(mutations)
        return writing.write(self._client, obj, mutations)

    def _room(self, obj: Object) -> Records | Edges | Directory:
        if obj.parent is not None:
            return self._edges
        return self._directory if obj.name in kinds.DIRECTORY else self._records

    @property
    def _lag(self) -> timedelta:
        return timedelta(seconds=float(self.config.options.get("index_lag_seconds", 60)))

    @property
    def max_write(self) -> int:
        return writing.LARGEST

    @property
    def max_fetch(self) -> int:
        return AT_ONCE

    @property
    def overlap(self) -> timedelta:
        """For what the index shows later than it ever promised to."""
        return timedelta(minutes=5)

    @property
    def settle_time(self) -> timedelta:
        return self._lag

    @property
    def budgets(self) -> Sequence[Budget]:
        """The day is a private app's; HubSpot holds OAuth apps to none. It ends at midnight where the account is, so
        that a rolling day is never too much, and the reply headers tell of the new one."""
        options = self.config.options
        budgets = [
            Budget("calls_10s", int(options.get("calls_10s", 100)), _TEN_SECONDS),
            Budget("search_1s", 5, timedelta(seconds=1), frozenset({"search"})),
        ]
        if "token" in self.config.credentials:
            budgets.append(Budget("daily_calls", int(options.get("daily_calls", 250_000)), timedelta(hours=24)))
        return budgets

    def same(self, fld: Field, ours: Value, theirs: Value) -> bool:
        return same(fld, ours, theirs)

    def parse_event(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[Change]:
        """The secret is the app's client secret: ``webhook_secret``, or ``client_secret`` where that is not set."""
        name = "webhook_secret" if "webhook_secret" in self.config.credentials else "client_secret"
        configured = self.config.options.get("webhook_url")
        urls = webhook.called(url, headers, str(configured) if configured else None)
        return webhook.parse(self.config.secret(name), headers, body, urls, self._schemas.name_of)

    def menu(self, need: Need, name: str) -> str:
        return inspection.menu(need, name)

    def inspect(self, objects: Sequence[Object], written: Collection[str]) -> Iterator[Finding]:
        return inspection.inspect(self._client, objects, written)

    def close(self) -> None:
        self._client.close()
