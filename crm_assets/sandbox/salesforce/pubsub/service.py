"""``eventbus.v1.PubSub`` over gRPC.

Source: Pub/Sub API Developer Guide, "Subscribe RPC Method", "Pub/Sub API Error Codes".
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any, NoReturn

import grpc

from crm_assets.sandbox.faults import CALL_KINDS, Faults
from crm_assets.sandbox.salesforce.errors import ApiError
from crm_assets.sandbox.salesforce.objects import SObject
from crm_assets.sandbox.salesforce.sessions import ORG, WORD, Sessions

from . import eventbus_pb2 as pb
from .bus import Bus, UnknownPlaceError, replay_id

HOST = "127.0.0.1"
SERVICE = "eventbus.v1.PubSub"
KEEP_ALIVE_SECONDS = 270.0
MOST_REQUESTED = 100
_LOOK_SECONDS = 0.5
_GATHER_SECONDS = 0.005
"""What is committed within this moment is told together."""
_SUBSCRIBERS = 64
_AUTH = "sfdc.platform.eventbus.grpc.service.auth.error"
_FAILURES = {
    "429": (grpc.StatusCode.RESOURCE_EXHAUSTED, "sfdc.platform.eventbus.grpc.service.resource.exhausted"),
    "500": (grpc.StatusCode.INTERNAL, "sfdc.platform.eventbus.grpc.service.internal.error"),
    "503": (grpc.StatusCode.UNAVAILABLE, "sfdc.platform.eventbus.grpc.service.unavailable"),
    "expired_token": (grpc.StatusCode.UNAUTHENTICATED, _AUTH),
}

Context = Any  # grpc.ServicerContext; grpc has no types


class _Wanted:
    """How many events a subscriber has asked for and not got yet, fed by a thread that reads its requests."""

    def __init__(self, bus: Bus, requests: Iterator[pb.FetchRequest], topic: str) -> None:
        self._bus = bus
        self._requests = requests
        self._topic = topic
        self.count = 0
        self.news = False
        self.ended = False
        self.wrong: str | None = None

    def start(self) -> None:
        threading.Thread(target=self._read, name="fetch requests", daemon=True).start()

    def ask(self, request: pb.FetchRequest) -> None:
        if request.num_requested <= 0:
            self.wrong = "num_requested must be greater than 0"
        elif request.topic_name not in ("", self._topic):
            self.wrong = "the topic of a subscription cannot change"
        self.count = min(self.count + max(0, request.num_requested), MOST_REQUESTED)
        self.news = True

    def _read(self) -> None:
        # grpc ends the iterator of a call that is over with a bare Exception.
        with suppress(Exception):
            for request in self._requests:
                with self._bus.moved:
                    self.ask(request)
                    self._bus.moved.notify_all()
        with self._bus.moved:
            self.ended = True
            self._bus.moved.notify_all()


class PubSub:
    """The service of one org."""

    def __init__(self, bus: Bus, sessions: Sessions, faults: Faults, keep_alive: float = KEEP_ALIVE_SECONDS) -> None:
        self._bus = bus
        self._sessions = sessions
        self._faults = faults
        self._keep_alive = keep_alive
        self.stopping = threading.Event()

    def handler(self) -> Any:
        unary, stream = grpc.unary_unary_rpc_method_handler, grpc.stream_stream_rpc_method_handler
        return grpc.method_handlers_generic_handler(
            SERVICE,
            {
                "Subscribe": stream(self.subscribe, pb.FetchRequest.FromString, pb.FetchResponse.SerializeToString),
                "GetSchema": unary(self.get_schema, pb.SchemaRequest.FromString, pb.SchemaInfo.SerializeToString),
                "GetTopic": unary(self.get_topic, pb.TopicRequest.FromString, pb.TopicInfo.SerializeToString),
            },
        )

    def get_topic(self, request: pb.TopicRequest, context: Context) -> pb.TopicInfo:
        self._admit("GetTopic", context)
        entity = self._entity(request.topic_name, context)
        return pb.TopicInfo(
            topic_name=request.topic_name,
            tenant_guid=f"core/sandbox/{ORG}",
            can_publish=False,
            can_subscribe=True,
            schema_id="" if entity is None else self._bus.schema_of(entity).id,
            rpc_id=_rpc_id(),
        )

    def get_schema(self, request: pb.SchemaRequest, context: Context) -> pb.SchemaInfo:
        self._admit("GetSchema", context)
        found = self._bus.schema_json(request.schema_id)
        if found is None:
            _abort(context, grpc.StatusCode.NOT_FOUND, "sfdc.platform.eventbus.grpc.schema.not.found", "no such schema")
        return pb.SchemaInfo(schema_json=found, schema_id=request.schema_id, rpc_id=_rpc_id())

    def subscribe(self, requests: Iterator[pb.FetchRequest], context: Context) -> Iterator[pb.FetchResponse]:
        token = self._admit("Subscribe", context)
        first = next(requests, None)
        if first is None:
            return
        entity = self._entity(first.topic_name, context)
        at = self._begin(first, context)
        wanted = _Wanted(self._bus, requests, first.topic_name)
        wanted.ask(first)
        wanted.start()
        rpc_id, told = _rpc_id(), time.monotonic()
        while context.is_active() and not self.stopping.is_set():
            # What is committed from here on ends the wait below.
            newest = self._bus.last()
            if wanted.wrong:
                self._refuse(context, "sfdc.platform.eventbus.grpc.subscription.fetch.invalid", wanted.wrong)
            if self._sessions.left(token) <= 0:
                _abort(context, grpc.StatusCode.UNAUTHENTICATED, _AUTH, "the session has expired")
            events = self._bus.read(entity, at, wanted.count) if wanted.count else []
            if events:
                at, told = events[-1].seq, time.monotonic()
                with self._bus.moved:
                    wanted.count -= len(events)
                    pending = wanted.count
                yield pb.FetchResponse(
                    events=[
                        pb.ConsumerEvent(
                            event=pb.ProducerEvent(id=one.id, schema_id=one.schema_id, payload=one.payload),
                            replay_id=replay_id(one.seq),
                        )
                        for one in events
                    ],
                    latest_replay_id=replay_id(at),
                    rpc_id=rpc_id,
                    pending_num_requested=pending,
                )
                continue
            if wanted.count:
                at = max(at, newest)  # nothing of this topic up to here
            elif wanted.ended:
                return
            if wanted.count and time.monotonic() - told >= self._keep_alive:
                told = time.monotonic()
                yield pb.FetchResponse(
                    latest_replay_id=replay_id(at), rpc_id=rpc_id, pending_num_requested=wanted.count
                )
            with self._bus.moved:
                quiet = self._bus.last() == newest and not wanted.news
                if quiet:
                    moved = self._bus.moved.wait(min(_LOOK_SECONDS, self._keep_alive))
                wanted.news = False
            if quiet and moved:
                time.sleep(_GATHER_SECONDS)
        if self.stopping.is_set():
            _abort(context, *_FAILURES["503"], "the server stops")

    def _begin(self, first: pb.FetchRequest, context: Context) -> int:
        if first.replay_preset == pb.LATEST:
            return self._bus.last()
        if first.replay_preset == pb.EARLIEST:
            return self._bus.first()
        try:
            return self._bus.place(first.replay_id)
        except UnknownPlaceError as error:
            self._refuse(context, error.code, "the replay id is not valid")

    def _entity(self, topic: str, context: Context) -> SObject | None:
        try:
            return self._bus.entity(topic)
        except ApiError as error:
            _abort(context, grpc.StatusCode.NOT_FOUND, "sfdc.platform.eventbus.grpc.topic.not.found", str(error))

    def _refuse(self, context: Context, code: str, message: str) -> NoReturn:
        _abort(context, grpc.StatusCode.INVALID_ARGUMENT, code, message)

    def _admit(self, method: str, context: Context) -> str:
        """The caller's token, once everything about the caller is right and no fault was ordered."""
        fault = self._faults.strike(frozenset(_FAILURES) & CALL_KINDS, "POST", f"/{SERVICE}/{method}")
        if fault is not None:
            _abort(context, *_FAILURES[fault], "as ordered")
        given = dict(context.invocation_metadata())
        token = str(given.get("accesstoken", ""))
        if not str(given.get("instanceurl", "")).startswith(("http://", "https://")):
            _abort(context, grpc.StatusCode.UNAUTHENTICATED, _AUTH, "instanceurl is missing or no URL")
        if given.get("tenantid") not in (ORG, ORG[:15], WORD):
            _abort(context, grpc.StatusCode.UNAUTHENTICATED, _AUTH, "tenantid is not this org's")
        if not self._sessions.valid(token):
            _abort(context, grpc.StatusCode.UNAUTHENTICATED, _AUTH, "the access token is not valid")
        return token


class Server:
    """The gRPC server on this machine, listening from the start; port 0 takes a free one."""

    def __init__(self, service: PubSub, port: int) -> None:
        self._service = service
        self._server = grpc.server(
            ThreadPoolExecutor(_SUBSCRIBERS, thread_name_prefix="pubsub"), options=[("grpc.so_reuseport", 0)]
        )
        self._server.add_generic_rpc_handlers((service.handler(),))
        try:
            self.address = f"{HOST}:{self._server.add_insecure_port(f'{HOST}:{port}')}"
        except RuntimeError as error:
            raise OSError(0, f"port {port} cannot be used for Pub/Sub") from error
        self._server.start()

    def release(self) -> None:
        """Ends the subscriptions. Safe in a signal handler."""
        self._service.stopping.set()

    def stop(self) -> None:
        """Calls that do not end by themselves are cut off."""
        self.release()
        self._server.stop(1.0).wait(3.0)


def _rpc_id() -> str:
    return str(uuid.uuid4())


def _abort(context: Context, status: Any, code: str, message: str) -> NoReturn:
    context.set_trailing_metadata((("error-code", code), ("rpc-id", _rpc_id())))
    context.abort(status, f"{code}: {message}")
    raise AssertionError("unreachable")
