"""What a field is, as describe tells it."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

TEXTS = frozenset(
    {
        "string",
        "textarea",
        "picklist",
        "multipicklist",
        "combobox",
        "email",
        "phone",
        "url",
        "encryptedstring",
    }
)
NUMBERS = frozenset({"int", "double", "currency", "percent"})
_SOAP = {
    "id": "tns:ID", "reference": "tns:ID", "boolean": "xsd:boolean", "int": "xsd:int", "double": "xsd:double",
    "currency": "xsd:double", "percent": "xsd:double", "date": "xsd:date", "datetime": "xsd:dateTime",
    "address": "urn:address", "base64": "xsd:base64Binary",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Field:
    """One field of an object; the flags mean what the vendor's describe means by them."""

    name: str
    type: str = "string"
    label: str = ""
    length: int = 0
    precision: int = 0
    scale: int = 0
    nillable: bool = True
    createable: bool = True
    updateable: bool = True
    calculated: bool = False
    auto_number: bool = False
    external_id: bool = False
    unique: bool = False
    id_lookup: bool = False
    name_field: bool = False
    defaulted_on_create: bool = False
    default: Any = None
    reference_to: tuple[str, ...] = ()
    relationship: str | None = None
    compound: str | None = None
    restricted: bool = False
    picklist: tuple[str, ...] = ()
    hidden: bool = False
    """Not for the user that calls run as (field-level security); its values are kept."""
    formula: str | None = None
    rollup: tuple[str, str, str, str] | None = None
    """Function, object, the field of that object that refers to this one, and what is summed up."""

    @property
    def custom(self) -> bool:
        return self.name.endswith("__c")

    @property
    def stored(self) -> bool:
        """An address is put together from its parts when it is read; so is what is calculated."""
        return self.type != "address" and not self.derived

    @property
    def derived(self) -> bool:
        """Computed at each read."""
        return self.formula is not None or self.rollup is not None

    @property
    def filterable(self) -> bool:
        return self.type not in ("address", "base64") and not (self.type == "textarea" and self.length > 255)

    @property
    def title(self) -> str:
        """The label people see, which error messages use."""
        return self.label or label_of(self.name)

    @property
    def required(self) -> bool:
        return self.createable and not self.nillable and not self.defaulted_on_create

    def describe(self) -> dict[str, Any]:
        """The field as ``/describe`` prints it."""
        text = self.type in TEXTS or self.type in ("id", "reference")
        length = 18 if self.type in ("id", "reference") else self.length
        return {
            "aggregatable": self.filterable,
            "autoNumber": self.auto_number,
            "byteLength": length * 3 if text else 0,
            "calculated": self.calculated,
            "calculatedFormula": self.formula,
            "cascadeDelete": False,
            "caseSensitive": False,
            "compoundFieldName": self.compound,
            "controllerName": None,
            "createable": self.createable,
            "custom": self.custom,
            "defaultValue": self.default,
            "defaultedOnCreate": self.defaulted_on_create,
            "dependentPicklist": False,
            "deprecatedAndHidden": False,
            "digits": 9 if self.type == "int" else 0,
            "encrypted": self.type == "encryptedstring",
            "externalId": self.external_id,
            "extraTypeInfo": None,
            "filterable": self.filterable,
            "groupable": self.filterable and self.type not in ("double", "currency", "percent", "datetime"),
            "highScaleNumber": False,
            "htmlFormatted": False,
            "idLookup": self.id_lookup,
            "label": self.title,
            "length": length if text else 0,
            "mask": None,
            "name": self.name,
            "nameField": self.name_field,
            "namePointing": False,
            "nillable": self.nillable,
            "permissionable": self.nillable and self.createable,
            "picklistValues": [
                {"active": True, "defaultValue": value == self.default, "label": value, "validFor": None,
                 "value": value}
                for value in self.picklist
            ],
            "polymorphicForeignKey": len(self.reference_to) > 1,
            "precision": self.precision,
            "queryByDistance": False,
            "referenceTargetField": None,
            "referenceTo": list(self.reference_to),
            "relationshipName": self.relationship,
            "relationshipOrder": None,
            "restrictedPicklist": self.restricted,
            "scale": self.scale,
            "soapType": _SOAP.get(self.type, "xsd:string"),
            "sortable": self.filterable,
            "type": self.type,
            "unique": self.unique,
            "updateable": self.updateable,
        }  # fmt: skip

    def to_json(self) -> dict[str, Any]:
        """For the store, which keeps the schema beside the records."""
        # Flat values only, of hundreds of fields at each change: `asdict` would copy every one deeply.
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Field:
        rollup = data.get("rollup")
        lists = {"reference_to": tuple(data["reference_to"]), "picklist": tuple(data["picklist"])}
        return cls(**data | lists | {"rollup": tuple(rollup) if rollup else None})

    def but(self, **changes: Any) -> Field:
        """The same field with some properties changed."""
        return replace(self, **changes)


def label_of(name: str) -> str:
    """``MailingCity`` → ``Mailing City``, ``Lead_Number__c`` → ``Lead Number``."""
    if name.endswith("__c"):
        return name[:-3].replace("_", " ")
    if name.endswith("Id") and name != "Id":
        return f"{label_of(name[:-2])} ID"
    out = ""
    for before, letter in zip(" " + name, name, strict=False):
        out += " " + letter if letter.isupper() and before.islower() else letter
    return out


def of_type(name: str, kind: str) -> Field:
    """A nillable, writable field of a type with that type's usual size: for fields added later."""
    sizes: dict[str, dict[str, int]] = {
        "string": {"length": 255}, "picklist": {"length": 255}, "combobox": {"length": 255},
        "multipicklist": {"length": 4099}, "textarea": {"length": 32000}, "email": {"length": 80},
        "phone": {"length": 40}, "url": {"length": 255}, "encryptedstring": {"length": 175},
        "double": {"precision": 18, "scale": 2}, "currency": {"precision": 18, "scale": 2},
        "percent": {"precision": 18, "scale": 2}, "int": {}, "boolean": {}, "date": {}, "datetime": {},
        "reference": {"length": 18}, "base64": {},
    }  # fmt: skip
    if kind not in sizes:
        raise ValueError(f"unknown field type {kind!r}; known: {', '.join(sorted(sizes))}")
    field = Field(name, kind, **sizes[kind])  # type: ignore[arg-type]
    if kind == "boolean":
        return field.but(nillable=False, defaulted_on_create=True, default=False)
    return field
