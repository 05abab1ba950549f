"""What a record type is made of: fields, sublists, and how they are kept."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

Choices = tuple[tuple[str, str], ...]

_AFFINITY = {"ref": "INTEGER", "integer": "INTEGER", "number": "NUMERIC"}


@dataclass(frozen=True, slots=True)
class Field:
    """One field. ``type`` is string, number, integer, boolean, date, date-time, ref or enum.

    ``to`` names the record types, or the one list, that a ref points to. ``choices`` are the ids and names of an
    enum. ``column`` is the column that keeps it, ``title`` the label of the form.
    """

    name: str
    type: str = "string"
    title: str = ""
    to: tuple[str, ...] = ()
    choices: Choices = ()
    read_only: bool = False
    required: bool = False
    column: str = ""
    length: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "column", self.column or self.name.lower())
        object.__setattr__(self, "title", self.title or _title(self.name))

    @property
    def custom(self) -> bool:
        return self.name.startswith("cust")

    @property
    def affinity(self) -> str:
        """The affinity of its column: makes SQLite compare a number with ``'5'`` as the vendor does."""
        return _AFFINITY.get(self.type, "TEXT")

    def but(self, **changes: Any) -> Field:
        return replace(self, **changes)

    def to_json(self) -> dict[str, Any]:
        # Flat values only, of hundreds of fields at each change: `asdict` would copy every one deeply.
        return {one.name: getattr(self, one.name) for one in fields(self)}

    @staticmethod
    def from_json(values: dict[str, Any]) -> Field:
        choices = tuple((one[0], one[1]) for one in values["choices"])
        return Field(**(values | {"to": tuple(values["to"]), "choices": choices}))


def _title(name: str) -> str:
    """``otherRefNum`` → ``Other Ref Num``; a custom field's title is its name without the prefix."""
    if name.startswith("cust") and "_" in name:
        return name.partition("_")[2].replace("_", " ").title()
    spaced = "".join(f" {one}" if one.isupper() else one for one in name)
    return spaced[:1].upper() + spaced[1:]


@dataclass(frozen=True, slots=True)
class Sublist:
    """Lines of a record. ``key`` is the field that tells lines apart; fields inside ``part`` form a subrecord."""

    name: str
    table: str
    key: str
    fields: tuple[Field, ...]
    part: str = ""
    inside: tuple[Field, ...] = ()

    @property
    def stored(self) -> tuple[Field, ...]:
        return self.fields + self.inside


@dataclass(frozen=True, slots=True)
class RecordType:
    """One record type: where it is kept, what it is called there, and its fields.

    Types with one ``table`` share a SuiteQL table and are told apart by ``code`` in the column ``marker``.
    """

    name: str
    table: str
    fields: tuple[Field, ...]
    sublists: tuple[Sublist, ...] = ()
    code: str = ""
    marker: str = ""
    label: str = ""
    writable: bool = True
    mergeable: bool = False
    index: dict[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {one.name.lower(): one for one in self.fields})

    def find(self, name: str) -> Field | None:
        """A field by name; case does not matter here, as in ``q`` and in SuiteQL."""
        return self.index.get(name.lower())

    def sublist(self, name: str) -> Sublist | None:
        return next((one for one in self.sublists if one.name == name), None)

    @property
    def created(self) -> Field:
        return self.index.get("datecreated") or self.index["createddate"]

    @property
    def modified(self) -> Field:
        return self.index["lastmodifieddate"]
