"""Describe: ask the CRM what its objects look like and make the tables for them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from crm_assets.connections import ObjectSpec
from crm_assets.connectors.base import Connector
from crm_assets.core.errors import ConfigurationError, ObjectUnavailable
from crm_assets.core.model import Object
from crm_assets.store import catalog, ddl
from crm_assets.store.database import Database


@dataclass(frozen=True)
class Described:
    """Objects by table name, and what stood in the way of the others (by API name)."""

    objects: dict[str, Object] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def describe(db: Database, connector: Connector, specs: Mapping[str, ObjectSpec]) -> Described:
    """Describe the objects, store what was found and bring their tables to it. An object that the account cannot
    read is reported; the others go on."""
    found = Described()
    for name, spec in specs.items():
        try:
            obj = choose(connector.describe(name, catalog.columns(db, connector.config.name, name)), spec)
        except ObjectUnavailable as error:
            found.unavailable[name] = str(error)
            continue
        ddl.ensure_object(db, connector.config.name, obj, write=spec.write)
        found.objects[obj.table] = obj
    return found


def choose(obj: Object, spec: ObjectSpec) -> Object:
    """The object narrowed to what defs.yaml asks for. ConfigurationError names a field that does not exist."""
    if spec.external_id is not None:
        known = obj.by_name.get(spec.external_id)
        if known is None:
            raise ConfigurationError(
                f"{obj.name}: the external-id field {spec.external_id} of defs.yaml does not exist in the CRM; "
                "create it there (text of 36 characters, unique, external id), or remove external_id"
            )
        if not known.external_id:
            raise ConfigurationError(
                f"{obj.name}: {spec.external_id} is no external-id field in the CRM; "
                "tick `External ID` and `Unique` there"
            )
    unknown = [] if isinstance(spec.conflict, str) else [name for name in spec.conflict if name not in obj.by_name]
    if unknown:
        raise ConfigurationError(
            f"{obj.name}: conflict policies of defs.yaml name fields that the CRM does not have: {', '.join(unknown)}"
        )
    fields = obj.fields
    if spec.fields != "*":
        missing = [name for name in spec.fields if name not in obj.by_name and name != obj.id_field]
        if missing:
            raise ConfigurationError(
                f"{obj.name}: defs.yaml names fields that the CRM does not have: {', '.join(missing)}"
            )
        keys = {obj.by_column[column].name for column in obj.natural_key}
        wanted = {*spec.fields, obj.version_field, spec.external_id, obj.parent, *keys}
        fields = tuple(fld for fld in obj.fields if fld.name in wanted)
    return replace(obj, fields=fields, external_id=spec.external_id, where=spec.where)
