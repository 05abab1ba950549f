"""A property of an object: what the properties API tells of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from . import clock

TYPES = ("string", "number", "date", "datetime", "enumeration", "bool", "phone_number", "json", "object_coordinates")
_FIELD_TYPES = {
    "string": "text",
    "number": "number",
    "date": "date",
    "datetime": "date",
    "enumeration": "select",
    "bool": "booleancheckbox",
    "phone_number": "phonenumber",
}
_BOOLEAN = (("true", "Yes"), ("false", "No"))


@dataclass(frozen=True, slots=True)
class Property:
    """``options`` are pairs of value and label. ``origin`` is when it was made, ``changed`` when its definition last
    changed, ``archived`` when it was archived; all in milliseconds."""

    name: str
    label: str
    type: str = "string"
    field_type: str = ""
    group: str = ""
    description: str = ""
    options: tuple[tuple[str, str], ...] = ()
    unique: bool = False
    read_only: bool = False
    calculated: bool = False
    external: bool = False
    refers_to: str = ""
    custom: bool = False
    hidden: bool = False
    form_field: bool = False
    order: int = -1
    origin: int = 0
    changed: int = 0
    archived: int | None = None

    def but(self, **changes: Any) -> Property:
        return replace(self, **changes)

    @property
    def several(self) -> bool:
        """Whether a value lists several options, with semicolons between them."""
        return self.type == "enumeration" and self.field_type == "checkbox"

    @property
    def closed(self) -> bool:
        """Whether only the listed options are taken."""
        return self.type == "enumeration" and not self.external

    def to_json(self) -> dict[str, Any]:
        # Flat values only, of hundreds of fields at each change: `asdict` would copy every one deeply.
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_json(cls, kept: Mapping[str, Any]) -> Property:
        return cls(**{**kept, "options": tuple((value, label) for value, label in kept["options"])})

    def api(self) -> dict[str, Any]:
        """As the properties API prints it."""
        body: dict[str, Any] = {
            "name": self.name,
            "label": self.label,
            "type": self.type,
            "fieldType": self.field_type or _FIELD_TYPES.get(self.type, "text"),
            "groupName": self.group,
            "description": self.description,
            "options": [
                {"label": label, "value": value, "displayOrder": number, "hidden": False, "description": ""}
                for number, (value, label) in enumerate(_BOOLEAN if self.type == "bool" else self.options)
            ],
            "displayOrder": self.order,
            "hasUniqueValue": self.unique,
            "hidden": self.hidden,
            "formField": self.form_field,
            "calculated": self.calculated,
            "externalOptions": self.external,
            "hubspotDefined": not self.custom,
            "archived": self.archived is not None,
            "createdAt": clock.iso(self.origin),
            "updatedAt": clock.iso(self.changed or self.origin),
            "modificationMetadata": {
                "archivable": self.custom,
                "readOnlyDefinition": not self.custom,
                "readOnlyValue": self.read_only,
            },
            "dataSensitivity": "non_sensitive",
        }
        if self.type == "enumeration":
            body["modificationMetadata"]["readOnlyOptions"] = self.external or self.read_only
        if self.refers_to:
            body["referencedObjectType"] = self.refers_to
        if self.archived is not None:
            body["archivedAt"] = clock.iso(self.archived)
        return body


def labelled(values: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """Options that have no labels of their own."""
    return tuple((value, value.replace("_", " ").capitalize()) for value in values)
