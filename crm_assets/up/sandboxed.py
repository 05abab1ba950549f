"""Without any CRM's URL everything works against the local sandbox: its address, its credentials, its quick times.

With one CRM's URL set, that one is real and the others are left out (``enabled`` in their defs.yaml): the made-up
records of a sandbox do not belong beside real ones.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from crm_assets.connections import ConnectionSpec
from crm_assets.up.options import GRPC_PORT

URLS = ("SALESFORCE_URL", "HUBSPOT_URL", "NETSUITE_URL")
"""One for each connection of the default defs."""

_WITHIN = {
    "SALESFORCE_CLIENT_ID": "sandbox",
    "SALESFORCE_CLIENT_SECRET": "sandbox",
    "SALESFORCE_WEBHOOK_SECRET": "sandbox",
    # The sandbox answers within seconds or not at all; a lost call need not hold its record for long.
    "SALESFORCE_LONGEST_CALL_SECONDS": "20",
    "SALESFORCE_CALL_TIMEOUT_SECONDS": "10",
    # Its org has Change Data Capture switched on for every object.
    "SALESFORCE_PUBSUB_TOPICS": "/data/ChangeEvents",
    "HUBSPOT_TOKEN": "sandbox",
    "HUBSPOT_CLIENT_SECRET": "sandbox",
    "HUBSPOT_LONGEST_CALL_SECONDS": "20",
    "HUBSPOT_CALL_TIMEOUT_SECONDS": "10",
    "HUBSPOT_INDEX_LAG_SECONDS": "1",
    "NETSUITE_CLIENT_ID": "sandbox",
    "NETSUITE_CERTIFICATE_ID": "sandbox",
    "NETSUITE_WEBHOOK_SECRET": "sandbox",
    "NETSUITE_LONGEST_CALL_SECONDS": "20",
    "NETSUITE_CALL_TIMEOUT_SECONDS": "10",
}


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether no CRM is configured."""
    return not any(environment.get(name) for name in URLS)


def data_dir(home: Path) -> Path:
    """Where the sandbox keeps its records, and the private key that it makes for log-ins."""
    return home / "sandbox"


def use(url: str, home: Path, pubsub: str | None = None) -> None:
    """Point this process, and those it starts, to the sandbox at ``url``; what is set already stays."""
    for name in URLS:
        os.environ[name] = url
    os.environ.setdefault("SALESFORCE_PUBSUB_ENDPOINT", pubsub or f"127.0.0.1:{GRPC_PORT}")
    os.environ.setdefault("NETSUITE_PRIVATE_KEY", str(data_dir(home) / "netsuite-key.pem"))
    for name, value in _WITHIN.items():
        os.environ.setdefault(name, value)


def has_stream(spec: ConnectionSpec) -> bool:
    """Whether the connection hears of changes by a stream, and needs no webhooks."""
    return bool(spec.options.get("pubsub_topics"))
