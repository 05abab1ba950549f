"""The standard objects: their fields as a fresh org describes them, and how to write such a list shortly."""

from __future__ import annotations

from dataclasses import dataclass, field

from .fields import Field, of_type

EXTERNAL_ID = "Crm_Assets_Row_Id__c"

INDUSTRIES = (
    "Agriculture", "Apparel", "Banking", "Biotechnology", "Chemicals", "Construction", "Consulting",
    "Education", "Electronics", "Energy", "Engineering", "Entertainment", "Finance", "Government", "Healthcare",
    "Hospitality",
    "Insurance", "Machinery", "Manufacturing", "Media", "Retail", "Technology", "Telecommunications",
    "Transportation", "Utilities", "Other",
)  # fmt: skip
SOURCES = ("Web", "Phone Inquiry", "Partner Referral", "Purchased List", "Other")
RATINGS = ("Hot", "Warm", "Cold")
SALUTATIONS = ("Mr.", "Ms.", "Mrs.", "Dr.", "Prof.", "Mx.")
STAGES = {
    "Prospecting": 10, "Qualification": 10, "Needs Analysis": 20, "Value Proposition": 50,
    "Id. Decision Makers": 60, "Perception Analysis": 70, "Proposal/Price Quote": 75,
    "Negotiation/Review": 90, "Closed Won": 100, "Closed Lost": 0,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class SObject:
    """One object: its name, its key prefix and its fields in describe's order."""

    name: str
    prefix: str
    fields: tuple[Field, ...]
    writable: bool = True
    mergeable: bool = False
    index: dict[str, Field] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "index", {one.name.lower(): one for one in self.fields})

    def find(self, name: str) -> Field | None:
        """A field by name; the vendor does not mind the case."""
        return self.index.get(name.lower())

    def relation(self, name: str) -> Field | None:
        """The reference field behind a relationship: ``Owner`` → ``OwnerId``."""
        wanted = name.lower()
        return next((one for one in self.fields if (one.relationship or "").lower() == wanted), None)

    @property
    def stored(self) -> tuple[Field, ...]:
        return tuple(one for one in self.fields if one.stored)

    @property
    def seen(self) -> tuple[Field, ...]:
        """The fields that calls see."""
        return tuple(one for one in self.fields if not one.hidden)

    @property
    def deletable(self) -> bool:
        """Users and record types are never deleted, only made inactive."""
        return "isdeleted" in self.index


def text(name: str, length: int, **flags: object) -> Field:
    return Field(name, "string", length=length, **flags)  # type: ignore[arg-type]


def pick(name: str, values: tuple[str, ...], **flags: object) -> Field:
    return Field(name, "picklist", length=255, picklist=values, **flags)  # type: ignore[arg-type]


def ref(name: str, to: str, **flags: object) -> Field:
    return Field(name, "reference", reference_to=(to,), relationship=name.removesuffix("Id"), **flags)  # type: ignore[arg-type]


def money(name: str, precision: int = 18, scale: int = 2) -> Field:
    return Field(name, "currency", precision=precision, scale=scale)


def plain(name: str, kind: str) -> Field:
    return of_type(name, kind)


def address(prefix: str, compound: str) -> tuple[Field, ...]:
    """The parts of an address and the compound that reads them as one."""
    return (
        Field(f"{prefix}Street", "textarea", length=255, compound=compound),
        text(f"{prefix}City", 40, compound=compound),
        text(f"{prefix}State", 80, compound=compound),
        text(f"{prefix}PostalCode", 20, compound=compound),
        text(f"{prefix}Country", 80, compound=compound),
        Field(compound, "address", createable=False, updateable=False),
    )


def person_name() -> tuple[Field, ...]:
    return (
        text("LastName", 80, nillable=False, compound="Name"),
        text("FirstName", 40, compound="Name"),
        pick("Salutation", SALUTATIONS, restricted=True, compound="Name"),
        text("Name", 121, nillable=False, createable=False, updateable=False, name_field=True),
    )


def _read_only(name: str, kind: str, **flags: object) -> Field:
    return of_type(name, kind).but(createable=False, updateable=False, nillable=False, **flags)


_LASTING = ("User", "RecordType")
"""Objects whose records are made inactive, never deleted."""


