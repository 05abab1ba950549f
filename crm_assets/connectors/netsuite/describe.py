"""Describe: the schemas of the metadata catalog as our fields, as far as SuiteQL has a column for them.

Source: "Getting Metadata" (JSON Schema); "SuiteQL" (a query may name only columns that its table has).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from crm_assets.connectors.netsuite.client import CATALOG, Client
from crm_assets.connectors.netsuite.kinds import Kind, kind_of, target
from crm_assets.core.errors import ObjectUnavailable, RejectedError
from crm_assets.core.model import Field, FieldType, Object
from crm_assets.core.naming import columns as columns_of
from crm_assets.core.naming import snake

ID, EXTERNAL_ID = "id", "externalId"
MODIFIED = ("lastModifiedDate", "lastModified")
CREATED = ("dateCreated", "createdDate", "created")
_SCHEMA = {"Accept": "application/schema+json"}
_FORMATS: Mapping[str, FieldType] = {"date": FieldType.DATE, "date-time": FieldType.TIMESTAMP}
_TYPES: Mapping[str, FieldType] = {
    "boolean": FieldType.BOOLEAN,
    "integer": FieldType.INTEGER,
    "number": FieldType.NUMBER,
    "string": FieldType.TEXT,
}


class Catalog:
    """What the account's record types look like. Which columns can be read is asked once for each list of fields."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._readable: dict[tuple[str, ...], frozenset[str]] = {}

    def types(self) -> list[str]:
        """Names of the record types that the role sees."""
        return [str(item["name"]) for item in self._client.get(CATALOG, "describe", "list of record types")["items"]]

    def describe(self, name: str, chosen: Mapping[str, str]) -> Object:
        """A record type with its fields; ``chosen`` are the columns of fields known from before."""
        kind = kind_of(name)
        found: dict[str, Field] = {}
        for type_ in kind.types:
            try:
                properties = self.properties(type_)
            except ObjectUnavailable:
                if len(kind.types) == 1:
                    raise
                continue
            for field_name, described in properties.items():
                fld = field_of(kind, field_name, described)
                if fld is not None:
                    found.setdefault(field_name, fld)
        if not found:
            raise ObjectUnavailable(
                f"{self._client.config.name}: the role sees none of the record types of {name!r} "
                f"({', '.join(kind.types)}); give it the permission Lists > Items"
            )
        for extra in kind.extra:
            found[extra] = Field(extra, "", FieldType.TEXT, "string", label=extra)
        readable = self.columned(kind, list(found))
        fields = [fld for field_name, fld in found.items() if field_name in readable]
        names = columns_of([fld.name for fld in fields], chosen, ID)
        return Object(
            name=name,
            table=snake(name),
            label=name,
            fields=tuple(replace(fld, column=names[fld.name]) for fld in fields),
            id_field=ID,
            version_field=next((at for at in MODIFIED if at in readable), None),
            createable=kind.writable,
            updateable=kind.writable,
            deletable=kind.writable,
        )

    def properties(self, type_: str) -> Mapping[str, Mapping[str, Any]]:
        """The schema of a record type."""
        what = f"schema of {type_}"
        try:
            body = self._client.get(f"{CATALOG}/{type_}", "describe", what, headers=_SCHEMA)
        except ObjectUnavailable:
            raise
        except RejectedError as error:
            raise ObjectUnavailable(
                f"{self._client.config.name}: NetSuite has no record type {type_!r}, or hides it from the role; "
                f"correct its name in defs.yaml or grant the permission ({error})",
                error.code,
            ) from error
        return dict(body["properties"])

    def columned(self, kind: Kind, names: Sequence[str]) -> frozenset[str]:
        """Those of the fields that the kind's table has a column for."""
        key = (kind.name, *names)
        if key not in self._readable:
            self._readable[key] = frozenset(self._tried(kind, names))
        return self._readable[key]

    def _tried(self, kind: Kind, names: Sequence[str]) -> list[str]:
        """Fields that a query may name: those it refuses are found by halving."""
        if not names or readable(self._client, kind.table, [kind.column(name) for name in names]):
            return list(names)
        if len(names) == 1:
            return []
        middle = len(names) // 2
        return [*self._tried(kind, names[:middle]), *self._tried(kind, names[middle:])]


def readable(client: Client, table: str, columns: Sequence[str]) -> bool:
    """Whether the table has all these columns. ObjectUnavailable if there is no such table, or no right to read it."""
    statement = f"SELECT {', '.join(('id', *columns))} FROM {table} WHERE 1 = 0"
    try:
        client.rows(statement, f"columns of {table}", limit=1)
    except ObjectUnavailable:
        raise
    except RejectedError as error:
        if len(columns) > 1:
            return False
        try:
            client.rows(f"SELECT id FROM {table} WHERE 1 = 0", f"columns of {table}", limit=1)
        except RejectedError:
            raise ObjectUnavailable(
                f"{client.config.name}: SuiteQL has no table {table}, or hides it from the role ({error})", error.code
            ) from error
        return False
    return True


def field_of(kind: Kind, name: str, described: Mapping[str, Any]) -> Field | None:
    """None for the id, links, sublists and subrecords: what is no value of the record's own."""
    inside = described.get("properties") or {}
    type_, wire = str(described.get("type")), str(described.get("format") or described.get("type"))
    reference = type_ == "object" and ID in inside and "links" in inside
    choices = tuple(str(one) for one in (inside.get(ID) or {}).get("enum") or ())
    enumeration = type_ == "object" and ID in inside and not reference
    if name == ID or not (reference or enumeration or type_ in _TYPES):
        return None
    fixed = bool(described.get("readOnly")) or not kind.writable
    return Field(
        name=name,
        column="",
        type=FieldType.REFERENCE if reference else _FORMATS.get(wire) or _TYPES.get(type_, FieldType.TEXT),
        vendor_type="reference" if reference else "enum" if enumeration else wire,
        label=str(described.get("title") or name),
        nillable=bool(described.get("nullable", True)),
        createable=not fixed,
        updateable=not fixed,
        external_id=name == EXTERNAL_ID,
        unique=name == EXTERNAL_ID,
        length=described.get("maxLength"),
        picklist=choices,
        restricted=bool(choices),
        reference_to=target(kind.name, name) if reference else (),
    )
