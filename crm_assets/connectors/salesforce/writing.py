"""Writing: sObject Collections, up to 200 records a call, with an outcome for each; a lone update on a condition.

Source: REST API Developer Guide, "sObject Collections" and "Upsert Records". Per-record errors carry ``statusCode``
where whole-call errors carry ``errorCode``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, time
from email.utils import format_datetime
from typing import Any

import simplejson

from crm_assets.connectors.salesforce import failures
from crm_assets.connectors.salesforce.client import Client
from crm_assets.core.errors import ObjectUnavailable, RejectedError, UnknownOutcome
from crm_assets.core.model import Mutation, Object, Op, Outcome, Result, Value

LARGEST = 200


def write(client: Client, obj: Object, mutations: Sequence[Mutation]) -> list[Outcome]:
    """One call. Every mutation gets its outcome, also when there was no reply at all."""
    op = mutations[0].op
    what = f"{op.value} of {len(mutations)} {obj.name}"
    try:
        if len(mutations) == 1 and op is Op.UPDATE and mutations[0].if_version is not None:
            return [_update_unchanged(client, obj, mutations[0], mutations[0].if_version)]
        response = _send(client, obj, op, mutations, what)
        results = _results(client, response.content)
    except UnknownOutcome as error:
        return [Outcome(m.seq, Result.UNKNOWN, reason=str(error)) for m in mutations]
    except RejectedError as error:
        # The call as a whole was refused; a single record in it may be why, and the caller finds it by halving.
        if len(mutations) > 1 or isinstance(error, ObjectUnavailable):
            raise
        return [Outcome(mutations[0].seq, Result.REJECTED, reason=str(error))]
    if len(results) != len(mutations):
        reason = f"{client.config.name}: {what}: {len(results)} results came back"
        return [Outcome(m.seq, Result.UNKNOWN, reason=reason) for m in mutations]
    return [_outcome(m, result) for m, result in zip(mutations, results, strict=True)]


def _send(client: Client, obj: Object, op: Op, mutations: Sequence[Mutation], what: str) -> Any:
    base = f"{client.root}/composite/sobjects"
    if op is Op.DELETE:
        ids = ",".join(m.id or "" for m in mutations)
        return client.call("DELETE", base, "write", what, writes=True, params={"ids": ids, "allOrNone": "false"})
    attributes = {"type": obj.name}
    records = [{"attributes": attributes, **_record(obj, m)} for m in mutations]
    path, method = base, "POST" if op is Op.CREATE else "PATCH"
    if op is Op.CREATE and obj.external_id is not None:
        path, method = f"{base}/{obj.name}/{obj.external_id}", "PATCH"
    body = simplejson.dumps({"allOrNone": False, "records": records}, use_decimal=True)
    return client.call(
        method,
        path,
        "write",
        what,
        writes=True,
        content=body.encode(),
        headers={"Content-Type": "application/json"},
    )


def _update_unchanged(client: Client, obj: Object, mutation: Mutation, version: str) -> Outcome:
    """An update of one record that the vendor refuses if it was modified after ``version``. sObject Collections take no
    such condition.

    Source: REST API Developer Guide, "Conditional Request Headers".
    """
    record = _record(obj, mutation)
    del record["Id"]
    response = client.call(
        "PATCH",
        f"{client.root}/sobjects/{obj.name}/{mutation.id}",
        "write",
        f"update of {obj.name}",
        writes=True,
        accept=(404, 412),
        content=simplejson.dumps(record, use_decimal=True).encode(),
        headers={
            "Content-Type": "application/json",
            "If-Unmodified-Since": format_datetime(datetime.fromisoformat(version).astimezone(UTC), usegmt=True),
        },
    )
    match response.status_code:
        case 412:
            return Outcome(mutation.seq, Result.CHANGED, reason="the record changed in the CRM meanwhile")
        case 404:
            code, message = failures.read(response)
            return _outcome(mutation, {"errors": [{"errorCode": code, "message": message}]})
        case _:
            return Outcome(mutation.seq, Result.CONFIRMED, id=mutation.id)


def _record(obj: Object, mutation: Mutation) -> dict[str, Any]:
    record: dict[str, Any] = {}
    if mutation.op is Op.UPDATE:
        record["Id"] = mutation.id
    for column, value in mutation.values.items():
        fld = obj.by_column.get(column)
        if fld is not None:
            record[fld.name] = to_wire(value)
    if mutation.op is Op.CREATE and obj.external_id is not None:
        record[obj.external_id] = str(mutation.row_id)
    return record


def to_wire(value: Value) -> Any:
    """A value as JSON carries it: instants in UTC with milliseconds, numbers exact."""
    match value:
        case str() | None:
            return value
        case datetime():
            at = value.astimezone(UTC)
            return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03d}+0000"
        case time():
            return f"{value:%H:%M:%S}.{value.microsecond // 1000:03d}Z"
        case date():
            return value.isoformat()
        case _:
            return value


def _results(client: Client, content: bytes) -> list[Mapping[str, Any]]:
    """The list of results; one that is cut off says nothing about what was done."""
    try:
        body = simplejson.loads(content)
    except ValueError as error:
        raise UnknownOutcome(f"{client.config.name}: the reply to a write is cut off") from error
    if not isinstance(body, list):
        raise UnknownOutcome(f"{client.config.name}: the reply to a write is not a list")
    return body


def _outcome(mutation: Mutation, result: Mapping[str, Any]) -> Outcome:
    if result.get("success"):
        return Outcome(mutation.seq, Result.CONFIRMED, id=result.get("id") or mutation.id)
    errors = result.get("errors") or [{}]
    codes = [str(e.get("statusCode") or e.get("errorCode") or "") for e in errors]
    reason = "; ".join(f"{code}: {e.get('message', '')}" for code, e in zip(codes, errors, strict=True))
    fields = tuple(name for e in errors for name in e.get("fields") or ())
    if any(code in failures.GONE_CODES for code in codes):
        return Outcome(mutation.seq, Result.GONE, reason=reason)
    if all(code in failures.RETRY_CODES for code in codes):
        return Outcome(mutation.seq, Result.RETRY, reason=reason)
    return Outcome(mutation.seq, Result.REJECTED, reason=reason, fields=fields)
