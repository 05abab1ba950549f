"""Writing associations: made with the pair's default type, with a given type, or with a label; removed by either.

Source: Associations API v4, "Associate records", "Remove associations". Repeating either call changes nothing more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from crm_assets.connectors.hubspot.client import ASSOCIATIONS, Client
from crm_assets.connectors.hubspot.edges import DEFINED, Edge, Edges, EdgeType, ends_of, types
from crm_assets.connectors.hubspot.failures import explain
from crm_assets.core.errors import RejectedError, RetriableError, UnknownOutcome
from crm_assets.core.model import Mutation, Object, Op, Outcome, Result

Group = Sequence[tuple[Mutation, Edge]]
Send = Callable[[Group], list[Outcome]]


class EdgeWriter:
    """Sends the mutations of one association table."""

    def __init__(self, client: Client, edges: Edges, obj: Object) -> None:
        self._client = client
        self._edges = edges
        self._obj = obj
        self._start, self._end = ends_of(obj)
        self._path = f"{ASSOCIATIONS}/{self._start}/{self._end}/batch"
        self._known: list[EdgeType] | None = None

    def write(self, mutations: Sequence[Mutation]) -> list[Outcome]:
        """Every mutation gets its outcome; at most one call for each way of writing that they need."""
        refused: list[Outcome] = []
        ways: dict[str, tuple[Send, list[tuple[Mutation, Edge]]]] = {
            "associate/default": (self._default, []),
            "create": (self._typed, []),
            "archive": (self._apart, []),
            "labels/archive": (self._unlabelled, []),
        }
        sort = self._removals(mutations) if mutations[0].op is Op.DELETE else (self._creation(m) for m in mutations)
        for mutation, way, edge, outcome in sort:
            if outcome is not None:
                refused.append(outcome)
            elif edge is not None:
                ways[way][1].append((mutation, edge))
        outcomes: list[Outcome] = []
        for send, group in ways.values():
            if not group:
                continue
            try:
                outcomes += self._halving(send, group)
            except RetriableError as error:
                if not outcomes:
                    raise
                outcomes += [Outcome(m.seq, Result.RETRY, reason=str(error)) for m, _ in group]
        return refused + outcomes

    def _halving(self, send: Send, group: Group) -> list[Outcome]:
        """A batch that is refused as a whole is halved until the one that HubSpot cannot take stands alone."""
        try:
            return send(group)
        except UnknownOutcome as error:
            return [Outcome(m.seq, Result.UNKNOWN, reason=str(error)) for m, _ in group]
        except RejectedError as error:
            if len(group) == 1:
                return [Outcome(group[0][0].seq, Result.REJECTED, reason=str(error))]
        middle = len(group) // 2
        done: list[Outcome] = []
        for half in (group[:middle], group[middle:]):
            try:
                done += self._halving(send, half)
            except RetriableError as error:
                done += [Outcome(m.seq, Result.RETRY, reason=str(error)) for m, _ in half]
        return done

    def _creation(self, m: Mutation) -> tuple[Mutation, str, Edge | None, Outcome | None]:
        start, end = str(m.values["from_id"]), str(m.values["to_id"])
        number, label, category = (m.values.get(name) for name in ("type", "label", "category"))
        if number in (None, "") and label in (None, ""):
            return m, "associate/default", Edge(start, end, EdgeType(DEFINED, 0)), None
        chosen = self._choose(number, label, category)
        if chosen is None:
            known = ", ".join(f"{one.number} {one.label or '(none)'}" for one in self._types())
            reason = f"there is no such type or label from {self._start} to {self._end}; known are {known}"
            return m, "", None, Outcome(m.seq, Result.REJECTED, reason=reason, fields=("type", "label"))
        return m, "create", Edge(start, end, chosen), None

    def _choose(self, number: Any, label: Any, category: Any) -> EdgeType | None:
        if number not in (None, "") and category not in (None, ""):
            return EdgeType(str(category), int(number)) if str(number).isdecimal() else None
        fits = [
            one
            for one in self._types()
            if number in (None, "", str(one.number))
            and label in (None, "", one.label)
            and category in (None, "", one.category)
        ]
        return min(fits, key=lambda one: one.category != DEFINED) if fits else None

    def _types(self) -> list[EdgeType]:
        if self._known is None:
            self._known = types(self._client, self._start, self._end)
        return self._known

    def _removals(self, mutations: Sequence[Mutation]) -> Iterable[tuple[Mutation, str, Edge | None, Outcome | None]]:
        """Without a label it is the pair that is taken apart; a label is taken off a pair that stays together."""
        edges = {m.seq: Edge.parse(m.id or "") for m in mutations}
        parents = list(dict.fromkeys(edge.start for edge in edges.values()))
        page = self._edges.of(self._obj, parents).table
        labels = dict(zip(page["id"].to_pylist(), page["label"].to_pylist(), strict=True))
        for m in mutations:
            edge = edges[m.seq]
            if edge.id not in labels:
                yield m, "", None, Outcome(m.seq, Result.GONE, id=edge.id, reason="the records are not associated so")
            else:
                yield m, "archive" if labels[edge.id] is None else "labels/archive", edge, None

    def _default(self, group: Group) -> list[Outcome]:
        inputs = [{"from": {"id": e.start}, "to": {"id": e.end}} for _, e in group]
        reply = self._send("associate/default", inputs)
        made: dict[tuple[str, str], set[EdgeType]] = {}
        for result in reply.get("results") or ():
            pair = str(result["from"]["id"]), str(result["to"]["id"])
            spec = result["associationSpec"]
            made.setdefault(pair, set()).add(EdgeType(str(spec["associationCategory"]), int(spec["associationTypeId"])))
        outcomes = []
        for m, e in group:
            found = made.get((e.start, e.end), set())
            if len(found) > 1:
                # The way back is told too, and records of different kinds may have the same id.
                here = {(one.category, one.number) for one in self._types()}
                found = {one for one in found if (one.category, one.number) in here}
            if found:
                outcomes.append(Outcome(m.seq, Result.CONFIRMED, id=Edge(e.start, e.end, found.pop()).id))
            else:
                outcomes.append(_missing(m, e, reply))
        return outcomes

    def _typed(self, group: Group) -> list[Outcome]:
        inputs = [{"from": {"id": e.start}, "to": {"id": e.end}, "types": [_spec(e.type)]} for _, e in group]
        reply = self._send("create", inputs)
        made = {(str(r["fromObjectId"]), str(r["toObjectId"])) for r in reply.get("results") or ()}
        return [
            Outcome(m.seq, Result.CONFIRMED, id=e.id) if (e.start, e.end) in made else _missing(m, e, reply)
            for m, e in group
        ]

    def _apart(self, group: Group) -> list[Outcome]:
        inputs = [{"from": {"id": e.start}, "to": [{"id": e.end}]} for _, e in group]
        return self._removed("archive", inputs, group)

    def _unlabelled(self, group: Group) -> list[Outcome]:
        inputs = [{"from": {"id": e.start}, "to": {"id": e.end}, "types": [_spec(e.type)]} for _, e in group]
        return self._removed("labels/archive", inputs, group)

    def _removed(self, way: str, inputs: Sequence[Any], group: Group) -> list[Outcome]:
        self._send(way, inputs)
        return [Outcome(m.seq, Result.CONFIRMED, id=e.id) for m, e in group]

    def _send(self, way: str, inputs: Sequence[Any]) -> Mapping[str, Any]:
        what = f"{way} of {len(inputs)} {self._obj.name}"
        return self._client.write("POST", f"{self._path}/{way}", what, {"inputs": list(inputs)})


def _spec(kind: EdgeType) -> dict[str, Any]:
    return {"associationCategory": kind.category, "associationTypeId": kind.number}


def _missing(m: Mutation, e: Edge, reply: Mapping[str, Any]) -> Outcome:
    """A pair that the reply does not confirm: refused if an error is about it (or about nothing in particular)."""
    errors = list(reply.get("errors") or ())
    about = [error for error in errors if _ids(error) & {e.start, e.end}] or [x for x in errors if not _ids(x)]
    if not about:
        return Outcome(m.seq, Result.UNKNOWN, reason="the reply does not mention this association")
    return Outcome(m.seq, Result.REJECTED, reason=explain(about[0]))


def _ids(error: Mapping[str, Any]) -> set[str]:
    return {str(value) for values in (error.get("context") or {}).values() for value in values}
