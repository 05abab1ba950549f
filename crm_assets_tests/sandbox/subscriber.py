"""A subscriber of the Pub/Sub API, as small as one can be."""

from __future__ import annotations

import io
import json
import queue
from collections.abc import Iterator
from typing import Any

import fastavro
import grpc

from crm_assets.sandbox.salesforce.pubsub import eventbus_pb2 as pb
from crm_assets_tests.plugins.sandbox import Sandbox

_SERVICE = "/eventbus.v1.PubSub"
ALL = "/data/ChangeEvents"


class Subscriber:
    """Calls of one client with one token."""

    def __init__(self, sandbox: Sandbox, token: str = "sandbox", tenant: str = "sandbox") -> None:
        self._channel = grpc.insecure_channel(sandbox.pubsub, options=[("grpc.enable_http_proxy", 0)])
        self._metadata = (("accesstoken", token), ("instanceurl", sandbox.url), ("tenantid", tenant))
        self._schemas: dict[str, Any] = {}

    def close(self) -> None:
        self._channel.close()

    def topic(self, name: str) -> pb.TopicInfo:
        call = self._channel.unary_unary(
            f"{_SERVICE}/GetTopic", pb.TopicRequest.SerializeToString, pb.TopicInfo.FromString
        )
        return call(pb.TopicRequest(topic_name=name), metadata=self._metadata, timeout=20)  # type: ignore[no-any-return]

    def schema(self, schema_id: str) -> Any:
        if schema_id not in self._schemas:
            call = self._channel.unary_unary(
                f"{_SERVICE}/GetSchema", pb.SchemaRequest.SerializeToString, pb.SchemaInfo.FromString
            )
            found = call(pb.SchemaRequest(schema_id=schema_id), metadata=self._metadata, timeout=20)
            self._schemas[schema_id] = json.loads(found.schema_json)
        return self._schemas[schema_id]

    def decode(self, event: pb.ConsumerEvent) -> dict[str, Any]:
        schema = fastavro.parse_schema(dict(self.schema(event.event.schema_id)))
        decoded: dict[str, Any] = fastavro.schemaless_reader(io.BytesIO(event.event.payload), schema, None)
        return decoded

    def subscribe(
        self, topic: str = ALL, *, after: bytes | None = None, earliest: bool = False, ask: int = 100
    ) -> Feed:
        preset = pb.EARLIEST if earliest else pb.LATEST if after is None else pb.CUSTOM
        first = pb.FetchRequest(topic_name=topic, replay_preset=preset, replay_id=after or b"", num_requested=ask)
        return Feed(self, self._channel, self._metadata, first)


class Feed:
    """One subscription."""

    def __init__(self, own: Subscriber, channel: Any, metadata: Any, first: pb.FetchRequest) -> None:
        self._own = own
        self._requests: queue.Queue[pb.FetchRequest | None] = queue.Queue()
        self._requests.put(first)
        call = channel.stream_stream(
            f"{_SERVICE}/Subscribe", pb.FetchRequest.SerializeToString, pb.FetchResponse.FromString
        )
        self._responses = call(iter(self._requests.get, None), metadata=metadata, timeout=60)

    def ask(self, count: int, topic: str = "") -> None:
        self._requests.put(pb.FetchRequest(topic_name=topic, num_requested=count))

    def response(self) -> pb.FetchResponse:
        """The next response; raises grpc.RpcError."""
        return next(self._responses)  # type: ignore[no-any-return]

    def raw(self) -> Iterator[tuple[pb.ConsumerEvent, pb.FetchResponse]]:
        while True:
            response = self.response()
            for event in response.events:
                yield event, response

    def events(self, count: int) -> list[dict[str, Any]]:
        """The next events, decoded."""
        found = []
        for event, _ in self.raw():
            found.append(self._own.decode(event))
            if len(found) == count:
                return found
        raise AssertionError("unreachable")

    def cancel(self) -> None:
        self._requests.put(None)
        self._responses.cancel()