def standard(
    name: str, prefix: str, *fields: Field, owner: bool = True, master: bool = False, writable: bool = True
) -> SObject:
    """An object with the system fields every object has, and the external id of those that can be written."""
    head = [Field("Id", "id", nillable=False, createable=False, updateable=False, id_lookup=True,
                  defaulted_on_create=True)]  # fmt: skip
    if name not in _LASTING:
        head.append(_read_only("IsDeleted", "boolean", defaulted_on_create=True))
    if master:
        head.append(ref("MasterRecordId", name, createable=False, updateable=False))
    tail = []
    if owner:
        tail.append(ref("OwnerId", "User", nillable=False, defaulted_on_create=True))
    audit: dict[str, object] = {"createable": False, "updateable": False, "nillable": False}
    tail += [
        _read_only("CreatedDate", "datetime", defaulted_on_create=True),
        ref("CreatedById", "User", defaulted_on_create=True, **audit),
        _read_only("LastModifiedDate", "datetime", defaulted_on_create=True),
        ref("LastModifiedById", "User", defaulted_on_create=True, **audit),
        _read_only("SystemModstamp", "datetime", defaulted_on_create=True),
    ]
    if writable:
        tail.append(text(EXTERNAL_ID, 36, external_id=True, unique=True, id_lookup=True))
    body = fields if writable else tuple(one.but(createable=False, updateable=False) for one in fields)
    return SObject(name, prefix, (*head, *body, *tail), writable=writable, mergeable=master)


