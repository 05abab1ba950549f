"""What kinds of record there are, and how each is called in paths, events and associations.

Source: CRM API, "Object type IDs"; Webhooks API, "Webhook subscriptions". The cursor of contacts has a name of its own.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """``name`` stands in paths, ``singular`` in events; ``modified`` and ``created`` are properties."""

    name: str
    type_id: str
    singular: str
    modified: str = "hs_lastmodifieddate"
    created: str = "createdate"
    timed: bool = False
    """An activity: it cannot be created without ``hs_timestamp``."""


KINDS = {
    kind.name: kind
    for kind in (
        Kind("contacts", "0-1", "contact", modified="lastmodifieddate"),
        Kind("companies", "0-2", "company"),
        Kind("deals", "0-3", "deal"),
        Kind("tickets", "0-5", "ticket"),
        Kind("products", "0-7", "product"),
        Kind("line_items", "0-8", "line_item"),
        Kind("calls", "0-48", "call", created="hs_createdate", timed=True),
        Kind("emails", "0-49", "email", created="hs_createdate", timed=True),
        Kind("meetings", "0-47", "meeting", created="hs_createdate", timed=True),
        Kind("notes", "0-46", "note", created="hs_createdate", timed=True),
        Kind("tasks", "0-27", "task", created="hs_createdate", timed=True),
    )
}
BY_SINGULAR = {kind.singular: kind for kind in KINDS.values()}
BY_TYPE_ID = {kind.type_id: kind for kind in KINDS.values()}

OWNERS, PIPELINES, STAGES = "owners", "pipelines", "pipeline_stages"
DIRECTORY = (OWNERS, PIPELINES, STAGES)

_BETWEEN = "_to_"
_TARGETS = ("contacts", "companies", "deals", "tickets")


def kind_of(name: str) -> Kind:
    """A kind by its name; custom objects (``2-…`` or their full name) follow the common rules."""
    return KINDS.get(name) or Kind(name, name, name, created="hs_createdate")


def edge(name: str) -> tuple[str, str] | None:
    """The kinds that an association table such as ``contacts_to_companies`` lies between; None for another name."""
    start, between, end = name.partition(_BETWEEN)
    return (start, end) if between and start and end else None


def edge_name(start: str, end: str) -> str:
    return f"{start}{_BETWEEN}{end}"


def usual_names() -> list[str]:
    """What every account has: the kinds, what they refer to, and their common associations."""
    edges = [edge_name(start, end) for start in KINDS for end in _TARGETS if start != end and start != "products"]
    return [*KINDS, *DIRECTORY, *edges, edge_name("deals", "line_items")]
