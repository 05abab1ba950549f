"""The record types of a fresh account.

Source: ``specs/netsuite/core_fields.json`` and the vendor's REST API Browser.
"""

from __future__ import annotations

from typing import Any

from .fields import Choices, Field, RecordType, Sublist

ORDER_STATUS: Choices = (
    ("A", "Pending Approval"),
    ("B", "Pending Fulfillment"),
    ("C", "Cancelled"),
    ("D", "Partially Fulfilled"),
    ("E", "Pending Billing/Partially Fulfilled"),
    ("F", "Pending Billing"),
    ("G", "Billed"),
    ("H", "Closed"),
)
INVOICE_STATUS: Choices = (("A", "Open"), ("B", "Paid In Full"))
PAYMENT_STATUS: Choices = (("B", "Not Deposited"), ("C", "Deposited"))


def _text(name: str, length: int = 300, **flags: Any) -> Field:
    return Field(name, length=length, **flags)


def _of(kind: str, *names: str, **flags: Any) -> tuple[Field, ...]:
    return tuple(Field(name, kind, **flags) for name in names)


def _ref(name: str, *to: str, **flags: Any) -> Field:
    return Field(name, "ref", to=to, **flags)


def _enum(name: str, choices: Choices, **flags: Any) -> Field:
    return Field(name, "enum", choices=choices, **flags)


def _fields(*given: Field | tuple[Field, ...], created: str = "dateCreated") -> tuple[Field, ...]:
    """With what every record has: its ids in front, its moments at the end."""
    body = [one for part in given for one in ((part,) if isinstance(part, Field) else part)]
    return (
        Field("id", "integer", "Internal ID", read_only=True),
        _text("externalId", 64, title="External ID"),
        *body,
        *_of("date-time", created, "lastModifiedDate", read_only=True),
    )


def _named(*names: str, length: int = 83) -> tuple[Field, ...]:
    return tuple(_text(name, length) for name in names)


ADDRESS_BOOK = Sublist(
    "addressBook",
    "addressbook",
    "internalId",
    (
        Field("internalId", "integer"),
        *_of("boolean", "defaultBilling", "defaultShipping", "isResidential"),
        _text("label", 150),
    ),
    "addressBookAddress",
    (
        *_named("addressee", "attention"),
        *_named("addr1", "addr2", length=150),
        *_named("city", "state", "zip", "country"),
    ),
)
ITEM_LINES = Sublist(
    "item",
    "transactionline",
    "line",
    (
        Field("line", "integer"),
        _ref("item", "inventoryItem", "nonInventorySaleItem", "serviceSaleItem", required=True),
        *_of("number", "quantity", "rate", "amount"),
        _text("description", 4000),
    ),
)

CUSTOMER = RecordType(
    "customer", "customer",
    _fields(
        _text("entityId", 80, title="Customer ID"), Field("isPerson", "boolean"),
        *_named("companyName"), *_named("firstName", "lastName", length=32),
        *_named("email", length=254), *_named("phone", "altPhone", "mobilePhone", "fax", length=22),
        _ref("subsidiary", "subsidiary"), _ref("currency", "currency"),
        _ref("entityStatus", "customerStatus"), _ref("salesRep", "employee"), _ref("parent", "customer"),
        _ref("category", "customerCategory"), _ref("terms", "term"), _ref("priceLevel", "priceLevel"),
        Field("creditLimit", "number"), _of("number", "balance", "overdueBalance", "depositBalance", read_only=True),
        Field("taxable", "boolean"), _ref("taxItem", "salesTaxItem"), Field("isInactive", "boolean"),
        _text("comments", 4000), _ref("leadSource", "leadSource"), _of("date", "startDate", "endDate"),
        _enum("emailPreference", (("DEFAULT", "Default"), ("HTML", "HTML"), ("PDF", "PDF"))),
        _enum("creditHoldOverride", (("AUTO", "Auto"), ("OFF", "Off"), ("ON", "On"))),
        _enum("globalSubscriptionStatus", (("1", "Soft Opt-In"), ("2", "Soft Opt-Out"), ("3", "Confirmed Opt-In"),
                                           ("4", "Confirmed Opt-Out"))),
    ),
    (ADDRESS_BOOK,), label="CUST", mergeable=True,
)  # fmt: skip
CONTACT = RecordType(
    "contact", "contact",
    _fields(
        _text("entityId", 80, title="Name"), *_named("firstName", "lastName", length=32), _text("title", 99),
        *_named("email", length=254), *_named("phone", "mobilePhone", "officePhone", length=22),
        _ref("company", "customer", "vendor"), _ref("subsidiary", "subsidiary"), _ref("supervisor", "contact"),
        _of("boolean", "isInactive", "isPrivate"), _text("comments", 4000),
    ),
    (ADDRESS_BOOK,), mergeable=True,
)  # fmt: skip
VENDOR = RecordType(
    "vendor", "vendor",
    _fields(
        _text("entityId", 80, title="Vendor ID"), Field("isPerson", "boolean"), *_named("companyName"),
        *_named("firstName", "lastName", length=32), *_named("email", length=254),
        *_named("phone", "altPhone", "fax", length=22), _ref("subsidiary", "subsidiary"), _ref("currency", "currency"),
        _ref("category", "vendorCategory"), _ref("terms", "term"), Field("creditLimit", "number"),
        Field("balance", "number", read_only=True), Field("isInactive", "boolean"), _text("comments", 4000),
    ),
    (ADDRESS_BOOK,), label="VEND", mergeable=True,
)  # fmt: skip
EMPLOYEE = RecordType(
    "employee", "employee",
    _fields(
        _text("entityId", 80, title="Employee ID"), *_named("firstName", "lastName", length=32), _text("title", 99),
        *_named("email", length=254), *_named("phone", "mobilePhone", length=22), _ref("supervisor", "employee"),
        _ref("subsidiary", "subsidiary"), _ref("department", "department"), Field("hireDate", "date"),
        _of("boolean", "isSalesRep", "isInactive"),
    ),
)  # fmt: skip
SUBSIDIARY = RecordType(
    "subsidiary", "subsidiary",
    _fields(
        _text("name", 83, required=True), _text("legalName", 83), _ref("parent", "subsidiary"),
        _ref("currency", "currency"), _text("country", 2), _of("boolean", "isElimination", "isInactive"),
    ),
    writable=False,
)  # fmt: skip
CURRENCY = RecordType(
    "currency", "currency",
    _fields(
        _text("name", 50, required=True), _text("symbol", 3), Field("exchangeRate", "number"),
        _of("boolean", "isBaseCurrency", "isInactive"),
    ),
    writable=False,
)  # fmt: skip


