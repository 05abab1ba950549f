"""The metadata catalog: which record types there are, and what each is made of, in both media types."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from crm_assets.sandbox.http import Reply

from .errors import ApiError, Problem, no_type
from .fields import Field, RecordType, Sublist
from .objects import STANDARD
from .schema import Schema
from .wire import Call, Router, reply

_RECORDS = frozenset(one.name for one in STANDARD)
_SCHEMA = "application/schema+json"
_SWAGGER = "application/swagger+json"
_LINK = "/services/rest/record/v1/metadata-catalog/nsLink"
_TYPES = {"integer": ("integer", "int64"), "number": ("number", "double"), "boolean": ("boolean", None),
          "date": ("string", "date"), "date-time": ("string", "date-time"), "string": ("string", None)}  # fmt: skip


class Catalog:
    """Answers ``/record/v1/metadata-catalog``."""

    def __init__(self, schema: Callable[[], Schema]) -> None:
        self._schema = schema

    def routes(self, router: Router) -> None:
        router.add("GET", "record/v1/metadata-catalog", "metadata", self.all)
        router.add("GET", "record/v1/metadata-catalog/nsLink", "metadata", self.link)
        router.add("GET", "record/v1/metadata-catalog/{name}", "metadata", self.one)

    def all(self, call: Call) -> Reply:
        types = list(self._schema().types.values())
        chosen = call.names("select")
        unknown = {one.lower() for one in chosen} - {one.name.lower() for one in types}
        if unknown:
            raise no_type(sorted(unknown)[0])
        if chosen:
            wanted = {name.lower() for name in chosen}
            types = [one for one in types if one.name.lower() in wanted]
        if _SWAGGER in call.headers.get("accept", ""):
            return Reply(200, _swagger(types), {"Content-Type": _SWAGGER})
        links = [{"rel": "self", "href": call.url}]
        return reply("collection", {"links": links, "items": [_entry(call, one) for one in types]})

    def link(self, call: Call) -> Reply:
        return Reply(200, _NS_LINK, {"Content-Type": _SCHEMA})

    def one(self, call: Call, name: str) -> Reply:
        kind = next((one for one in self._schema().types.values() if one.name.lower() == name.lower()), None)
        if kind is None:
            raise no_type(name)
        accept = call.headers.get("accept", "*/*")
        if _SWAGGER in accept:
            return Reply(200, _swagger([kind]), {"Content-Type": _SWAGGER})
        if _SCHEMA in accept:
            return Reply(200, _document(kind), {"Content-Type": _SCHEMA})
        if "*/*" in accept or "application/json" in accept:
            return reply("singular", _entry(call, kind))
        raise ApiError(406, Problem(f"The media type is one of {_SCHEMA}, {_SWAGGER}.", "INVALID_HEADER"))


_NS_LINK = {
    "$schema": "http://json-schema.org/draft-06/hyper-schema#",
    "type": "object",
    "properties": {
        "rel": {"title": "Relationship", "type": "string", "readOnly": True},
        "href": {"title": "Hypertext Reference", "type": "string", "format": "URI", "readOnly": True},
    },
}


def _entry(call: Call, kind: RecordType) -> dict[str, Any]:
    base = f"{call.base}/record/v1"
    own = f"{base}/metadata-catalog/{kind.name}"
    return {
        "name": kind.name,
        "links": [
            {"rel": "canonical", "href": own, "mediaType": "application/json"},
            {"rel": "alternate", "href": own, "mediaType": _SWAGGER},
            {"rel": "alternate", "href": own, "mediaType": _SCHEMA},
            {"rel": "describes", "href": f"{base}/{kind.name}"},
        ],
    }


def _document(kind: RecordType) -> dict[str, Any]:
    properties = {field.name: _property(field, by_name=False) for field in kind.fields}
    properties |= {one.name: _collection(one, by_name=False) for one in kind.sublists}
    return {
        "$schema": "http://json-schema.org/draft-06/hyper-schema#",
        "type": "object",
        "properties": {"links": _links()} | properties,
        "x-ns-filterable": [field.name for field in kind.fields],
    }


def _links() -> dict[str, Any]:
    return {"title": "Links", "type": "array", "readOnly": True, "items": {"$ref": _LINK}}


def _property(field: Field, by_name: bool) -> dict[str, Any]:
    """One field. ``by_name``: a reference to a record type names it, as OpenAPI does; JSON Schema tells its parts."""
    body: dict[str, Any] = {"title": field.title}
    if field.type == "ref" and by_name and field.to[0] in _RECORDS:
        body = {"title": field.title} | (
            {"$ref": f"#/components/schemas/{field.to[0]}"}
            if len(field.to) == 1
            else {"oneOf": [{"$ref": f"#/components/schemas/{name}"} for name in field.to]}
        )
    elif field.type in ("ref", "enum"):
        identifier: dict[str, Any] = {"title": "Internal identifier", "type": "string"}
        if field.choices:
            identifier["enum"] = [key for key, _ in field.choices]
        parts = {"id": identifier, "refName": {"title": "Reference Name", "type": "string"}}
        if field.type == "ref":
            parts |= {"externalId": {"title": "External identifier", "type": "string"}, "links": _links()}
        body |= {"type": "object", "properties": parts}
    else:
        kind, form = ("string", "email") if field.name == "email" else _TYPES[field.type]
        body["type"] = "string" if field.name == "id" else kind
        if form and field.name != "id":
            body["format"] = form
        if field.length:
            body["maxLength"] = field.length
    body["nullable"] = not field.required and field.name != "id"
    if field.read_only:
        body["readOnly"] = True
    if field.custom:
        body["x-ns-custom-field"] = True
    return body


def _collection(sublist: Sublist, by_name: bool) -> dict[str, Any]:
    line = {field.name: _property(field, by_name) for field in sublist.fields}
    if sublist.part:
        inside = {field.name: _property(field, by_name) for field in sublist.inside}
        line[sublist.part] = {"type": "object", "properties": inside}
    return {
        "title": sublist.name[:1].upper() + sublist.name[1:],
        "type": "object",
        "properties": {
            "links": _links(),
            "totalResults": {"title": "Total Results", "type": "integer", "readOnly": True},
            "count": {"title": "Count", "type": "integer", "readOnly": True},
            "hasMore": {"title": "Has More Results", "type": "boolean", "readOnly": True},
            "offset": {"title": "Query Offset", "type": "integer", "readOnly": True},
            "items": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {"links": _links()} | line,
                    "x-ns-filterable": [field.name for field in sublist.fields],
                    "x-ns-sublistkey": {"present": True, "value": {"new": [sublist.key], "existing": [sublist.key]}},
                },
            },
        },
        "nullable": True,
    }


def _swagger(types: list[RecordType]) -> dict[str, Any]:
    """OpenAPI, reduced to the record types' paths and schemas."""
    paths: dict[str, Any] = {}
    schemas: dict[str, Any] = {"nsLink": _NS_LINK}
    for kind in types:
        paths[f"/{kind.name}"] = {"get": {"tags": [kind.name]}} | (
            {"post": {"tags": [kind.name]}} if kind.writable else {}
        )
        paths[f"/{kind.name}/{{id}}"] = {
            method: {"tags": [kind.name]}
            for method in (("get", "patch", "put", "delete") if kind.writable else ("get",))
        }
        properties = {field.name: _property(field, by_name=True) for field in kind.fields}
        properties |= {one.name: _collection(one, by_name=True) for one in kind.sublists}
        schemas[kind.name] = {
            "type": "object",
            "properties": properties,
            "x-ns-filterable": [field.name for field in kind.fields],
        }
    return {
        "openapi": "3.0.1",
        "info": {"title": "REST Record API", "version": "v1"},
        "servers": [{"url": "/services/rest/record/v1"}],
        "paths": paths,
        "components": {"schemas": schemas},
    }
