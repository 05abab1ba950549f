"""Writing records over REST: one record a call.

Source: REST Web Services, "Working with Records" (POST, PATCH, DELETE), "Upsert" (PUT by external id). Without an
external id a create has a key of its own (``once``).
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

from crm_assets.connectors.netsuite import once
from crm_assets.connectors.netsuite.client import RECORDS, Client
from crm_assets.connectors.netsuite.describe import EXTERNAL_ID
from crm_assets.connectors.netsuite.failures import NONEXISTENT_ID, Refused
from crm_assets.connectors.netsuite.kinds import lines_of
from crm_assets.core.errors import ConfigurationError, RejectedError, RetriableError, UnknownOutcome
from crm_assets.core.model import Field, FieldType, Mutation, Object, Op, Outcome, Result, Value

LARGEST = 10

_PLACE = re.compile(r"/(\d+)/?$")

Send = Callable[[Mutation, timedelta], Outcome]
"""Sends one mutation, waiting for its reply no longer than given."""


def write(client: Client, obj: Object, mutations: Sequence[Mutation]) -> list[Outcome]:
    """A call for each, one after the other. Every mutation gets its outcome."""
    return one_by_one(client, mutations, lambda mutation, within: _send(client, obj, mutation, within))


def one_by_one(client: Client, mutations: Sequence[Mutation], send: Send) -> list[Outcome]:
    """Outcomes of single calls that together take no longer than one call may.

    Behind a call that is not answered, or that could not be made, the rest is not sent. Raises only if none was.
    """
    allowed = client.config.call_timeout
    started = time.monotonic()
    outcomes: list[Outcome] = []
    stopped = ""
    for mutation in mutations:
        within = allowed - timedelta(seconds=time.monotonic() - started)
        if not stopped and outcomes and within < allowed / 2:
            stopped = "not sent: the calls before it took long"
        if stopped:
            outcomes.append(Outcome(mutation.seq, Result.RETRY, reason=stopped))
            continue
        try:
            outcomes.append(send(mutation, within))
        except UnknownOutcome as error:
            outcomes.append(Outcome(mutation.seq, Result.UNKNOWN, reason=str(error)))
            stopped = "not sent: the call before it was not answered"
        except Refused as error:
            outcomes.append(refusal(mutation, error))
        except (RetriableError, RejectedError, ConfigurationError) as error:
            if not outcomes:
                raise
            outcomes.append(Outcome(mutation.seq, Result.RETRY, reason=str(error)))
            stopped = f"not sent: {error}"
    return outcomes


def refusal(mutation: Mutation, error: Refused) -> Outcome:
    """What NetSuite refused for good, in its words but for the values that were sent."""
    result = Result.GONE if error.code == NONEXISTENT_ID and mutation.op is not Op.CREATE else Result.REJECTED
    return Outcome(mutation.seq, result, reason=_without(mutation, str(error)), fields=error.fields)


def _send(client: Client, obj: Object, mutation: Mutation, within: timedelta) -> Outcome:
    what = f"{mutation.op.value} of a {obj.name}"
    path = f"{RECORDS}/{obj.name}"
    if mutation.op is Op.DELETE:
        client.write("DELETE", f"{path}/{mutation.id}", what, within=within)
        return Outcome(mutation.seq, Result.CONFIRMED, id=mutation.id)
    body = body_of(obj, mutation.values)
    for inner in mutation.within:
        ends = lines_of(inner.obj.name)
        assert ends is not None
        body[ends[1]] = {"items": [line_of(inner.obj, one.values) for one in inner.mutations]}
    if mutation.op is Op.UPDATE:
        client.write("PATCH", f"{path}/{mutation.id}", what, body, within)
        return Outcome(mutation.seq, Result.CONFIRMED, id=mutation.id)
    if obj.external_id is not None:
        # Sent twice, it is one record: the second time finds the first one's.
        body.pop(EXTERNAL_ID, None)
        place = client.write("PUT", f"{path}/eid:{mutation.row_id}", what, body, within)
    else:
        place, new = once.create(client, path, what, body, mutation, within)
        if not new:
            _bring_up(client, place, what, body_of(obj, mutation.values), within)
    found = _PLACE.search(place or "")
    if found is None:
        raise UnknownOutcome(f"{client.config.name}: {what}: the reply does not say where the record is")
    return Outcome(mutation.seq, Result.CONFIRMED, id=found[1])


def _bring_up(client: Client, place: str | None, what: str, body: dict[str, Any], within: timedelta) -> None:
    """The record was made by an earlier call; what the product has changed since is written into it."""
    try:
        client.write("PATCH", urlsplit(place or "").path, what, body, within)
    except Refused as error:
        raise UnknownOutcome(f"{error}; the record is made, and lacks what was changed since") from error


def body_of(obj: Object, values: Mapping[str, Value]) -> dict[str, Any]:
    """Fields as JSON carries them, by the vendor's names."""
    return {
        fld.name: to_wire(fld, value)
        for column, value in values.items()
        if (fld := obj.by_column.get(column)) is not None
    }


def line_of(obj: Object, values: Mapping[str, Value]) -> dict[str, Any]:
    """A new line as its record carries it: what is left to NetSuite stays out, and so does the record's own id."""
    return {name: value for name, value in body_of(obj, values).items() if value is not None and name != obj.parent}


def to_wire(fld: Field, value: Value) -> Any:
    """A value as JSON: references and choices by id, instants in UTC, numbers exact."""
    if fld.type is FieldType.REFERENCE or fld.vendor_type == "enum":
        return None if value in (None, "") else {"id": str(value)}
    match value:
        case datetime():
            return f"{value.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
        case date():
            return value.isoformat()
        case _:
            return value


def _without(mutation: Mutation, text: str) -> str:
    """A message without the texts that were sent, which it may repeat."""
    sent = {value.strip() for value in mutation.values.values() if isinstance(value, str) and len(value.strip()) > 2}
    for value in sorted(sent, key=len, reverse=True):
        text = text.replace(value, "…")
    return text
