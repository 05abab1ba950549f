"""The stream of change events: a subscription of the Pub/Sub API.

Source: Pub/Sub API Developer Guide, "Subscribe RPC Method" (flow control, replay, the empty response within 270
seconds) and "Handle Errors". Its calls do not count against the org's daily calls.
"""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

import grpc

from crm_assets.connectors.http import Token
from crm_assets.connectors.salesforce import changeevents, eventbus
from crm_assets.connectors.salesforce.changeevents import Schema
from crm_assets.connectors.salesforce.client import Client
from crm_assets.core.errors import ConfigurationError, RetriableError
from crm_assets.core.model import Change, Gap, Heard, Object, Unread

log = logging.getLogger(__name__)

ENDPOINT: Final = "api.pubsub.salesforce.com:7443"
_ASKED = 100
_IDLE_SECONDS = 1.0
_SILENCE_SECONDS = 300.0
_CALL_SECONDS = 30.0
_REACH_SECONDS = 10.0
_LOCAL = ("127.0.0.1:", "localhost:", "[::1]:")
_ENDED = object()


class _Expired(Exception):
    """The session is no longer good."""


class _PlaceLost(Exception):
    """The replay id is not valid, or not any more."""


def follow(client: Client, topic: str, place: bytes | None, objects: Mapping[str, Object]) -> Iterator[Heard]:
    """See ``Streaming.follow``. The empty place is the oldest event that is kept.

    A session that ends is renewed, and the subscription goes on where it was.
    """
    refused = False
    while True:
        token = client.token()
        begins = place is None
        try:
            for heard in _Subscription(client, token, topic, objects).heard(place):
                if begins:
                    # The subscription stands by now: what it does not tell happened before.
                    heard = replace(heard, gaps=(*heard.gaps, *_gaps(client, objects, "the stream begins here")))
                    begins = False
                yield heard
                if heard.place is not None:
                    place, refused = heard.place, False
        except _PlaceLost as error:
            log.warning("%s; its objects are read for what was missed", error)
            place = b""
            yield Heard(place, gaps=_gaps(client, objects, "events of the stream are no longer kept"))
        except _Expired as error:
            client.forget(token.text)
            if refused:
                raise ConfigurationError(
                    f"connection {client.config.name}: Salesforce refuses a fresh session ({error}); let the "
                    "integration user use the API, and see that the connected app's scope is `api`"
                ) from error
            refused = True


def reach(client: Client, topic: str) -> None:
    """Follow a topic until it stands, and leave it. RetriableError and ConfigurationError as of ``follow``."""
    endpoint = _endpoint(client)
    channel = _channel(endpoint)
    try:
        grpc.channel_ready_future(channel).result(timeout=_REACH_SECONDS)
    except grpc.FutureTimeoutError as error:
        said = f"{client.config.name}: no connection to {endpoint} within {_REACH_SECONDS:g} seconds"
        raise RetriableError(said) from error
    finally:
        channel.close()
    next(follow(client, topic, None, {}))


def _gaps(client: Client, names: Iterable[str], reason: str) -> tuple[Gap, ...]:
    """Of all that has happened up to now, by the vendor's clock: seconds that began up to two ago."""
    until = client.clock() + timedelta(seconds=2)
    return tuple(Gap(name, reason, until=until) for name in names)


