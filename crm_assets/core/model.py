"""The nouns: what every room talks about. Values only, no I/O."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pyarrow as pa

Value = str | int | bool | Decimal | date | datetime | time | None
"""A field's value in Python. JSON values are kept as their text."""


class FieldType(StrEnum):
    """The wide types a mirror column can have, so that widening in the CRM rarely means DDL here."""

    TEXT = "text"
    BOOLEAN = "boolean"
    INTEGER = "integer"
    NUMBER = "number"
    DATE = "date"
    TIME = "time"
    TIMESTAMP = "timestamp"
    REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a CRM object, as described by the vendor.

    ``name`` is the vendor's API name, ``column`` the mirror's; ``length`` is in characters; ``scale`` in decimal
    digits. ``nillable`` false with ``defaulted`` false means that a create must carry it.
    """

    name: str
    column: str
    type: FieldType
    vendor_type: str
    label: str = ""
    nillable: bool = True
    createable: bool = False
    updateable: bool = False
    defaulted: bool = False
    calculated: bool = False
    external_id: bool = False
    unique: bool = False
    length: int | None = None
    scale: int | None = None
    picklist: tuple[str, ...] = ()
    restricted: bool = False
    reference_to: tuple[str, ...] = ()
    through: tuple[tuple[str, str], ...] = ()
    """Of a calculated field: the fields of other records that its formula shows one step away, as (own reference field,
    field of the other object), vendor names."""
    rolls_up: bool = False
    """Of a calculated field: it sums up records that refer to this one."""

    @property
    def writable(self) -> bool:
        """Whether the product may set it at all."""
        return self.createable or self.updateable

    @property
    def required(self) -> bool:
        """Whether a create without it is refused by the vendor."""
        return self.createable and not self.nillable and not self.defaulted


class Policy(StrEnum):
    """What happens when the CRM and the product have changed the same field."""

    HOLD = "hold"
    """Both values are kept; a person decides."""
    CRM_WINS = "crm_wins"
    """Every unsettled write of the field is discarded; the mirror shows the CRM's value."""
    PRODUCT_WINS = "product_wins"
    """The product's value is sent over the CRM's, without looking first."""
    NEWEST_WINS = "newest_wins"
    """The later one of the write's time and the version that first had the CRM's value."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Deletions wait for a person when both are passed: their number, and their share of the object's records."""

    delete_share: float = 0.2
    delete_rows: int = 500


@dataclass(frozen=True, slots=True)
class Rules:
    """What defs.yaml decides about an object; no part of its describe. ``fields`` are (column, policy)."""

    conflict: Policy = Policy.HOLD
    fields: tuple[tuple[str, Policy], ...] = ()
    guard: Guard = Guard()
    whole_every: timedelta = timedelta(hours=24)
    """How often records that live within others are read as a whole, whatever seems to have changed."""
    calculated_every: timedelta = timedelta(hours=24)
    """How often the columns that the CRM calculates are read for all records: their values change without a trace."""

    def policy(self, column: str) -> Policy:
        return dict(self.fields).get(column, self.conflict)


@dataclass(frozen=True, slots=True)
class Retired:
    """A column whose field is not read any more; it keeps its last values. ``type`` is what the column holds, ``why``
    is ``dropped`` (by the CRM, or hidden from the account), ``retyped`` (the values go on in another column) or
    ``not chosen`` (by defs.yaml), ``since`` an ISO 8601 time."""

    column: str
    field: str
    type: FieldType
    why: str
    since: str


@dataclass(frozen=True)
class Object:
    """One CRM object: what describe said, narrowed to the fields that are synced.

    ``name`` is the vendor's API name (``Opportunity``), ``table`` its snake_case. ``id_field`` and
    ``version_field`` are vendor names; ``version_text`` says that the vendor counts versions instead of dating them.
    """

    name: str
    table: str
    fields: tuple[Field, ...]
    id_field: str = "Id"
    version_field: str | None = "SystemModstamp"
    version_text: bool = False
    label: str = ""
    createable: bool = False
    updateable: bool = False
    deletable: bool = False
    external_id: str | None = None
    """Vendor name of the unique field that carries our row_id, when configured."""
    where: str | None = None
    """Restriction in the vendor's query language."""
    parent: str | None = None
    """Vendor name of the field that holds the parent's id, for records that exist only within another one
    (associations, lines of an order). Their own id is ``<parent id>:<rest>``."""
    natural_key: tuple[str, ...] = ()
    """Columns whose values are the record's identity: sending the same create twice makes one record."""
    needed: tuple[str, ...] = ()
    """Vendor names of fields that every read needs, whatever fields are chosen."""
    retired: tuple[Retired, ...] = ()
    left_out: tuple[tuple[str, str], ...] = ()
    """Fields that have no column, as (vendor name, vendor type): files, and compounds of fields that have one."""
    rules: Rules = field(default=Rules(), compare=False)

    @cached_property
    def by_column(self) -> Mapping[str, Field]:
        return {f.column: f for f in self.fields}

    @cached_property
    def by_name(self) -> Mapping[str, Field]:
        return {f.name: f for f in self.fields}

    @property
    def calculated(self) -> tuple[str, ...]:
        """Columns whose values the CRM calculates."""
        return tuple(f.column for f in self.fields if f.calculated)

    @property
    def external_id_column(self) -> str | None:
        return self.by_name[self.external_id].column if self.external_id else None

    @property
    def parent_column(self) -> str | None:
        return self.by_name[self.parent].column if self.parent else None

    @property
    def version_type(self) -> FieldType:
        return FieldType.TEXT if self.version_text else FieldType.TIMESTAMP

    def page_schema(self) -> pa.Schema:
        """Shape of every page of this object: ``id``, ``_version``, ``_deleted``, then the fields by column name."""
        # Late, so that whoever only names objects does without pyarrow.
        from crm_assets.core.arrow import page_schema

        return page_schema(self)


