"""The properties every account has, and the unique one that links a record to its row."""

from __future__ import annotations

from collections.abc import Iterator

from .kinds import COMPANIES, CONTACTS, DEALS, KINDS, LINE_ITEMS, TICKETS, Kind
from .properties import Property, labelled

ROW_ID = "crm_assets_row_id"
_ORIGIN = 1_577_836_800_000

INDUSTRIES = (
    "ACCOUNTING", "APPAREL_FASHION", "BANKING", "BIOTECHNOLOGY", "COMPUTER_SOFTWARE", "CONSTRUCTION", "EDUCATION",
    "FINANCIAL_SERVICES", "HOSPITAL_HEALTH_CARE", "INSURANCE", "MACHINERY", "RETAIL", "TELECOMMUNICATIONS",
)  # fmt: skip
LIFECYCLE = (
    "subscriber", "lead", "marketingqualifiedlead", "salesqualifiedlead", "opportunity", "customer", "evangelist",
    "other",
)  # fmt: skip
LEAD_STATUS = (
    "NEW", "OPEN", "IN_PROGRESS", "OPEN_DEAL", "UNQUALIFIED", "ATTEMPTED_TO_CONTACT", "CONNECTED", "BAD_TIMING",
)  # fmt: skip

_TEXTS = {
    "contacts": (
        "firstname lastname company jobtitle website address city state zip country hs_additional_emails salutation"
    ),
    "companies": "name domain description website address city state zip country hs_additional_domains",
    "deals": "dealname description deal_currency_code hs_next_step",
    "tickets": "subject content",
    "products": "name description hs_sku hs_url hs_product_type",
    "line_items": "name description hs_product_id hs_sku hs_line_item_currency_code",
    "calls": "hs_call_title hs_call_body hs_call_to_number hs_call_from_number hs_call_disposition",
    "emails": "hs_email_subject hs_email_text hs_email_html hs_email_headers",
    "meetings": "hs_meeting_title hs_meeting_body hs_meeting_location hs_internal_meeting_notes",
    "notes": "hs_note_body",
    "tasks": "hs_task_subject hs_task_body",
}
_NUMBERS = {
    "companies": "numberofemployees annualrevenue",
    "deals": "amount",
    "products": "price hs_cost_of_goods_sold",
    "line_items": "quantity price discount",
    "calls": "hs_call_duration",
}
_MOMENTS = {
    "deals": "closedate",
    "tickets": "closed_date",
    "meetings": "hs_meeting_start_time hs_meeting_end_time",
}
_CHOICES: dict[str, dict[str, tuple[str, ...]]] = {
    "contacts": {"lifecyclestage": LIFECYCLE, "hs_lead_status": LEAD_STATUS},
    "companies": {
        "industry": INDUSTRIES,
        "lifecyclestage": LIFECYCLE,
        "type": ("PROSPECT", "PARTNER", "RESELLER", "VENDOR", "OTHER"),
    },
    "deals": {"dealtype": ("newbusiness", "existingbusiness"), "hs_priority": ("low", "medium", "high")},
    "tickets": {
        "hs_ticket_priority": ("LOW", "MEDIUM", "HIGH", "URGENT"),
        "hs_ticket_category": ("PRODUCT_ISSUE", "BILLING_ISSUE", "FEATURE_REQUEST", "GENERAL_INQUIRY"),
        "source_type": ("CHAT", "EMAIL", "FORM", "PHONE"),
    },
    "products": {"recurringbillingfrequency": ("monthly", "quarterly", "annually")},
    "line_items": {"hs_recurring_billing_period": ("P1M", "P12M", "P24M", "P36M")},
    "calls": {
        "hs_call_status": ("BUSY", "CANCELED", "COMPLETED", "CONNECTING", "FAILED", "NO_ANSWER", "QUEUED", "RINGING"),
        "hs_call_direction": ("INBOUND", "OUTBOUND"),
    },
    "emails": {
        "hs_email_direction": ("EMAIL", "INCOMING_EMAIL", "FORWARDED_EMAIL"),
        "hs_email_status": ("BOUNCED", "FAILED", "SCHEDULED", "SENDING", "SENT"),
    },
    "meetings": {"hs_meeting_outcome": ("SCHEDULED", "COMPLETED", "RESCHEDULED", "NO_SHOW", "CANCELED")},
    "tasks": {
        "hs_task_status": ("NOT_STARTED", "IN_PROGRESS", "WAITING", "DEFERRED", "COMPLETED"),
        "hs_task_priority": ("NONE", "LOW", "MEDIUM", "HIGH"),
        "hs_task_type": ("TODO", "EMAIL", "CALL"),
    },
}
_LONG = frozenset(
    {"description", "content", "hs_note_body", "hs_call_body", "hs_meeting_body", "hs_task_body", "hs_email_text"}
)


