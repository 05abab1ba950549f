"""Without SALESFORCE_URL everything works against the local sandbox: its address, its credentials, its quick times."""

from __future__ import annotations

import os
from collections.abc import Mapping

URL = "SALESFORCE_URL"

_WITHIN = {
    "SALESFORCE_CLIENT_ID": "sandbox",
    "SALESFORCE_CLIENT_SECRET": "sandbox",
    "SALESFORCE_WEBHOOK_SECRET": "sandbox",
    # The sandbox answers within seconds or not at all; a lost call need not hold its record for long.
    "SALESFORCE_LONGEST_CALL_SECONDS": "20",
    "SALESFORCE_CALL_TIMEOUT_SECONDS": "10",
}


def wanted(environment: Mapping[str, str] = os.environ) -> bool:
    """Whether no CRM is configured."""
    return not environment.get(URL)


def use(url: str) -> None:
    """Point this process, and those it starts, to the sandbox at ``url``; what is set already stays."""
    os.environ[URL] = url
    for name, value in _WITHIN.items():
        os.environ.setdefault(name, value)
