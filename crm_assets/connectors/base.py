"""The socket: the questions a CRM connector answers.

A room answers only its vendor's questions. It opens no database connection, never sleeps for rate limits by itself
and never sends a write twice. Each call to the vendor first takes its token from the ``Gate`` and reports back what
the vendor said about its limits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Protocol, runtime_checkable

from crm_assets.core.errors import ConfigurationError
from crm_assets.core.model import (
    Bound,
    Budget,
    Change,
    Deleted,
    Field,
    Heard,
    Limit,
    Mutation,
    Object,
    Outcome,
    Page,
    Value,
    Window,
)
from crm_assets.core.readiness import Finding, Need


class Gate(Protocol):
    """Where a call takes its token before it leaves, and where the vendor's own numbers are reported."""

    @property
    def calls(self) -> int:
        """Calls that have left through this gate so far, of every kind."""
        ...

    def call(self, api: str, cost: int = 1) -> AbstractContextManager[None]:
        """Enclose one call; ``api`` names the kind (``query``, ``bulk``, ``write``, ``token`` …), ``cost`` its points
        where the vendor counts those.

        Raises QuotaExhausted when the budget is used up. Waiting, if any, happens here and not in the connector.
        """
        ...

    def refused(self, name: str, after: timedelta) -> None:
        """Report that the vendor refused a call for the limit ``name``: nobody calls against it for so long."""
        ...

    def observe(self, limits: Sequence[Limit]) -> None:
        """Report usage as the vendor counts it (headers, limit endpoints)."""
        ...


@dataclass(frozen=True)
class ConnectionConfig:
    """What defs.yaml says about one connection. ``credentials`` are names of environment variables, not values."""

    name: str
    connector: str
    url: str
    credentials: Mapping[str, str] = field(default_factory=dict)
    options: Mapping[str, str | int | float | bool] = field(default_factory=dict)
    call_timeout: timedelta = timedelta(seconds=120)
    """After this long without a reply a call counts as lost."""
    longest_call: timedelta = timedelta(seconds=600)
    """The longest that the vendor may still work on a call whose caller is gone."""

    def secret(self, name: str) -> str:
        """The value of a credential, read from the environment now; ConfigurationError names what is missing."""
        variable = self.credentials.get(name)
        if not variable:
            raise ConfigurationError(
                f"connection {self.name}: credentials.{name} is not set in defs.yaml; "
                f"add `{name}: NAME_OF_AN_ENVIRONMENT_VARIABLE` there"
            )
        value = os.environ.get(variable)
        if not value:
            raise ConfigurationError(
                f"connection {self.name}: environment variable {variable} (credentials.{name} in defs.yaml) "
                "is not set; export it where Dagster and the relay start"
            )
        return value


@runtime_checkable
class Connector(Protocol):
    """One CRM account. Safe to use from several threads."""

    config: ConnectionConfig
    gate: Gate

    def describe(self, object_name: str, chosen: Mapping[str, str] | None = None) -> Object:
        """Fields, types and rights of an object by its API name; ObjectUnavailable names unknown ones.

        ``column`` names come from ``core.naming.columns``; ``chosen`` are earlier choices (field name → column).
        Fields that cannot be read in bulk or are compounds of others are left out.
        """
        ...

    def object_names(self) -> Sequence[str]:
        """API names of all objects the account can read."""
        ...

    def bound(self, obj: Object, low: datetime | None) -> Bound:
        """The safe high end of a window that begins at ``low`` (None: from the beginning)."""
        ...

    def read(self, obj: Object, window: Window | None, after: str | None = None) -> Iterator[Page]:
        """All records whose version lies in the window (None: all that exist), deleted ones that the vendor still
        shows included, ordered by (version, id) or unordered. Bulk or single pages: the connector chooses.

        ``after`` is the ``next`` of a page of an earlier read of the same window: go on behind that page. A place
        that is of no use any more (the vendor forgot it, or other fields or another ``where`` are asked for now) is
        no error: the read begins anew. SchemaChanged if a field is refused.
        """
        ...

    def deletes(self, obj: Object, window: Window) -> Iterator[Deleted]:
        """Records deleted in the window, as far as the vendor keeps them."""
        ...

    def fetch(self, obj: Object, ids: Sequence[str]) -> Page:
        """Primary read by id. Ids that the vendor no longer knows at all are absent from the page.

        For an object with a parent an id may also be a parent's alone; the page is complete for every parent asked.
        """
        ...

    def lookup(self, obj: Object, row_ids: Sequence[str]) -> Page:
        """Primary read by the external-id field, deleted records included where the vendor shows them."""
        ...

    def find(self, obj: Object, values: Mapping[str, Value], since: datetime) -> Page:
        """Records created since then that have exactly these values (by column): what a create whose reply was lost
        may have made. At most a page of them."""
        ...

    def count(self, obj: Object, window: Window | None = None) -> int:
        """How many live records the vendor has of this object (within ``obj.where``) whose version lies in the
        window (None: in all)."""
        ...

    def ids(self, obj: Object, window: Window | None = None) -> Iterator[Sequence[str]]:
        """All live ids (of the window), page by page."""
        ...

    def write(self, obj: Object, mutations: Sequence[Mutation]) -> Sequence[Outcome]:
        """Send mutations of one kind of operation in one call; exactly one outcome each, by ``seq``.

        At most ``max_write`` of them. Creates are upserts by the external-id field if the object has one. A call
        without a reply gives UNKNOWN for each; a reply that proves that nothing was done gives RETRY.
        Raises QuotaExhausted or RetriableError only if certainly nothing was sent or done.
        """
        ...

    @property
    def max_write(self) -> int: ...

    @property
    def max_fetch(self) -> int: ...

    @property
    def overlap(self) -> timedelta:
        """How far the next window reaches back behind the last safe bound."""
        ...

    @property
    def settle_time(self) -> timedelta:
        """How long after a call ``find`` may still miss what it made (search indexes lag)."""
        ...

    @property
    def budgets(self) -> Sequence[Budget]:
        """The vendor's limits as documented, for the account's edition; asks the vendor nothing."""
        ...

    def same(self, fld: Field, ours: Value, theirs: Value) -> bool:
        """Whether the vendor would store ``ours`` as ``theirs`` (it trims, rounds, drops milliseconds)."""
        ...

    def parse_event(self, headers: Mapping[str, str], body: bytes, url: str) -> Sequence[Change]:
        """Verify and read a webhook delivery. PermissionError: bad or old signature; ValueError: malformed.

        ``url`` is what the sender called, as far as this end of the connection can see it.
        """
        ...

    def close(self) -> None: ...


