"""The messages of the Pub/Sub API, as far as a subscriber needs them.

Source: the vendor's ``pubsub_api.proto``. They are made in a pool of their own: a program may load the vendor's
generated module too, and two definitions of one name in the common pool cannot live together.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

SERVICE = "eventbus.v1.PubSub"
LATEST, EARLIEST, CUSTOM = 0, 1, 2
"""Where a subscription begins: ``FetchRequest.replay_preset``."""

_PACKAGE = "eventbus.v1"
_TYPES = {
    "string": descriptor_pb2.FieldDescriptorProto.TYPE_STRING,
    "bytes": descriptor_pb2.FieldDescriptorProto.TYPE_BYTES,
    "int32": descriptor_pb2.FieldDescriptorProto.TYPE_INT32,
}
_MESSAGES = {
    # Name, type and number of each field; * before a type stands for any number of them.
    # replay_preset is an enum there, which on the wire is a number.
    "FetchRequest": "topic_name string 1, replay_preset int32 2, replay_id bytes 3, num_requested int32 4",
    "FetchResponse": "events *ConsumerEvent 1, latest_replay_id bytes 2, pending_num_requested int32 4",
    "ConsumerEvent": "event ProducerEvent 1, replay_id bytes 2",
    "ProducerEvent": "id string 1, schema_id string 2, payload bytes 3",
    "SchemaRequest": "schema_id string 1",
    "SchemaInfo": "schema_json string 1, schema_id string 2",
}


def _classes() -> dict[str, Any]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="eventbus.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in _MESSAGES.items():
        message = file.message_type.add(name=name)
        for field in fields.split(", "):
            own, kind, number = field.split()
            made = message.field.add(name=own, number=int(number), label=kinds.LABEL_OPTIONAL)
            if kind.startswith("*"):
                made.label = kinds.LABEL_REPEATED
            if kind in _TYPES:
                made.type = _TYPES[kind]
            else:
                made.type = kinds.TYPE_MESSAGE
                made.type_name = f".{_PACKAGE}.{kind.removeprefix('*')}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in _MESSAGES
    }


_made = _classes()
FetchRequest = _made["FetchRequest"]
FetchResponse = _made["FetchResponse"]
SchemaRequest = _made["SchemaRequest"]
SchemaInfo = _made["SchemaInfo"]
