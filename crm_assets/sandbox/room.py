"""What a vendor's room offers to the server.

How a room is added: a package ``sandbox/<vendor>/`` with a module ``room`` whose function ``open_room`` takes an
:class:`Opening` and returns a :class:`Room`, and the vendor's name in :data:`VENDORS`. All else is shared: the gateway
lets ordered faults happen and counts the calls, the control API reads its calls and passes them to the room's
:class:`Desk`, the push delivers the room's events in the vendor's :class:`~crm_assets.sandbox.push.Form`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from .calls import Calls, Limit
from .faults import Faults
from .http import Reply, Request
from .push import Form, Push

VENDORS = ("salesforce", "hubspot", "netsuite")
LATE_SECONDS = 5.0
"""How long a transaction stays open that an ordered fault makes late."""


@dataclass(frozen=True, slots=True)
class Opening:
    """What a room is opened with: the folder of its data file, its own seed files if there are any, and how many
    records to make up without them. A vendor that pushes over gRPC does so on ``grpc_port`` (None: not at all), and
    says at least every ``keep_alive_seconds`` that it is there."""

    folder: Path
    seed: Path | None
    rows: int
    session_seconds: float = 7200.0
    grpc_port: int | None = None
    keep_alive_seconds: float = 270.0


@dataclass(frozen=True, slots=True)
class Act:
    """Something a user of the CRM does to one record. Only a create has no ``id``; that of a merge is the winner's."""

    what: Literal["create", "update", "delete", "undelete", "merge"]
    object: str
    id: str = ""
    fields: Mapping[str, Any] = field(default_factory=dict)
    losers: tuple[str, ...] = ()


class Desk(ABC):
    """The vendor's part of the control API. Objects go by API name or snake_case; what is unknown is refused with
    404 as a :class:`~crm_assets.sandbox.http.VendorError`, what is badly asked with a ValueError."""

    @abstractmethod
    def truth(self, name: str, after: str) -> tuple[list[dict[str, Any]], str | None]:
        """A page of all records, deleted ones too, and where the next one starts:
        ``{"id", "deleted", "modified_at", "fields"}``."""

    @abstractmethod
    def perform(self, act: Act, late_seconds: float) -> str:
        """The id of the record that was acted on; ``late_seconds`` is not 0 if the act shall be committed late, but
        answered at once."""

    @abstractmethod
    def reshape(self, order: Mapping[str, Any]) -> dict[str, Any]:
        """Changes a field: ``{"object", "action", "field", "to", "type"}``; returns what the object is now."""

    def own(self, method: str, path: str, data: Mapping[str, Any]) -> dict[str, Any] | None:
        """The answer of a resource that only this vendor has; None if there is none of this name."""
        return None


class Room(ABC):
    """One vendor's server: its state, and what it answers. Its methods are called from several threads at once."""

    def __init__(self, name: str, form: Form, limits: Mapping[str, Limit]) -> None:
        self.name = name
        self.limits = limits
        self.calls = Calls()
        self.faults = Faults()
        self.push = Push(self.faults, form)

    @property
    def pushes(self) -> Sequence[Push]:
        """All ways in which the room tells of changes by itself; the first one has the receivers given at the start."""
        return (self.push,)

    @property
    @abstractmethod
    def desk(self) -> Desk:
        """The vendor's part of the control API."""

    @abstractmethod
    def owns(self, path: str) -> bool:
        """Whether a path at ``/`` is this vendor's. Below ``/<name>/`` everything is."""

    @abstractmethod
    def api(self, request: Request) -> str:
        """The name under which a call is counted."""

    @abstractmethod
    def answer(self, request: Request) -> Reply:
        """The reply to a request; refusals are replies."""

    @abstractmethod
    def failure(self, kind: str, request: Request) -> Reply:
        """The vendor's words for an ordered fault: ``429``, ``500``, ``503`` or ``expired_token``."""

    def needs_session(self, request: Request) -> bool:
        """Whether a call can find its session expired: not one that logs in."""
        return True

    def slot(self, request: Request) -> AbstractContextManager[Reply | None]:
        """Entered for as long as a call is in work; yields a refusal if there is no room for it."""
        return nullcontext(None)

    def headers(self, request: Request, reply: Reply) -> Mapping[str, str]:
        """What the vendor adds to every reply."""
        return {}

    def addresses(self) -> Mapping[str, str]:
        """Where the room listens besides the sandbox's own address, by what for."""
        return {}

    @abstractmethod
    def stop(self) -> None:
        """Lets waiting transactions commit now. Called from a signal handler."""

    @abstractmethod
    def close(self) -> None:
        """Closes the data file."""


def open_rooms(vendors: Collection[str], opening: Opening) -> list[Room]:
    """The rooms of these vendors, each with its own folder of the seed files; ValueError for one there is not."""
    rooms: list[Room] = []
    for name in vendors:
        if name not in VENDORS:
            raise ValueError(f"no such vendor: {name}; known: {', '.join(VENDORS)}")
        seed = opening.seed / name if opening.seed is not None else None
        own = replace(opening, seed=seed if seed is not None and seed.is_dir() else None)
        # Only what is asked for is imported: a vendor's room is large.
        rooms.append(import_module(f".{name}.room", __package__).open_room(own))
    return rooms