def _item(name: str, code: str, *more: Field) -> RecordType:
    return RecordType(
        name, "item",
        _fields(
            _text("itemId", 60, title="Item Name/Number", required=True), _text("displayName", 60),
            _text("salesDescription", 4000), _ref("subsidiary", "subsidiary"), Field("isInactive", "boolean"),
            *more, created="createdDate",
        ),
        code=code, marker="itemtype",
    )  # fmt: skip


INVENTORY_ITEM = _item("inventoryItem", "InvtPart", *_of("number", "cost"), _text("upcCode", 100))
NON_INVENTORY_ITEM = _item("nonInventorySaleItem", "NonInvtPart")
SERVICE_ITEM = _item("serviceSaleItem", "Service")


def _transaction(
    name: str, code: str, label: str, *body: Field | tuple[Field, ...], lines: tuple[Sublist, ...] = (ITEM_LINES,)
) -> RecordType:
    return RecordType(
        name, "transaction",
        _fields(
            _text("tranId", 45, title="Document Number"), Field("tranDate", "date"), *body,
            _ref("currency", "currency"), Field("exchangeRate", "number"), _ref("subsidiary", "subsidiary"),
            _text("memo", 999), created="createdDate",
        ),
        lines, code=code, marker="type", label=label,
    )  # fmt: skip


_AMOUNTS = _of("number", "subtotal", "discountTotal", "taxTotal", "total", read_only=True)
_PLACES = (_ref("location", "location"), _ref("department", "department"), _ref("class", "classification"))

SALES_ORDER = _transaction(
    "salesOrder", "SalesOrd", "SO",
    _ref("entity", "customer", required=True), _enum("orderStatus", ORDER_STATUS, column="status"),
    _enum("status", ORDER_STATUS, read_only=True), _PLACES, _text("otherRefNum", 45), _AMOUNTS,
    _of("date", "shipDate", "salesEffectiveDate"),
)  # fmt: skip
INVOICE = _transaction(
    "invoice", "CustInvc", "INV",
    _ref("entity", "customer", required=True), _ref("createdFrom", "salesOrder"),
    _enum("status", INVOICE_STATUS, read_only=True), _PLACES, _text("otherRefNum", 45), Field("dueDate", "date"),
    _AMOUNTS, _of("number", "amountPaid", "amountRemaining", read_only=True),
)  # fmt: skip
CUSTOMER_PAYMENT = _transaction(
    "customerPayment", "CustPymt", "PYMT",
    _ref("customer", "customer", required=True, column="entity"), _enum("status", PAYMENT_STATUS, read_only=True),
    Field("payment", "number", required=True, column="total"),
    lines=(),
)  # fmt: skip

STANDARD: tuple[RecordType, ...] = (
    CURRENCY,
    SUBSIDIARY,
    EMPLOYEE,
    CUSTOMER,
    VENDOR,
    CONTACT,
    INVENTORY_ITEM,
    NON_INVENTORY_ITEM,
    SERVICE_ITEM,
    SALES_ORDER,
    INVOICE,
    CUSTOMER_PAYMENT,
)
"""In the order in which a fresh account is filled: what is pointed to first."""
