"""Objects of the account's own: ``/crm/v3/schemas``."""

from __future__ import annotations

import re
from typing import Any

from crm_assets.sandbox.http import Reply
from crm_assets.sandbox.routes import Routes

from . import clock
from .describe import options
from .errors import PORTAL, ApiError, invalid, not_found
from .kinds import Kind, custom
from .properties import TYPES, Property
from .records import Records
from .standard import properties
from .store import create_indexes, create_table
from .wire import Call, json_reply, strings

_NAME = re.compile(r"[a-z][a-z0-9_]{0,49}")
_PARTNERS = ("contacts", "companies", "deals", "tickets")
_FIRST = 100


class Schemas:
    """Lists the custom objects, and makes one: with a table, its properties, and the plain associations."""

    def __init__(self, records: Records) -> None:
        self._store = records.store
        self._schema = records.schema
        self._edges = records.edges

    def routes(self, routes: Routes) -> None:
        routes.add("GET", "/crm/v3/schemas", "schemas", self.listing)
        routes.add("POST", "/crm/v3/schemas", "schemas", self.post)
        routes.add("GET", "/crm/v3/schemas/{type}", "schemas", self.get)

    def listing(self, call: Call) -> Reply:
        return json_reply({"results": [self._shown(kind, body) for kind, body in self._schema.custom()]})

    def get(self, call: Call, type: str) -> Reply:
        for kind, body in self._schema.custom():
            if type in (kind.name, kind.type_id, kind.singular):
                return json_reply(self._shown(kind, body))
        raise not_found()

    def post(self, call: Call) -> Reply:
        kind, body = self.create(call.body())
        return json_reply(self._shown(kind, body), 201)

    def create(self, given: dict[str, Any]) -> tuple[Kind, dict[str, Any]]:
        """A new object from the body of a schema; ``name`` is all that is needed."""
        name = str(given.get("name") or "")
        if not _NAME.fullmatch(name):
            raise invalid(f"{name}: a name has lower case letters, digits and underscores")
        if self._schema.find(name) is not None:
            raise ApiError(409, f"An object named '{name}' already exists.", "CONFLICT")
        now = clock.iso(clock.now())
        required = strings(given.get("requiredProperties"))
        searched = strings(given.get("searchableProperties"))
        kind = custom(name, _FIRST + len(self._schema.custom()), PORTAL, tuple(required), tuple(searched))
        body = {
            "labels": given.get("labels") or {"singular": name, "plural": name},
            "primaryDisplayProperty": given.get("primaryDisplayProperty"),
            "secondaryDisplayProperties": strings(given.get("secondaryDisplayProperties")),
            "createdAt": now,
            "updatedAt": now,
        }
        # An activity's date is not for these.
        usual = [one for one in properties(kind) if one.name != "hs_timestamp"]
        own = [_property(kind, one) for one in given.get("properties") or []]
        with self._store.setup() as db:
            create_table(db, kind)
            create_indexes(db, [kind])
            self._schema.save_custom(kind, body)
            self._schema.save(kind, *usual, *own)
            for partner in _PARTNERS:
                self._edges.add_plain(db, kind, self._schema.kind(partner))
        return kind, body

    def _shown(self, kind: Kind, body: dict[str, Any]) -> dict[str, Any]:
        associations = [
            {"id": str(one.type), "name": one.name, "fromObjectTypeId": kind.type_id, "toObjectTypeId": other.type_id}
            for other in self._schema.kinds
            for one in self._edges.types(kind, other)
        ]
        return {
            "id": kind.type_id.removeprefix("2-"),
            "name": kind.singular,
            "fullyQualifiedName": kind.name,
            "objectTypeId": kind.type_id,
            "archived": False,
            "properties": [one.api() for one in self._schema.live(kind).values()],
            "requiredProperties": list(kind.required),
            "searchableProperties": list(kind.searched),
            "associations": associations,
            **body,
        }


def _property(kind: Kind, given: Any) -> Property:
    try:
        name, type_ = str(given["name"]), str(given.get("type") or "string")
    except (TypeError, KeyError):
        raise invalid("properties: each needs a name, a label, a type and a fieldType") from None
    if type_ not in TYPES:
        raise invalid(f"{type_} is no type of property", propertyName=[name])
    return Property(
        name,
        str(given.get("label") or name),
        type_,
        str(given.get("fieldType") or ""),
        f"{kind.singular}information",
        options=options(given.get("options") or []),
        unique=bool(given.get("hasUniqueValue")),
        custom=True,
        origin=clock.now(),
    )
