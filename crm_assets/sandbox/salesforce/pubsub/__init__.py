"""The org's event bus: Change Data Capture over the Pub/Sub API.

``eventbus_pb2`` is generated from ``eventbus.proto``; in the repository's root:

    python -m grpc_tools.protoc -I. --python_out=. --pyi_out=. crm_assets/sandbox/salesforce/pubsub/eventbus.proto
"""
