"""The NetSuite room's answers to the socket's questions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from crm_assets.connectors.base import ConnectionConfig, Gate
from crm_assets.connectors.netsuite import inspection, kinds, lines, webhook, writing
from crm_assets.connectors.netsuite.client import CONCURRENCY, Client
from crm_assets.connectors.netsuite.describe import Catalog
from crm_assets.connectors.netsuite.equality import same
from crm_assets.connectors.netsuite.lines import Lines
from crm_assets.connectors.netsuite.records import AT_ONCE, Records
from crm_assets.core.errors import ConfigurationError
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


class NetsuiteConnector:
    """One NetSuite account. Options: ``account_concurrency`` (15: calls at once that the account's tier allows),
    ``time_zone`` (UTC: the zone in which SuiteQL shows this account's times)."""

    def __init__(self, config: ConnectionConfig, gate: Gate) -> None:
        self.config = config
        self.gate = gate
        self._client = Client(config, gate)
        self._catalog = Catalog(self._client)
        zone = _zone(config)
        self._records = Records(self._client, zone)
        self._lines = Lines(self._client, self._records, zone)

    def object_names(self) -> Sequence[str]:
        return kinds.usual_names(self._catalog.types())

    def describe(self, object_name: str, chosen: Mapping[str, str] | None = None) -> Object:
        if kinds.lines_of(object_name):
            return lines.describe(self._client, self._catalog, object_name, chosen or {})
        return self._catalog.describe(object_name, chosen or {})

    def bound(self, obj: Object, low: datetime | None) -> Bound:
        """The server's clock; the overlap covers what is committed late."""
        return Bound(self._client.clock())

    def read(self, obj: Object, window: Window | None, after: str | None = None) -> Iterator[Page]:
        return self._room(obj).read(obj, window, after)

    def deletes(self, obj: Object, window: Window) -> Iterator[Deleted]:
        """Of lines none: a transaction's read is complete, so that what it lacks is gone."""
        return iter(()) if obj.parent is not None else self._records.deletes(obj, window)

    def fetch(self, obj: Object, ids: Sequence[str]) -> Page:
        return self._room(obj).fetch(obj, ids)

    def lookup(self, obj: Object, row_ids: Sequence[str]) -> Page:
        return self._records.lookup(obj, row_ids)

    def find(self, obj: Object, values: Mapping[str, Value], since: datetime) -> Page:
        if obj.parent is not None:
            return self._lines.find(obj, values)
        return self._records.find(obj, values, since)

    def count(self, obj: Object, window: Window | None = None) -> int:
        return self._room(obj).count(obj, window)

    def ids(self, obj: Object, window: Window | None = None) -> Iterator[Sequence[str]]:
        if obj.parent is not None:
            yield from self._lines.ids(obj, window)
            return
        for reply in self._records.ids(obj, window):
            yield reply.ids

    def write(self, obj: Object, mutations: Sequence[Mutation]) -> Sequence[Outcome]:
        if obj.parent is not None:
            return self._lines.write(obj, mutations)
        outcomes = writing.write(self._client, obj, mutations)
        return [*outcomes, *self._lines.made_within(mutations, outcomes)]

    def repeatable(self, obj: Object) -> bool:
        """By the key of the call; a line is a part of its transaction's, which may be changed any number of times."""
        return obj.parent is None

    def nested(self, obj: Object) -> Collection[str]:
        kind = kinds.kind_of(obj.name)
        return [kinds.lines_name(kind, sublist) for sublist in kind.lines]

    def _room(self, obj: Object) -> Records | Lines:
        return self._lines if obj.parent is not None else self._records

    @property
    def max_write(self) -> int:
        return writing.LARGEST

    @property
    def max_fetch(self) -> int:
        return AT_ONCE

    @property
    def overlap(self) -> timedelta:
        """Records become visible with their commit and carry the moment of their save."""
        return timedelta(minutes=10)

    @property
    def settle_time(self) -> timedelta:
        """Queries read the primary store."""
        return timedelta(0)

    @property
    def budgets(self) -> Sequence[Budget]:
        """Calls at once, of all integrations of the account together; NetSuite counts no calls per day."""
        return [Budget(CONCURRENCY, self._at_once)]

    @property
    def _at_once(self) -> int:
        return int(self.config.options.get("account_concurrency", 15))

    def same(self, fld: Field, ours: Value, theirs: Value) -> bool:
        return same(fld, ours, theirs)

    def parse_event(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[Change]:
        return webhook.parse(self.config.secret("webhook_secret"), headers, body)

    def menu(self, need: Need, name: str) -> str:
        return inspection.menu(need, name)

    def inspect(self, objects: Sequence[Object], written: Collection[str]) -> Iterator[Finding]:
        return inspection.inspect(self._client, self._at_once)

    def close(self) -> None:
        self._client.close()


def _zone(config: ConnectionConfig) -> ZoneInfo:
    name = str(config.options.get("time_zone", "UTC"))
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError) as error:
        raise ConfigurationError(
            f"connection {config.name}: options.time_zone in defs.yaml is {name!r}; write a name such as Europe/London"
        ) from error
