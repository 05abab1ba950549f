"""Properties and their groups: ``/crm/v3/properties/{type}``."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Any

from crm_assets.sandbox.http import Reply
from crm_assets.sandbox.routes import Routes

from . import clock
from .errors import ApiError, invalid
from .kinds import Kind
from .properties import TYPES, Property
from .schema import Schema
from .store import Store
from .wire import Call, batch, inputs, json_reply

_NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_UNIQUE = 10
_CHANGES = {
    "label": "label",
    "description": "description",
    "type": "type",
    "fieldType": "field_type",
    "groupName": "group",
    "displayOrder": "order",
    "hidden": "hidden",
    "formField": "form_field",
}


class Describe:
    """Lists properties, and does what an admin does to them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._schema: Schema = store.schema

    def routes(self, routes: Routes) -> None:
        base = "/crm/v3/properties/{type}"
        routes.add("GET", base, "properties", self.listing)
        routes.add("POST", base, "properties", self.create)
        routes.add("POST", f"{base}/batch/read", "properties", self.batch_read)
        routes.add("POST", f"{base}/batch/create", "properties", self.batch_create)
        routes.add("POST", f"{base}/batch/archive", "properties", self.batch_archive)
        routes.add("GET", f"{base}/groups", "properties", self.groups)
        routes.add("GET", f"{base}/{{name}}", "properties", self.get)
        routes.add("PATCH", f"{base}/{{name}}", "properties", self.patch)
        routes.add("DELETE", f"{base}/{{name}}", "properties", self.archive)

    def listing(self, call: Call, type: str) -> Reply:
        known, archived = self._schema.known(self._schema.kind(type)), call.flag("archived")
        wanted = set(call.names("properties"))
        return json_reply(
            {
                "results": [
                    one.api()
                    for one in known.values()
                    if (one.archived is not None) is archived and (not wanted or one.name in wanted)
                ]
            }
        )

    def get(self, call: Call, type: str, name: str) -> Reply:
        return json_reply(self._found(self._schema.kind(type), name, call.flag("archived")).api())

    def create(self, call: Call, type: str) -> Reply:
        kind = self._schema.kind(type)
        with self._store.setup():
            made = self._made(kind, call.body())
        return json_reply(made.api(), 201)

    def patch(self, call: Call, type: str, name: str) -> Reply:
        kind, body = self._schema.kind(type), call.body()
        with self._store.setup():
            one = self._found(kind, name)
            if not one.custom and body.keys() - {
                "label",
                "options",
                "groupName",
                "displayOrder",
                "hidden",
                "formField",
            }:
                raise invalid(f"{name} is defined by HubSpot; its definition cannot be changed", propertyName=[name])
            changes = {_CHANGES[key]: value for key, value in body.items() if key in _CHANGES}
            if changes.get("type", one.type) not in TYPES:
                raise invalid(f"{changes['type']} is no type of property", propertyName=[name])
            if "options" in body:
                changes["options"] = options(body["options"])
            changed = one.but(**changes, changed=clock.now())
            self._schema.save(kind, changed)
        return json_reply(changed.api())

    def archive(self, call: Call, type: str, name: str) -> Reply:
        kind = self._schema.kind(type)
        with self._store.setup():
            self._drop(kind, [name])
        return Reply(204)

    def _drop(self, kind: Kind, names: Iterable[str]) -> None:
        for name in names:
            one = self._found(kind, name)
            if not one.custom:
                raise invalid(f"{name} is defined by HubSpot; it cannot be archived", propertyName=[name])
            self._schema.save(kind, one.but(archived=clock.now()))

    def batch_read(self, call: Call, type: str) -> Reply:
        kind, body, started = self._schema.kind(type), call.body(), clock.now()
        names, archived = [str(one.get("name")) for one in inputs(body)], bool(body.get("archived"))
        found, errors = [], []
        for name in names:
            try:
                found.append(self._found(kind, name, archived).api())
            except ApiError as failed:
                errors.append(failed.item({"name": [name]}))
        return batch(found, errors, started)

    def batch_create(self, call: Call, type: str) -> Reply:
        kind, started = self._schema.kind(type), clock.now()
        with self._store.setup():
            made = [self._made(kind, one) for one in call.inputs()]
        return batch([one.api() for one in made], [], started, 201)

    def batch_archive(self, call: Call, type: str) -> Reply:
        kind = self._schema.kind(type)
        with self._store.setup():
            self._drop(kind, [str(one.get("name")) for one in call.inputs()])
        return Reply(204)

    def groups(self, call: Call, type: str) -> Reply:
        names = dict.fromkeys(one.group for one in self._schema.live(self._schema.kind(type)).values())
        results = [
            {"name": name, "label": name.capitalize(), "displayOrder": number, "archived": False}
            for number, name in enumerate(names)
        ]
        return json_reply({"results": results})

    def _found(self, kind: Kind, name: str, archived: bool = False) -> Property:
        one = self._schema.known(kind).get(name)
        if one is None or (one.archived is not None) is not archived:
            raise ApiError(404, f"property '{name}' does not exist", "OBJECT_NOT_FOUND", {"name": [name]})
        return one

    def _made(self, kind: Kind, body: dict[str, Any]) -> Property:
        """A new property, from a body of the properties API."""
        name, type_ = str(body.get("name") or ""), str(body.get("type") or "")
        missing = [key for key in ("name", "label", "type", "fieldType", "groupName") if not body.get(key)]
        if missing:
            raise invalid(f"Some required fields were not set: {missing}", properties=missing)
        if not _NAME.fullmatch(name):
            raise invalid(f"{name}: a name has lower case letters, digits and underscores", propertyName=[name])
        if type_ not in TYPES:
            raise invalid(f"{type_} is no type of property", propertyName=[name])
        known = self._schema.known(kind)
        if name in known and known[name].archived is None:
            raise ApiError(409, f"A property named '{name}' already exists.", "CONFLICT", {"propertyName": [name]})
        if body.get("hasUniqueValue") and sum(one.unique for one in self._schema.live(kind).values()) >= _UNIQUE:
            raise invalid(f"An object has at most {_UNIQUE} unique properties", propertyName=[name])
        made = Property(
            name,
            str(body["label"]),
            type_,
            str(body["fieldType"]),
            str(body["groupName"]),
            str(body.get("description") or ""),
            options(body.get("options") or []),
            unique=bool(body.get("hasUniqueValue")),
            external=bool(body.get("externalOptions")),
            refers_to=str(body.get("referencedObjectType") or ""),
            custom=True,
            hidden=bool(body.get("hidden")),
            form_field=bool(body.get("formField")),
            order=int(body.get("displayOrder") or -1),
            origin=clock.now(),
        )
        self._schema.save(kind, made)
        return made


def options(given: Sequence[Any]) -> tuple[tuple[str, str], ...]:
    """Options as a body gives them."""
    try:
        return tuple((str(one["value"]), str(one.get("label") or one["value"])) for one in given)
    except (TypeError, KeyError):
        raise invalid("options: each needs a value and a label") from None