class _Subscription:
    """One call of Subscribe, from its first request to its end."""

    def __init__(self, client: Client, token: Token, topic: str, objects: Mapping[str, Object]) -> None:
        self._client = client
        self._topic = topic
        self._objects = objects
        self._name = f"{client.config.name}: stream {topic}"
        self._metadata = (
            ("accesstoken", token.text),
            ("instanceurl", token.server),
            ("tenantid", token.tenant),
        )
        self._channel = _channel(_endpoint(client))

    def heard(self, place: bytes | None) -> Iterator[Heard]:
        preset = eventbus.LATEST if place is None else eventbus.CUSTOM if place else eventbus.EARLIEST
        asked: queue.SimpleQueue[Any] = queue.SimpleQueue()
        asked.put(
            eventbus.FetchRequest(
                topic_name=self._topic, replay_preset=preset, replay_id=place or b"", num_requested=_ASKED
            )
        )
        call = self._channel.stream_stream(
            f"/{eventbus.SERVICE}/Subscribe",
            eventbus.FetchRequest.SerializeToString,
            eventbus.FetchResponse.FromString,
        )(iter(asked.get, None), metadata=self._metadata)
        answers: queue.SimpleQueue[Any] = queue.SimpleQueue()
        threading.Thread(target=_pump, args=(call, answers), name=self._name, daemon=True).start()
        try:
            yield from self._read(asked, answers)
        finally:
            asked.put(None)
            call.cancel()
            self._channel.close()

    def _read(self, asked: queue.SimpleQueue[Any], answers: queue.SimpleQueue[Any]) -> Iterator[Heard]:
        last = time.monotonic()
        while True:
            try:
                answer = answers.get(timeout=_IDLE_SECONDS)
            except queue.Empty:
                if time.monotonic() - last > _SILENCE_SECONDS:
                    raise RetriableError(f"{self._name}: nothing, not even a sign of life, for too long") from None
                yield Heard()
                continue
            last = time.monotonic()
            arrived = [answer]
            while not _is_end(arrived[-1]) and not answers.empty():
                arrived.append(answers.get())  # kept together, in one transaction
            told = [one for one in arrived if not _is_end(one)]
            if told:
                yield self._told(told)
                pending = told[-1].pending_num_requested
                if pending < _ASKED // 2:
                    # Only now: what was told has been kept.
                    asked.put(eventbus.FetchRequest(num_requested=_ASKED - pending))
            if arrived[-1] is _ENDED:
                raise RetriableError(f"{self._name}: Salesforce has ended the subscription")
            if isinstance(arrived[-1], grpc.RpcError):
                raise self._translated(arrived[-1])

    def _told(self, answers: Sequence[Any]) -> Heard:
        changes: list[Change] = []
        gaps: list[Gap] = []
        unread: list[Unread] = []
        for one in (event for answer in answers for event in answer.events):
            event_id = one.event.id or one.replay_id.hex()
            entity = ""
            try:
                schema = self._schema(one.event.schema_id)
                entity = schema.entity
                for found in changeevents.read(event_id, one.event.payload, schema, self._objects):
                    (changes if isinstance(found, Change) else gaps).append(found)  # type: ignore[arg-type]
            except ValueError as error:
                unread.append(Unread(event_id, entity or self._topic, str(error)))
                concerned = [entity] if entity in self._objects else [] if entity else list(self._objects)
                gaps += _gaps(self._client, concerned, "an event could not be read")
        last = answers[-1]
        place = last.events[-1].replay_id if last.events else last.latest_replay_id
        return Heard(place or None, tuple(changes), tuple(gaps), tuple(unread))

    def _schema(self, schema_id: str) -> Schema:
        known = self._client.event_schemas.get(schema_id)
        if known is None:
            call = self._channel.unary_unary(
                f"/{eventbus.SERVICE}/GetSchema",
                eventbus.SchemaRequest.SerializeToString,
                eventbus.SchemaInfo.FromString,
            )
            try:
                found = call(
                    eventbus.SchemaRequest(schema_id=schema_id), metadata=self._metadata, timeout=_CALL_SECONDS
                )
            except grpc.RpcError as error:
                if error.code() is grpc.StatusCode.NOT_FOUND:
                    raise ValueError("the schema of an event is not known") from error
                raise self._translated(error) from error
            known = self._client.event_schemas[schema_id] = Schema.parse(found.schema_json)
        return known

    def _translated(self, error: Any) -> Exception:
        status, code = error.code(), dict(error.trailing_metadata() or ()).get("error-code", "")
        said = f"{self._name}: {status.name} {code or error.details()}"
        if status is grpc.StatusCode.UNAUTHENTICATED:
            return _Expired(said)
        if status is grpc.StatusCode.INVALID_ARGUMENT and ".replayid." in code:
            return _PlaceLost(said)
        if status in (
            grpc.StatusCode.INVALID_ARGUMENT,
            grpc.StatusCode.NOT_FOUND,
            grpc.StatusCode.PERMISSION_DENIED,
            grpc.StatusCode.UNIMPLEMENTED,
        ):
            return ConfigurationError(
                f"connection {said}; choose the objects in Setup, Change Data Capture, let the integration user view "
                "all their records, or correct options.pubsub_topics in defs.yaml"
            )
        return RetriableError(said)


def _is_end(answer: Any) -> bool:
    return answer is _ENDED or isinstance(answer, grpc.RpcError)


def _endpoint(client: Client) -> str:
    return str(client.config.options.get("pubsub_endpoint", ENDPOINT))


def _channel(endpoint: str) -> Any:
    """Encrypted, except to this very machine."""
    if endpoint.startswith(_LOCAL):
        return grpc.insecure_channel(endpoint, [("grpc.enable_http_proxy", 0)])
    return grpc.secure_channel(endpoint, grpc.ssl_channel_credentials())


def _pump(call: Any, answers: queue.SimpleQueue[Any]) -> None:
    """Waits for the server in a thread, so that the subscriber need not."""
    try:
        for answer in call:
            answers.put(answer)
        answers.put(_ENDED)
    except grpc.RpcError as error:
        answers.put(error)
