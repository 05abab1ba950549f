"""The objects of an account: their names, their identifying properties, what comes unasked."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Kind:
    """``event`` is the noun of its webhooks, empty where only the generic ones exist."""

    name: str
    singular: str
    type_id: str
    defaults: tuple[str, ...]
    created: str = "createdate"
    modified: str = "hs_lastmodifieddate"
    required: tuple[str, ...] = ()
    searched: tuple[str, ...] = ()
    event: str = ""
    merges: bool = False

    @property
    def noun(self) -> str:
        """As messages write it."""
        return self.singular.replace("_", " ").title()

    @property
    def always(self) -> tuple[str, ...]:
        """What every reply has, whatever was asked for."""
        return (self.created, "hs_object_id", self.modified)


def _engagement(name: str, singular: str, type_id: str, body: str) -> Kind:
    made = ("hs_createdate", "hs_lastmodifieddate", "hs_object_id")
    return Kind(name, singular, type_id, made, "hs_createdate", required=("hs_timestamp",), searched=(body,))


CONTACTS = Kind(
    "contacts",
    "contact",
    "0-1",
    ("email", "firstname", "lastname"),
    modified="lastmodifieddate",
    searched=("email", "firstname", "lastname", "phone", "company"),
    event="contact",
    merges=True,
)
COMPANIES = Kind(
    "companies",
    "company",
    "0-2",
    ("domain", "name"),
    searched=("name", "domain", "phone"),
    event="company",
    merges=True,
)
DEALS = Kind(
    "deals",
    "deal",
    "0-3",
    ("amount", "closedate", "dealname", "dealstage", "pipeline"),
    searched=("dealname",),
    event="deal",
    merges=True,
)
TICKETS = Kind(
    "tickets",
    "ticket",
    "0-5",
    ("content", "hs_pipeline", "hs_pipeline_stage", "hs_ticket_category", "hs_ticket_priority", "subject"),
    required=("hs_pipeline_stage",),
    searched=("subject", "content"),
    event="ticket",
    merges=True,
)
PRODUCTS = Kind(
    "products",
    "product",
    "0-7",
    ("description", "name", "price"),
    searched=("name", "description", "hs_sku"),
    event="product",
)
LINE_ITEMS = Kind(
    "line_items",
    "line_item",
    "0-8",
    ("amount", "hs_product_id", "quantity"),
    searched=("name", "hs_sku"),
    event="line_item",
)
CALLS = _engagement("calls", "call", "0-48", "hs_call_title")
EMAILS = _engagement("emails", "email", "0-49", "hs_email_subject")
MEETINGS = _engagement("meetings", "meeting", "0-47", "hs_meeting_title")
NOTES = _engagement("notes", "note", "0-46", "hs_note_body")
TASKS = _engagement("tasks", "task", "0-27", "hs_task_subject")

KINDS = (CONTACTS, COMPANIES, DEALS, TICKETS, PRODUCTS, LINE_ITEMS, CALLS, EMAILS, MEETINGS, NOTES, TASKS)
KINDS_BY_NAME = {name: kind for kind in KINDS for name in (kind.name, kind.singular, kind.type_id)}


def find(name: str) -> Kind | None:
    """An object by its plural, its singular or its type id, in any case."""
    return KINDS_BY_NAME.get(name) or KINDS_BY_NAME.get(name.lower().replace("-", "_").replace(" ", "_"))


def custom(name: str, number: int, portal: int, required: tuple[str, ...], searched: tuple[str, ...]) -> Kind:
    """An object of the account's own; its full name stands in paths."""
    made = ("hs_createdate", "hs_lastmodifieddate", "hs_object_id")
    return Kind(f"p{portal}_{name}", name, f"2-{number}", made, "hs_createdate", required=required, searched=searched)
