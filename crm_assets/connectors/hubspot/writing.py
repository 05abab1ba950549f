"""Writing: batches of up to 100 records, with an outcome for each.

Source: CRM objects API, "Create / Update / Upsert / Archive a batch", "Multi-status errors". A batch answers 207 with
results and errors for each record only if every input carries an ``objectWriteTraceId``; results stand in no order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from crm_assets.connectors.hubspot.client import OBJECTS, Client
from crm_assets.connectors.hubspot.failures import NOT_FOUND, explain, properties
from crm_assets.connectors.hubspot.wire import text
from crm_assets.core.errors import RejectedError, UnknownOutcome
from crm_assets.core.model import Mutation, Object, Op, Outcome, Result

LARGEST = 100

_AGAIN = frozenset({"RATE_LIMITS", "LOCKED"})


def write(client: Client, obj: Object, mutations: Sequence[Mutation]) -> list[Outcome]:
    """One call. Every mutation gets its outcome, also when there was no reply at all."""
    op = mutations[0].op
    what = f"{op.value} of {len(mutations)} {obj.name}"
    upsert = op is Op.CREATE and obj.external_id is not None
    action = {Op.CREATE: "upsert" if upsert else "create", Op.UPDATE: "update", Op.DELETE: "archive"}[op]
    inputs = [{"id": m.id} if op is Op.DELETE else _input(obj, m) for m in mutations]
    try:
        reply = client.write("POST", f"{OBJECTS}/{obj.name}/batch/{action}", what, {"inputs": inputs})
    except UnknownOutcome as error:
        return [Outcome(m.seq, Result.UNKNOWN, reason=str(error)) for m in mutations]
    except RejectedError as error:
        if len(mutations) == 1 and error.code == NOT_FOUND:
            return [Outcome(mutations[0].seq, Result.GONE, reason=str(error))]
        raise
    if op is Op.DELETE:
        # Archiving says nothing of single records: those that are gone already stay so.
        return [Outcome(m.seq, Result.CONFIRMED, id=m.id) for m in mutations]
    if reply.get("status") != "COMPLETE":
        reason = f"{client.config.name}: {what}: HubSpot left the batch {reply.get('status')}"
        return [Outcome(m.seq, Result.UNKNOWN, reason=reason) for m in mutations]
    return list(_outcomes(client, obj, mutations, reply, what))


def _input(obj: Object, mutation: Mutation) -> dict[str, Any]:
    values = {
        fld.name: text(value)
        for column, value in mutation.values.items()
        if (fld := obj.by_column.get(column)) is not None
    }
    entry: dict[str, Any] = {"properties": values, "objectWriteTraceId": _trace(mutation)}
    if mutation.op is Op.UPDATE:
        entry["id"] = mutation.id
    elif obj.external_id is not None:
        # Sent twice, it is one record: the second time finds the first one's.
        values[obj.external_id] = str(mutation.row_id)
        entry |= {"id": str(mutation.row_id), "idProperty": obj.external_id}
    return entry


def _trace(mutation: Mutation) -> str:
    """Not a bare number: that could be another record's id."""
    return f"write-{mutation.seq}"


def _outcomes(
    client: Client, obj: Object, mutations: Sequence[Mutation], reply: Mapping[str, Any], what: str
) -> Iterator[Outcome]:
    done: dict[str, str] = {}
    for result in reply.get("results") or ():
        for name in _names_of(obj, result):
            done[name] = str(result["id"])
    refused: dict[str, Mapping[str, Any]] = {}
    for error in reply.get("errors") or ():
        context = error.get("context") or {}
        for name in (*(context.get("objectWriteTraceId") or ()), *(context.get("ids") or ()), error.get("id")):
            if name:
                refused[str(name)] = error
    for m in mutations:
        names = [_trace(m), m.id or str(m.row_id)]
        found = next((done[name] for name in names if name in done), None)
        error = next((refused[name] for name in names if name in refused), None)
        if found is not None:
            yield Outcome(m.seq, Result.CONFIRMED, id=found)
        elif error is not None:
            yield _refusal(m, error)
        else:
            reason = f"{client.config.name}: {what}: the reply does not mention this record"
            yield Outcome(m.seq, Result.UNKNOWN, reason=reason)


def _names_of(obj: Object, result: Mapping[str, Any]) -> Iterator[str]:
    """By what a result can be told apart: our trace id, the external id, the record's own."""
    if result.get("objectWriteTraceId"):
        yield str(result["objectWriteTraceId"])
    if obj.external_id is not None and (ours := (result.get("properties") or {}).get(obj.external_id)):
        yield str(ours)
    yield str(result["id"])


def _refusal(mutation: Mutation, error: Mapping[str, Any]) -> Outcome:
    category, reason = str(error.get("category") or ""), explain(error)
    if category == NOT_FOUND:
        return Outcome(mutation.seq, Result.GONE, reason=reason)
    if category in _AGAIN:
        return Outcome(mutation.seq, Result.RETRY, reason=reason)
    return Outcome(mutation.seq, Result.REJECTED, reason=reason, fields=properties(error))
