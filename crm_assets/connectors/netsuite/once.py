"""Creates that NetSuite does once, however often they are sent: asynchronous calls with an idempotency key.

Sources: "Executing Asynchronous Requests" (a job with one task, whose result is what the call itself would have been
answered); "Idempotency" (the key counts only there; a repeated one is refused with the address of the first job).
"""

from __future__ import annotations

import itertools
import time
import uuid
from datetime import timedelta
from typing import Any

from crm_assets.connectors.netsuite.client import Client
from crm_assets.connectors.netsuite.failures import Refused
from crm_assets.core.errors import RejectedError, RetriableError, UnknownOutcome
from crm_assets.core.model import Mutation

_LONGEST_POLL_S = 1.0


def create(
    client: Client, path: str, what: str, body: Any, mutation: Mutation, within: timedelta
) -> tuple[str | None, bool]:
    """Where the record is, and whether this call made it: an earlier one may have, of other values than these.

    UnknownOutcome if no reply came, or NetSuite is not done in time: sent again, the same mutation leads to the same
    job.
    """
    ends = time.monotonic() + within.total_seconds()
    for attempt in itertools.count(1):
        key = uuid.uuid5(mutation.row_id, f"{mutation.seq}:{attempt}")
        job, new = client.submit(path, what, body, str(key), within)
        try:
            _finished(client, job, what, ends)
            return client.result(job, what), new
        except Refused:
            if new:
                raise
            # An earlier try of this mutation, which was refused and made nothing: what is wanted now is another call.
    raise AssertionError("unreachable")


def _finished(client: Client, job: str, what: str, ends: float) -> None:
    """Until the job ends. The pauses wait for the vendor's work, not for its limits."""
    pause = 0.05
    while True:
        try:
            if client.get(job, "job", what)["completed"]:
                return
        except (RetriableError, RejectedError) as error:
            raise UnknownOutcome(f"{error}; the job goes on without us") from error
        if time.monotonic() > ends:
            raise UnknownOutcome(f"{client.config.name}: {what}: NetSuite has not finished the job in time")
        time.sleep(pause)
        pause = min(pause * 1.6, _LONGEST_POLL_S)
