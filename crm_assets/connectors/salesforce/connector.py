"""The Salesforce room's answers to the socket's questions."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from crm_assets.connectors import signed_form
from crm_assets.connectors.base import Acknowledgement, ConnectionConfig, Gate
from crm_assets.connectors.salesforce import changes, failures, inspection, outbound, reading, soql, writing
from crm_assets.connectors.salesforce.client import Client
from crm_assets.connectors.salesforce.describe import to_object
from crm_assets.connectors.salesforce.equality import same
from crm_assets.core.errors import ObjectUnavailable, RejectedError
from crm_assets.core.model import (
    Bound,
    Budget,
    Change,
    Deleted,
    Field,
    Heard,
    Mutation,
    Object,
    Outcome,
    Page,
    Value,
    Window,
)
from crm_assets.core.readiness import Finding, Need

_BULK_THRESHOLD = 5_000


class SalesforceConnector:
    """One Salesforce org. Options: ``api_version`` (67.0), ``bulk_threshold`` (records from which a read is a Bulk
    job), ``login_url`` (where tokens come from, if not ``url``), ``jwt_audience`` (if not told by ``url``),
    ``pubsub_topics`` (streams to follow, such as ``/data/ChangeEvents``, separated by commas), ``pubsub_endpoint`` (if
    not the vendor's)."""

    def __init__(self, config: ConnectionConfig, gate: Gate) -> None:
        self.config = config
        self.gate = gate
        self._client = Client(config, gate)

    def object_names(self) -> Sequence[str]:
        body = self._client.json(self._client.get(f"{self._client.root}/sobjects", "describe", "list of objects"))
        return [item["name"] for item in body["sobjects"] if item.get("queryable", True)]

    def describe(self, object_name: str, chosen: Mapping[str, str] | None = None) -> Object:
        response = self._client.get(
            f"{self._client.root}/sobjects/{object_name}/describe",
            "describe",
            f"describe of {object_name}",
            accept=(404,),
        )
        if response.status_code == 404:
            raise ObjectUnavailable(
                f"{self.config.name}: Salesforce has no object {object_name!r}, or hides it from the integration user; "
                "correct its name in defs.yaml or grant the permission",
                "NOT_FOUND",
            )
        return to_object(self._client.json(response), chosen or {})

    def bound(self, obj: Object, low: datetime | None) -> Bound:
        return changes.bound(self._client, obj, low)

    def read(self, obj: Object, window: Window | None, after: str | None = None) -> Iterator[Page]:
        threshold = int(self.config.options.get("bulk_threshold", _BULK_THRESHOLD))
        return reading.records(self._client, obj, window, threshold, after)

    def deletes(self, obj: Object, window: Window) -> Iterator[Deleted]:
        """Objects whose deletions the vendor does not list (User, for one) have none."""
        try:
            yield from changes.deleted(self._client, obj, window)
        except RejectedError as error:
            if error.code == failures.TOO_MANY_IDS:
                raise

    def fetch(self, obj: Object, ids: Sequence[str]) -> Page:
        return reading.by_ids(self._client, obj, "Id", ids)

    def lookup(self, obj: Object, row_ids: Sequence[str]) -> Page:
        assert obj.external_id is not None
        return reading.by_ids(self._client, obj, obj.external_id, row_ids)

    def find(self, obj: Object, values: Mapping[str, Value], since: datetime) -> Page:
        return reading.find(self._client, obj, values, since)

    def count(self, obj: Object, window: Window | None = None) -> int:
        return reading.count(self._client, obj, soql.within(obj, window) if window else [], deleted=False)

    def ids(self, obj: Object, window: Window | None = None) -> Iterator[Sequence[str]]:
        return reading.ids(self._client, obj, window)

    def write(self, obj: Object, mutations: Sequence[Mutation]) -> Sequence[Outcome]:
        return writing.write(self._client, obj, mutations)

    @property
    def max_write(self) -> int:
        return writing.LARGEST

    @property
    def condition_blind(self) -> timedelta:
        """Conditions count whole seconds; the rest is for clocks that differ."""
        return timedelta(seconds=10)

    @property
    def max_fetch(self) -> int:
        return 500

    @property
    def overlap(self) -> timedelta:
        """latestDateCovered already stands before open transactions; what it leaves out are seconds."""
        return timedelta(minutes=1)

    @property
    def settle_time(self) -> timedelta:
        """Queries read the primary store."""
        return timedelta(0)

    @property
    def budgets(self) -> Sequence[Budget]:
        """The edition's allowance is only a start: each reply carries the org's own numbers."""
        return [Budget("daily_calls", int(self.config.options.get("daily_calls", 24_000)), timedelta(hours=24))]

    def same(self, fld: Field, ours: Value, theirs: Value) -> bool:
        return same(fld, ours, theirs)

    def parse_event(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[Change]:
        secret = self.config.secret("webhook_secret")
        if outbound.is_one(body):
            return outbound.parse(secret, self._client.organization, body, url)
        return signed_form.parse(secret, headers, body)

    def acknowledgement(self, body: bytes) -> Acknowledgement | None:
        return Acknowledgement("text/xml; charset=utf-8", outbound.ACKNOWLEDGED) if outbound.is_one(body) else None

    @property
    def topics(self) -> Sequence[str]:
        names = str(self.config.options.get("pubsub_topics", "")).split(",")
        return [name.strip() for name in names if name.strip()]

    def follow(self, topic: str, place: bytes | None, objects: Mapping[str, Object]) -> Iterator[Heard]:
        # Only here: gRPC and Avro are of no use to those who follow nothing.
        from crm_assets.connectors.salesforce import stream

        return stream.follow(self._client, topic, place, objects)

    def menu(self, need: Need, name: str) -> str:
        return inspection.menu(need, name)

    def inspect(self, objects: Sequence[Object], written: Collection[str]) -> Iterator[Finding]:
        return inspection.inspect(self._client, self.topics, objects, written)

    def close(self) -> None:
        self._client.close()