def properties(kind: Kind) -> list[Property]:
    """What a fresh account has for an object."""
    group = f"{kind.singular}information"
    return [one.but(group=group, origin=_ORIGIN) for one in _properties(kind)]


def _label(name: str) -> str:
    return name.removeprefix("hs_").replace("_", " ").title()


def _properties(kind: Kind) -> Iterator[Property]:
    for name in _TEXTS.get(kind.name, "").split():
        yield Property(name, _label(name), field_type="textarea" if name in _LONG else "text")
    for name in _NUMBERS.get(kind.name, "").split():
        yield Property(name, _label(name), "number")
    for name in _MOMENTS.get(kind.name, "").split():
        yield Property(name, _label(name), "datetime")
    for name, options in _CHOICES.get(kind.name, {}).items():
        yield Property(name, _label(name), "enumeration", options=labelled(options))
    yield from _special(kind)
    yield Property(
        "hubspot_owner_id", "Owner", "enumeration", external=True, refers_to="OWNER", description="The record's owner."
    )
    yield Property(ROW_ID, "Row Id", unique=True, custom=True, description="The row of this record in the product.")
    for name in (kind.created, kind.modified):
        yield Property(name, _label(name), "datetime", read_only=True)
    yield Property("hs_object_id", "Record ID", "number", read_only=True)
    for name in ("hs_object_source", "hs_object_source_label"):
        yield Property(name, _label(name), read_only=True)
    if kind.merges:
        yield Property(
            "hs_merged_object_ids", "Merged record IDs", "enumeration", "checkbox", external=True, read_only=True
        )


def _special(kind: Kind) -> Iterator[Property]:
    if kind is CONTACTS:
        yield Property("email", "Email", unique=True, form_field=True)
        yield Property("phone", "Phone Number", "phone_number")
        yield Property("mobilephone", "Mobile Phone Number", "phone_number")
        yield Property("hs_email_optout", "Unsubscribed from all email", "bool", read_only=True)
        yield Property("hs_is_contact", "Is a contact", "bool", read_only=True, calculated=True)
        yield Property("hs_is_unworked", "Contact unworked", "bool", read_only=True, calculated=True)
        for name in ("hs_all_contact_vids", "hs_calculated_merged_vids"):
            yield Property(
                name, _label(name), "enumeration", "checkbox", external=True, read_only=True, calculated=True
            )
        for name in ("hs_email_domain", "hs_marketable_status", "hs_pipeline"):
            yield Property(name, _label(name), read_only=True, calculated=name == "hs_email_domain")
    elif kind is COMPANIES:
        yield Property("phone", "Phone Number", "phone_number")
        yield Property("hs_parent_company_id", "Parent Company", "number", read_only=True, refers_to="COMPANY")
    elif kind is DEALS:
        yield Property("pipeline", "Pipeline", "enumeration", external=True)
        yield Property("dealstage", "Deal Stage", "enumeration", "radio", external=True)
        yield Property("hs_is_closed", "Is Deal Closed?", "bool", read_only=True, calculated=True)
        yield Property("hs_is_closed_won", "Is Closed Won", "bool", read_only=True, calculated=True)
        yield Property("hs_deal_stage_probability", "Deal probability", "number", read_only=True, calculated=True)
    elif kind is TICKETS:
        yield Property("hs_pipeline", "Pipeline", "enumeration", external=True)
        yield Property("hs_pipeline_stage", "Ticket status", "enumeration", "radio", external=True)
    elif kind is LINE_ITEMS:
        yield Property("amount", "Net price", "number", read_only=True, calculated=True)
    elif kind.created == "hs_createdate":
        yield Property("hs_timestamp", "Activity date", "datetime")


def all_properties() -> Iterator[tuple[Kind, list[Property]]]:
    for kind in KINDS:
        yield kind, properties(kind)
