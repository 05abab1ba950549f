"""Without SALESFORCE_URL everything works against the local sandbox: its address, its credentials, its quick times."""

from __future__ import annotations

import os
from collections.abc import Mapping

from crm_assets.connections import ConnectionSpec
from crm_assets.up.options import GRPC_PORT

URL = "SALESFORCE_URL"

_WITHIN = {
    "SALESFORCE_CLIENT_ID": "sandbox",
    "SALESFORCE_CLIENT_SECRET": "sandbox",
    "SALESFORCE_WEBHOOK_SECRET": "sandbox",
    # The sandbox answers within seconds or not at all; a lost call need not hold its record for long.
    "SALESFORCE_LONGEST_CALL_SECONDS": "20",
    "SALESFORCE_CALL_TIMEOUT_SECONDS": "10",
    # Its org has Change Data Capture switched on for every object.
    "SALESFORCE_PUBSUB_TOPICS": "/data/ChangeEvents",
}


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether no CRM is configured."""
    return not environment.get(URL)


def use(url: str, pubsub: str | None = None) -> None:
    """Point this process, and those it starts, to the sandbox at ``url``; what is set already stays."""
    os.environ[URL] = url
    os.environ.setdefault("SALESFORCE_PUBSUB_ENDPOINT", pubsub or f"127.0.0.1:{GRPC_PORT}")
    for name, value in _WITHIN.items():
        os.environ.setdefault(name, value)


def has_stream(spec: ConnectionSpec) -> bool:
    """Whether the connection hears of changes by a stream, and needs no webhooks."""
    return bool(spec.options.get("pubsub_topics"))
