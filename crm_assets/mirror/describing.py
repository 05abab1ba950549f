"""Describe: ask the CRM what its objects look like and make the tables for them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace

from crm_assets.connections import ObjectSpec
from crm_assets.connectors.base import Connector
from crm_assets.core import schema
from crm_assets.core.errors import ConfigurationError, ObjectUnavailable
from crm_assets.core.model import Object
from crm_assets.core.schema import Change
from crm_assets.store import catalog, ddl, fills, loads
from crm_assets.store.apply import apply
from crm_assets.store.database import Database

_TRIES_FOR_A_COLUMN = 5
"""A column can wait for the next run, and what is read meanwhile lacks nothing that was there before."""


@dataclass(frozen=True)
class Described:
    """Objects by table name, and what stood in the way of the others (by API name)."""

    objects: dict[str, Object] = field(default_factory=dict)
    unavailable: dict[str, str] = field(default_factory=dict)


def describe(db: Database, connector: Connector, specs: Mapping[str, ObjectSpec]) -> Described:
    """Describe the objects, store what was found and bring their tables to it. An object that the account cannot
    read is reported; the others go on."""
    found = Described()
    stored = {obj.name: obj for obj in catalog.load(db, connector.config.name).values()}
    for name, spec in specs.items():
        try:
            obj = take_over(db, connector, name, spec, stored.get(name))
        except ObjectUnavailable as error:
            found.unavailable[name] = str(error)
            continue
        found.objects[obj.table] = obj
    return found


def take_over(db: Database, connector: Connector, name: str, spec: ObjectSpec, stored: Object | None) -> Object:
    """Describe the object anew, store what was found and bring its tables to it. Rows that lack something now are
    filled by ``mirror.fill``.

    Nothing may be under way with the old describe: Busy while another process reads the object. LockNotAvailable if
    the product uses the table for so long that no column can be added.
    """
    connection = connector.config.name
    columns = catalog.columns(db, connection, name)
    described = connector.describe(name, columns)
    chosen = choose(described, spec, columns)
    if stored is None:
        ddl.ensure_object(db, connection, chosen, write=spec.write)
        return chosen
    followed = schema.follow(stored, described, chosen, columns, db.now().isoformat())
    now, writable = followed.obj, stored.table in catalog.writable(db, connection)
    fill = list(followed.fill)
    if now.where != stored.where and now.parent is None:
        fill.append(fills.ROWS)
    if loads.read_cursor(db, connection, stored.table) is None:
        fill = []  # never read to its end: the read to come has all of it
    if now == stored and writable is spec.write:
        ddl.store_describe(db, connection, now, write=spec.write)
        return now
    with loads.leased(db, connection, stored.table):
        if _shape(now) == _shape(stored) and writable is spec.write:
            ddl.store_describe(db, connection, now, write=spec.write, fill=fill, changes=followed.changes)
            return now
        # What was read with the old describe is applied with it.
        apply(db, connection, stored)
        ddl.ensure_object(
            db, connection, now, write=spec.write, fill=fill, changes=followed.changes, tries=_TRIES_FOR_A_COLUMN
        )
    return now


def pending(db: Database, connector: Connector, name: str, spec: ObjectSpec, stored: Object) -> tuple[Change, ...]:
    """How the CRM and defs.yaml differ from the stored describe: what the next run takes over."""
    columns = catalog.columns(db, connector.config.name, name)
    described = connector.describe(name, columns)
    return schema.follow(stored, described, choose(described, spec, columns), columns, "").changes


def _shape(obj: Object) -> object:
    """What the tables and their triggers are made from."""
    fields = [(fld.column, fld.type, fld.createable, fld.updateable) for fld in obj.fields]
    gone = [one.column for one in obj.retired]
    rights = obj.createable, obj.updateable, obj.deletable
    return sorted(fields), gone, ddl.looked_up(obj), rights, obj.external_id, obj.version_field


def choose(obj: Object, spec: ObjectSpec, before: Collection[str] = ()) -> Object:
    """The object narrowed to what defs.yaml asks for. ConfigurationError names a field that does not exist, unless it
    is one of those known ``before``: the CRM has dropped it since."""
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
    names = {*obj.by_name, obj.id_field, *before}
    unknown = [] if isinstance(spec.conflict, str) else [name for name in spec.conflict if name not in names]
    if unknown:
        raise ConfigurationError(
            f"{obj.name}: conflict policies of defs.yaml name fields that the CRM does not have: {', '.join(unknown)}"
        )
    fields = obj.fields
    if spec.fields != "*":
        kinds = dict(obj.left_out)
        if unfit := [f"{name} ({kinds[name]})" for name in spec.fields if name in kinds]:
            raise ConfigurationError(
                f"{obj.name}: defs.yaml names fields that no column can hold: {', '.join(unfit)}; remove them there"
            )
        missing = [name for name in spec.fields if name not in names]
        if missing:
            raise ConfigurationError(
                f"{obj.name}: defs.yaml names fields that the CRM does not have: {', '.join(missing)}"
            )
        keys = {obj.by_column[column].name for column in obj.natural_key}
        wanted = {*spec.fields, *obj.needed, obj.version_field, spec.external_id, obj.parent, *keys}
        # What a chosen formula shows of another record is followed by the reference to it.
        wanted |= {own for fld in obj.fields if fld.name in wanted for own, _ in fld.through}
        fields = tuple(fld for fld in obj.fields if fld.name in wanted)
    return replace(obj, fields=fields, external_id=spec.external_id, where=spec.where)
