"""Describe: the vendor's properties as our fields, with pipelines and stages as picklists.

Sources: Properties API, "Property type and fieldType values"; Pipelines API.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from crm_assets.connectors.hubspot.client import PIPELINES, PROPERTIES, Client
from crm_assets.connectors.hubspot.kinds import OWNERS, kind_of
from crm_assets.core.errors import ObjectUnavailable, RejectedError
from crm_assets.core.model import Field, FieldType, Object
from crm_assets.core.naming import columns, snake

ID = "hs_object_id"
MERGED = "hs_merged_object_ids"

_TYPES: Mapping[str, FieldType] = {
    "bool": FieldType.BOOLEAN,
    "date": FieldType.DATE,
    "datetime": FieldType.TIMESTAMP,
    "number": FieldType.NUMBER,
}

# Properties whose type does not say that they hold an id of another kind.
_REFERENCES: Mapping[str, str] = {
    "hubspot_owner_id": OWNERS,
    "associatedcompanyid": "companies",
    "hs_parent_company_id": "companies",
    "hs_product_id": "products",
}

_PIPELINES: Mapping[str, tuple[str, str]] = {
    "deals": ("pipeline", "dealstage"),
    "tickets": ("hs_pipeline", "hs_pipeline_stage"),
}


def describe(client: Client, name: str, chosen: Mapping[str, str], schema: Mapping[str, Any] | None = None) -> Object:
    """The object from its properties; ``chosen`` are the columns of fields known from before, ``schema`` is that of an
    object of the account's own."""
    kind = kind_of(name)
    required = frozenset(("hs_timestamp",) if kind.timed else (schema or {}).get("requiredProperties") or ())
    properties = [p for p in live(client, name) if p["name"] != ID]
    names = columns([p["name"] for p in properties], chosen, ID)
    stages = _stages(client, name)
    known = {p["name"] for p in properties}
    return Object(
        name=name,
        table=snake(name),
        label=schema["labels"]["plural"] if schema else name.replace("_", " ").capitalize(),
        fields=tuple(_field(p, names[p["name"]], stages, p["name"] in required) for p in properties),
        id_field=ID,
        version_field=kind.modified if kind.modified in known else None,
        createable=True,
        updateable=True,
        deletable=True,
    )


def live(client: Client, name: str) -> list[Mapping[str, Any]]:
    """The properties of an object that are there now."""
    try:
        body = client.read("GET", f"{PROPERTIES}/{name}", "describe", f"properties of {name}")
    except ObjectUnavailable:
        raise
    except RejectedError as error:
        raise ObjectUnavailable(
            f"{client.config.name}: HubSpot has no object {name!r}; correct its name in defs.yaml ({error})", error.code
        ) from error
    return [p for p in body["results"] if not p.get("archived")]


def _field(p: Mapping[str, Any], column: str, stages: Mapping[str, tuple[str, ...]], required: bool) -> Field:
    name, kept = p["name"], p.get("type", "string")
    fixed = bool((p.get("modificationMetadata") or {}).get("readOnlyValue")) or bool(p.get("calculated"))
    target = _REFERENCES.get(name)
    choices = stages.get(name) or tuple(option["value"] for option in p.get("options") or ())
    unique = bool(p.get("hasUniqueValue"))
    return Field(
        name=name,
        column=column,
        type=FieldType.REFERENCE if target else _TYPES.get(kept, FieldType.TEXT),
        # Of an enumeration, the kind of form field tells whether it holds one value or several.
        vendor_type=str(p.get("fieldType") or kept) if kept == "enumeration" else kept,
        label=p.get("label") or name,
        nillable=not required,
        createable=not fixed,
        updateable=not fixed,
        calculated=bool(p.get("calculated")),
        external_id=unique,
        unique=unique,
        picklist=choices if kept == "enumeration" and not target else (),
        restricted=kept == "enumeration" and not target and (name in stages or not p.get("externalOptions")),
        reference_to=(target,) if target else (),
    )


def _stages(client: Client, name: str) -> dict[str, tuple[str, ...]]:
    """Ids of pipelines and of their stages, by the property that holds them; empty without the right to see them."""
    if name not in _PIPELINES:
        return {}
    try:
        found = pipelines(client, name)
    except ObjectUnavailable:
        return {}
    pipeline, stage = _PIPELINES[name]
    return {
        pipeline: tuple(str(p["id"]) for p in found),
        stage: tuple(dict.fromkeys(str(s["id"]) for p in found for s in p.get("stages") or ())),
    }


def pipelines(client: Client, name: str) -> list[Mapping[str, Any]]:
    """The pipelines of a kind, each with its stages."""
    body = client.read("GET", f"{PIPELINES}/{name}", "describe", f"pipelines of {name}")
    return list(body["results"])


def pipelined() -> Iterable[str]:
    """Kinds whose records move through pipelines."""
    return _PIPELINES