@dataclass(frozen=True)
class Acknowledgement:
    """What a sender wants to read before it takes a delivery for received; sent with the status 200."""

    content_type: str
    body: bytes


@runtime_checkable
class Acknowledging(Protocol):
    """What a connector offers besides if its vendor's deliveries need an answer of their own. Found by
    ``isinstance``."""

    def acknowledgement(self, body: bytes) -> Acknowledgement | None:
        """The answer to a delivery that has been stored; None for the usual one."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """What a connector offers besides if its vendor has a stream of changes. Found by ``isinstance``."""

    @property
    def topics(self) -> Sequence[str]:
        """The streams to follow, as configured; none if the connection does without."""
        ...

    def follow(self, topic: str, place: bytes | None, objects: Mapping[str, Object]) -> Iterator[Heard]:
        """What happens to these objects (by API name) behind a place, for ever.

        Without a place it begins now, and tells a gap of each object; so it does where the vendor no longer keeps
        what follows the place, and goes on from the oldest event there is. The next part is asked for when the caller
        asks for it: what was told has been kept by then. Closing the iterator ends the subscription. Raises
        RetriableError when the stream breaks, ConfigurationError if it may not be followed.
        """
        ...


@runtime_checkable
class Conditional(Protocol):
    """What a connector offers besides if its vendor takes a condition with an update of a single record: it honours
    ``Mutation.if_version``. Found by ``isinstance``."""

    @property
    def condition_blind(self) -> timedelta:
        """How long after ``if_version`` an edit may pass for that version: the vendor's precision, and the difference
        of the clocks. A condition proves something only for a version that was seen later than that."""
        ...


@runtime_checkable
class Repeating(Protocol):
    """What a connector offers besides if its vendor does a create once however often it is sent, without an external
    id: by a key that ``Mutation.seq`` and ``row_id`` give. A create that is sent again may have other values by then,
    and those count. Found by ``isinstance``."""

    def repeatable(self, obj: Object) -> bool:
        """Whether that holds for this object."""
        ...


@runtime_checkable
class Nesting(Protocol):
    """What a connector offers besides if its vendor creates a record together with what lives within it (an order with
    its lines). Found by ``isinstance``. ``write`` honours ``Mutation.within``: all of it is one call, done as a whole
    or not at all, and those outcomes of what is within that are known stand among the others."""

    def nested(self, obj: Object) -> Collection[str]:
        """API names of the objects whose records a create of this object may carry."""
        ...


@runtime_checkable
class Inspecting(Protocol):
    """What a connector offers besides if its vendor tells more about an account than describes show. Found by
    ``isinstance``."""

    def menu(self, need: Need, name: str) -> str:
        """Where in the CRM an admin does this for an object, in the words of its menus."""
        ...

    def inspect(self, objects: Sequence[Object], written: Collection[str]) -> Iterator[Finding]:
        """Limits, push channels, and rights that no describe shows, for these objects (with all their fields), of
        which the product writes those named in ``written``. A few calls that change nothing."""
        ...


ConnectorFactory = Callable[[ConnectionConfig, Gate], Connector]