class Source(StrEnum):
    """How an observation came about; it decides what it may override (see ``store.apply``)."""

    LIST = "list"
    """A bulk, query or search page of a window: true at the moment it was asked for."""
    LAGGING = "lagging"
    """A page of an index that may be behind: true once, possibly old; loses every tie."""
    ID = "id"
    """A primary read of named ids."""
    REPLY = "reply"
    """Not the CRM's values but the outcome of an outbox row; carries no fields."""


@dataclass(frozen=True, slots=True)
class Poison:
    """A record that cannot be stored; it is set aside with the reason while its page goes on."""

    id: str
    field: str
    reason: str
    version: str | None = None


@dataclass(frozen=True)
class Page:
    """Full records of one object, cast to ``Object.page_schema()``.

    ``next`` is the place behind this page, to be given to ``read`` as ``after``; None on the last page, and where the
    vendor offers no place to go on from. ``merged`` names records that were
    merged away, as (loser, survivor). ``complete_for``, of an object with a parent: ids of parents all of whose
    children are in this page, so that any other child of theirs is gone.
    """

    table: pa.Table
    poison: tuple[Poison, ...] = ()
    next: str | None = None
    merged: tuple[tuple[str, str], ...] = ()
    complete_for: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Window:
    """A half-open span [low, high) of the CRM's cursor; ``low`` None means from the beginning."""

    low: datetime | None
    high: datetime


@dataclass(frozen=True, slots=True)
class Bound:
    """The vendor's safe upper bound of a window: nothing below ``high`` can still appear.

    ``quiet`` is true when the vendor says that nothing was created or changed since the low end asked about.
    """

    high: datetime
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Deleted:
    """A record that the vendor lists as deleted, at the time it names."""

    id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Change:
    """A hint from a webhook or stream: this record changed. Only names what to re-read."""

    event_id: str
    object: str
    record_id: str
    change: str
    at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Gap:
    """Records of an object changed, and the vendor cannot say which: the object has to be read.

    ``whole``: all of it, else what changed since the last read will do. ``until`` is the vendor's time of the change,
    where known: a read that reaches no further does not count.
    """

    object: str
    reason: str
    whole: bool = False
    until: datetime | None = None


@dataclass(frozen=True, slots=True)
class Unread:
    """An event that cannot be read, with the reason; it is set aside while the stream goes on."""

    event_id: str
    object: str
    reason: str


@dataclass(frozen=True, slots=True)
class Heard:
    """What a stream told in one go. ``place`` is where to go on once all of it is kept (None: where one was before).

    Nothing at all is told too, at least every second, so that whoever listens can do something else.
    """

    place: bytes | None = None
    changes: tuple[Change, ...] = ()
    gaps: tuple[Gap, ...] = ()
    unread: tuple[Unread, ...] = ()


class Op(StrEnum):
    CREATE = "create"
    UPDATE = "update"
    DELETE = "delete"
    UNDELETE = "undelete"
    MERGE = "merge"


@dataclass(frozen=True, slots=True)
class Mutation:
    """One write to send. ``values`` are by column name; ``row_id`` travels in the external-id field of a create."""

    seq: int
    op: Op
    row_id: uuid.UUID
    id: str | None
    values: Mapping[str, Value] = field(default_factory=dict)
    if_version: str | None = None
    """Do nothing if the record's version is no longer this one. Only where a call carries a single record and the
    vendor offers such a condition; a connector without one ignores it."""
    within: tuple[Within, ...] = ()
    """Of a create: records that are to be made within it, in the same call. Only for a connector that offers it."""


@dataclass(frozen=True, slots=True)
class Within:
    """Creates of records that exist only within another one, which is created with them."""

    obj: Object
    mutations: tuple[Mutation, ...]


class Result(StrEnum):
    CONFIRMED = "confirmed"
    REJECTED = "rejected"
    RETRY = "retry"
    """Certainly not done; may be sent again."""
    UNKNOWN = "unknown"
    """May have been done."""
    GONE = "gone"
    """The record is deleted in the CRM."""
    CHANGED = "changed"
    """The record's version was no longer ``if_version``; nothing was done."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one mutation. ``reason`` is the vendor's own words, without record contents."""

    seq: int
    result: Result
    id: str | None = None
    reason: str = ""
    fields: tuple[str, ...] = ()
    """Vendor names of the fields the vendor complained about."""


@dataclass(frozen=True, slots=True)
class Budget:
    """A limit of the vendor that our calls are held to before they leave: ``limit`` calls at once, or within each
    rolling ``period``. ``apis`` are the kinds of call that count (None: all). ``name`` is that of the vendor's own
    numbers (``Limit.name``), which outrank these once they are seen."""

    name: str
    limit: int
    period: timedelta | None = None
    apis: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """A vendor's limit as last seen: ``used`` of ``limit``."""

    name: str
    used: int
    limit: int