ACCOUNT = standard(
    "Account", "001",
    text("Name", 255, nillable=False, name_field=True),
    pick("Type", ("Prospect", "Customer - Direct", "Customer - Channel", "Channel Partner / Reseller",
                  "Other")),
    ref("ParentId", "Account"),
    *address("Billing", "BillingAddress"), *address("Shipping", "ShippingAddress"),
    plain("Phone", "phone"), plain("Fax", "phone"), text("AccountNumber", 40), plain("Website", "url"),
    pick("Industry", INDUSTRIES), money("AnnualRevenue", 18, 0), plain("NumberOfEmployees", "int"),
    pick("Rating", RATINGS, restricted=True), plain("Description", "textarea"),
    pick("AccountSource", SOURCES),
    master=True,
)  # fmt: skip
CONTACT = standard(
    "Contact", "003",
    ref("AccountId", "Account"), *person_name(), *address("Mailing", "MailingAddress"),
    plain("Phone", "phone"), plain("MobilePhone", "phone"), plain("Email", "email").but(id_lookup=True),
    text("Title", 128), text("Department", 80), plain("Birthdate", "date"), pick("LeadSource", SOURCES),
    ref("ReportsToId", "Contact"), plain("Description", "textarea"),
    plain("HasOptedOutOfEmail", "boolean"), plain("DoNotCall", "boolean"),
    master=True,
)  # fmt: skip
LEAD = standard(
    "Lead", "00Q",
    *person_name(), text("Title", 128), text("Company", 255, nillable=False), *address("", "Address"),
    plain("Phone", "phone"), plain("MobilePhone", "phone"), plain("Email", "email").but(id_lookup=True),
    plain("Website", "url"), plain("Description", "textarea"), pick("LeadSource", SOURCES),
    pick("Status", ("Open - Not Contacted", "Working - Contacted", "Closed - Converted",
                    "Closed - Not Converted"),
         nillable=False, defaulted_on_create=True, default="Open - Not Contacted"),
    pick("Industry", INDUSTRIES), pick("Rating", RATINGS, restricted=True), money("AnnualRevenue", 18, 0),
    plain("NumberOfEmployees", "int"), plain("HasOptedOutOfEmail", "boolean"), plain("DoNotCall", "boolean"),
    plain("IsConverted", "boolean").but(createable=False, updateable=False),
    plain("ConvertedDate", "date").but(createable=False, updateable=False),
    ref("ConvertedAccountId", "Account", createable=False, updateable=False),
    ref("ConvertedContactId", "Contact", createable=False, updateable=False),
    ref("ConvertedOpportunityId", "Opportunity", createable=False, updateable=False),
    plain("IsUnreadByOwner", "boolean"),
    master=True,
)  # fmt: skip
OPPORTUNITY = standard(
    "Opportunity", "006",
    ref("AccountId", "Account"), text("Name", 120, nillable=False, name_field=True),
    plain("Description", "textarea"), pick("StageName", tuple(STAGES), nillable=False),
    money("Amount", 18, 2),
    Field("Probability", "percent", precision=3, scale=0, defaulted_on_create=True),
    plain("CloseDate", "date").but(nillable=False),
    pick("Type", ("Existing Business", "New Business")), text("NextStep", 255), pick("LeadSource", SOURCES),
    plain("IsClosed", "boolean").but(createable=False, updateable=False, calculated=True),
    plain("IsWon", "boolean").but(createable=False, updateable=False, calculated=True),
)  # fmt: skip
PRODUCT = standard(
    "Product2", "01t",
    text("Name", 255, nillable=False, name_field=True), text("ProductCode", 255),
    Field("Description", "textarea", length=4000), pick("Family", ("None",)), plain("IsActive", "boolean"),
    text("StockKeepingUnit", 180),
    owner=False,
)  # fmt: skip
CAMPAIGN = standard(
    "Campaign", "701",
    text("Name", 80, nillable=False, name_field=True), ref("ParentId", "Campaign"),
    pick("Type", ("Conference", "Webinar", "Email", "Advertisement", "Other")),
    pick("Status", ("Planned", "In Progress", "Completed", "Aborted")), plain("StartDate", "date"),
    plain("EndDate", "date"), money("BudgetedCost", 18, 0), money("ActualCost", 18, 0),
    plain("IsActive", "boolean"), plain("Description", "textarea"),
)  # fmt: skip
TASK = standard(
    "Task", "00T",
    Field("WhoId", "reference", reference_to=("Contact", "Lead"), relationship="Who"),
    Field("WhatId", "reference", reference_to=("Account", "Opportunity", "Campaign", "Product2"),
          relationship="What"),
    Field("Subject", "combobox", length=255), plain("ActivityDate", "date"),
    pick("Status", ("Not Started", "In Progress", "Completed", "Deferred"), nillable=False,
         defaulted_on_create=True, default="Not Started"),
    pick("Priority", ("High", "Normal", "Low"), nillable=False, defaulted_on_create=True, default="Normal"),
    plain("Description", "textarea"), plain("CallDurationInSeconds", "int"),
)  # fmt: skip
CASE = standard(
    "Case", "500",
    text("CaseNumber", 30, nillable=False, createable=False, updateable=False, auto_number=True, name_field=True,
         defaulted_on_create=True),
    ref("AccountId", "Account"), ref("ContactId", "Contact"), ref("ParentId", "Case"), text("Subject", 255),
    pick("Status", ("New", "Working", "Escalated", "Closed"), defaulted_on_create=True, default="New"),
    pick("Origin", ("Phone", "Email", "Web")), pick("Type", ("Problem", "Question", "Feature Request")),
    pick("Priority", ("High", "Medium", "Low"), defaulted_on_create=True, default="Medium"),
    text("Reason", 255), plain("SuppliedEmail", "email"), plain("IsEscalated", "boolean"),
    plain("IsClosed", "boolean").but(createable=False, updateable=False, calculated=True),
    plain("Description", "textarea"),
)  # fmt: skip
ATTACHMENT = standard(
    "Attachment", "00P",
    Field("ParentId", "reference", reference_to=("Account", "Contact", "Lead", "Opportunity", "Case"),
          relationship="Parent", nillable=False),
    text("Name", 255, nillable=False, name_field=True), text("ContentType", 120), plain("IsPrivate", "boolean"),
    Field("BodyLength", "int", createable=False, updateable=False), Field("Body", "base64", nillable=False),
    text("Description", 500),
)  # fmt: skip
USER = standard(
    "User", "005",
    text("Username", 80), text("LastName", 80, nillable=False, compound="Name"),
    text("FirstName", 40, compound="Name"), text("Name", 121, name_field=True), plain("Email", "email"),
    text("Alias", 8), text("Title", 80), text("Department", 80), plain("Phone", "phone"),
    plain("IsActive", "boolean"), ref("ManagerId", "User"),
    text("TimeZoneSidKey", 40), text("LocaleSidKey", 40),
    owner=False, writable=False,
)  # fmt: skip
RECORD_TYPE = standard(
    "RecordType", "012",
    text("Name", 80, nillable=False, name_field=True), text("DeveloperName", 80, nillable=False),
    pick("SobjectType", ("Account", "Campaign", "Case", "Contact", "Lead", "Opportunity", "Product2", "Task")),
    text("Description", 255), plain("IsActive", "boolean"),
    owner=False, writable=False,
)  # fmt: skip
RECORD_TYPE_FIELD = "RecordTypeId"

STANDARD: tuple[SObject, ...] = (
    USER, ACCOUNT, CONTACT, LEAD, OPPORTUNITY, PRODUCT, CAMPAIGN, TASK, CASE, RECORD_TYPE, ATTACHMENT,
)  # fmt: skip
"""In the order in which a fresh org is filled: parents first."""
