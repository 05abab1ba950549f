"""Pipelines of deals and tickets: ``/crm/v3/pipelines/{type}``."""

from __future__ import annotations

from typing import Any

from crm_assets.sandbox.http import Reply
from crm_assets.sandbox.routes import Routes

from . import clock
from .errors import ApiError, invalid
from .kinds import Kind
from .store import Store
from .wire import Call, json_reply

_DEALS = (
    ("appointmentscheduled", "Appointment Scheduled", "0.2"),
    ("qualifiedtobuy", "Qualified To Buy", "0.4"),
    ("presentationscheduled", "Presentation Scheduled", "0.6"),
    ("decisionmakerboughtin", "Decision Maker Bought-In", "0.8"),
    ("contractsent", "Contract Sent", "0.9"),
    ("closedwon", "Closed Won", "1.0"),
    ("closedlost", "Closed Lost", "0.0"),
)
_TICKETS = (("1", "New"), ("2", "Waiting on contact"), ("3", "Waiting on us"), ("4", "Closed"))
_ORIGIN = clock.iso(1_577_836_800_000)


def _stage(key: str, label: str, order: int, metadata: dict[str, str], made: str = _ORIGIN) -> dict[str, Any]:
    return {
        "id": key,
        "label": label,
        "displayOrder": order,
        "metadata": metadata,
        "archived": False,
        "createdAt": made,
        "updatedAt": made,
        "writePermissions": "CRM_PERMISSIONS_ENFORCEMENT",
    }


def _pipeline(key: str, label: str, order: int, stages: list[dict[str, Any]], made: str = _ORIGIN) -> dict[str, Any]:
    return {
        "id": key,
        "label": label,
        "displayOrder": order,
        "stages": stages,
        "archived": False,
        "createdAt": made,
        "updatedAt": made,
    }


def standard() -> dict[str, dict[str, Any]]:
    """What a fresh account has, by object."""
    deals = [
        _stage(key, label, order, {"isClosed": str(key.startswith("closed")).lower(), "probability": probability})
        for order, (key, label, probability) in enumerate(_DEALS)
    ]
    tickets = [
        _stage(
            key, label, order, {"isClosed": str(key == "4").lower(), "ticketState": "CLOSED" if key == "4" else "OPEN"}
        )
        for order, (key, label) in enumerate(_TICKETS)
    ]
    return {
        "deals": _pipeline("default", "Sales Pipeline", 0, deals),
        "tickets": _pipeline("0", "Support Pipeline", 0, tickets),
    }


class Pipelines:
    """Reads and changes pipelines and their stages."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._schema = store.schema

    def routes(self, routes: Routes) -> None:
        base = "/crm/v3/pipelines/{type}"
        one, stages = f"{base}/{{key}}", f"{base}/{{key}}/stages"
        routes.add("GET", base, "pipelines", self.listing)
        routes.add("POST", base, "pipelines", self.create)
        routes.add("GET", one, "pipelines", self.get)
        routes.add("PATCH", one, "pipelines", self.change)
        routes.add("DELETE", one, "pipelines", self.delete)
        routes.add("GET", stages, "pipelines", self.stages)
        routes.add("POST", stages, "pipelines", self.create_stage)
        routes.add("GET", f"{stages}/{{stage}}", "pipelines", self.get_stage)
        routes.add("PATCH", f"{stages}/{{stage}}", "pipelines", self.change_stage)
        routes.add("DELETE", f"{stages}/{{stage}}", "pipelines", self.delete_stage)

    def listing(self, call: Call, type: str) -> Reply:
        kind = self._schema.kind(type)
        return json_reply({"results": sorted(self._schema.pipelines(kind.name).values(), key=_order)})

    def get(self, call: Call, type: str, key: str) -> Reply:
        return json_reply(self._found(self._kind(type), key))

    def create(self, call: Call, type: str) -> Reply:
        kind, body, now = self._kind(type), call.body(), clock.iso(clock.now())
        stages = [
            _stage(
                str(one.get("stageId") or clock.now() + number),
                _label(one),
                _shown(one),
                one.get("metadata") or {},
                now,
            )
            for number, one in enumerate(body.get("stages") or [])
        ]
        made = _pipeline(str(body.get("pipelineId") or clock.now()), _label(body), _shown(body), stages, now)
        self._save(kind, made)
        return json_reply(made, 201)

    def change(self, call: Call, type: str, key: str) -> Reply:
        kind, body = self._kind(type), call.body()
        changed = _changed(self._found(kind, key), body)
        self._save(kind, changed)
        return json_reply(changed)

    def delete(self, call: Call, type: str, key: str) -> Reply:
        kind = self._kind(type)
        self._found(kind, key)
        with self._store.setup():
            self._schema.drop_pipeline(kind.name, key)
        return Reply(204)

    def stages(self, call: Call, type: str, key: str) -> Reply:
        return json_reply({"results": self._found(self._kind(type), key)["stages"]})

    def create_stage(self, call: Call, type: str, key: str) -> Reply:
        kind, body, now = self._kind(type), call.body(), clock.now()
        pipeline = self._found(kind, key)
        made = _stage(
            str(body.get("stageId") or now), _label(body), _shown(body), body.get("metadata") or {}, clock.iso(now)
        )
        self._save(kind, pipeline | {"stages": [*pipeline["stages"], made], "updatedAt": clock.iso(now)})
        return json_reply(made, 201)

    def get_stage(self, call: Call, type: str, key: str, stage: str) -> Reply:
        return json_reply(self._stage(self._found(self._kind(type), key), stage))

    def change_stage(self, call: Call, type: str, key: str, stage: str) -> Reply:
        kind, body = self._kind(type), call.body()
        pipeline = self._found(kind, key)
        changed = _changed(self._stage(pipeline, stage), body)
        stages = [changed if one["id"] == stage else one for one in pipeline["stages"]]
        self._save(kind, pipeline | {"stages": stages, "updatedAt": changed["updatedAt"]})
        return json_reply(changed)

    def delete_stage(self, call: Call, type: str, key: str, stage: str) -> Reply:
        kind = self._kind(type)
        pipeline = self._found(kind, key)
        self._stage(pipeline, stage)
        stages = [one for one in pipeline["stages"] if one["id"] != stage]
        self._save(kind, pipeline | {"stages": stages, "updatedAt": clock.iso(clock.now())})
        return Reply(204)

    def _kind(self, name: str) -> Kind:
        kind = self._schema.kind(name)
        if kind.name not in ("deals", "tickets"):
            raise invalid(f"{kind.noun} records have no pipelines")
        return kind

    def _found(self, kind: Kind, key: str) -> dict[str, Any]:
        found = self._schema.pipelines(kind.name).get(key)
        if found is None:
            raise ApiError(404, f"Pipeline {key} does not exist", "OBJECT_NOT_FOUND", {"pipelineId": [key]})
        return found

    def _stage(self, pipeline: dict[str, Any], key: str) -> dict[str, Any]:
        for one in pipeline["stages"]:
            if one["id"] == key:
                found: dict[str, Any] = one
                return found
        raise ApiError(404, f"Stage {key} does not exist", "OBJECT_NOT_FOUND", {"stageId": [key]})

    def _save(self, kind: Kind, body: dict[str, Any]) -> None:
        with self._store.setup():
            self._schema.save_pipeline(kind.name, body)


def _order(one: dict[str, Any]) -> int:
    return int(one["displayOrder"])


def _label(body: dict[str, Any]) -> str:
    if not body.get("label"):
        raise invalid("A label is needed")
    return str(body["label"])


def _shown(body: dict[str, Any]) -> int:
    return int(body.get("displayOrder") or 0)


def _changed(one: dict[str, Any], body: dict[str, Any]) -> dict[str, Any]:
    """With what a body changes of a label, a place or the facts of a stage."""
    changes = {key: body[key] for key in ("label", "displayOrder", "archived", "metadata") if key in body}
    if "metadata" in changes:
        changes["metadata"] = one.get("metadata", {}) | changes["metadata"]
    return one | changes | {"updatedAt": clock.iso(clock.now())}
