"""Change events as hints: bitmaps, gaps, and what an update has to do with the fields that are kept."""

from __future__ import annotations

import io
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import fastavro
import pytest

from crm_assets.connectors.salesforce import changeevents
from crm_assets.connectors.salesforce.changeevents import Schema, changed, concerns
from crm_assets.core.model import Change, Field, FieldType, Gap, Object

LISTS = ("nulledFields", "diffFields", "changedFields")
HEADER = {
    "type": "record",
    "name": "ChangeEventHeader",
    "fields": [
        {"name": "entityName", "type": "string"},
        {"name": "recordIds", "type": {"type": "array", "items": "string"}},
        {"name": "changeType", "type": "string"},
        {"name": "commitTimestamp", "type": "long"},
        *({"name": name, "type": {"type": "array", "items": "string"}} for name in LISTS),
    ],
}


def optional(name: str, kind: Any = "string") -> dict[str, Any]:
    return {"name": name, "type": ["null", kind], "default": None}


def record(name: str, *parts: str) -> dict[str, Any]:
    return {"type": "record", "name": name, "fields": [optional(part) for part in parts]}


CONTACT = json.dumps(
    {
        "type": "record",
        "name": "ContactChangeEvent",
        "namespace": "com.sforce.eventbus",
        "fields": [
            {"name": "ChangeEventHeader", "type": HEADER},  # 0
            optional("Name", record("PersonName", "Salutation", "FirstName", "LastName")),  # 1
            optional("AccountId"),  # 2
            optional("Phone"),  # 3
            optional("MailingAddress", record("Address", "Street", "City", "State")),  # 4
            optional("OtherAddress", "Address"),  # 5: by name, as in the vendor's schemas
            optional("Email"),  # 6
            *(optional(f"F{n}__c") for n in range(7, 20)),
        ],
    }
)
SCHEMA = Schema.parse(CONTACT)


@pytest.mark.parametrize(
    ("bitmaps", "fields"),
    [
        ([], set()),
        (["0x08"], {"Phone"}),  # 1000: bit 3
        (["0x48"], {"Phone", "Email"}),  # 100 1000: bits 3 and 6
        (["0x010004"], {"AccountId", "F16__c"}),  # 1 0000 0000 0000 0100: bits 2 and 16
        (["0x00000008"], {"Phone"}),
        (["0x080080"], {"F7__c", "F19__c"}),  # 1000 0000 0000 1000 0000: bits 7 and 19
        (["1-0x05"], {"Name.Salutation", "Name.LastName"}),  # 101: bits 0 and 2 of field 1
        (["0x08", "4-0x02", "5-0x01"], {"Phone", "MailingAddress.City", "OtherAddress.Street"}),
        (["0x10"], {"MailingAddress"}),
        (["0xaA"], {"Name", "Phone", "OtherAddress", "F7__c"}),  # 1010 1010
    ],
)
def test_bitmaps_worked_out_by_hand(bitmaps: list[str], fields: set[str]) -> None:
    assert changed(SCHEMA, bitmaps) == fields


def field(name: str, **more: Any) -> Field:
    return Field(name, name.lower(), FieldType.TEXT, "string", **more)


def contact(*names: str, **more: Any) -> Object:
    return Object("Contact", "contact", tuple(field(name) for name in names), **more)


@pytest.mark.parametrize(
    ("obj", "fields", "concerned"),
    [
        (contact("Phone"), {"Phone"}, True),
        (contact("Phone"), {"Email", "LastModifiedDate"}, False),
        (contact("Phone", "LastModifiedDate"), {"Email", "LastModifiedDate"}, True),
        (contact("LastName"), {"Name.LastName"}, True),
        (contact("LastName"), {"Name.FirstName"}, False),
        (contact("MailingCity"), {"MailingAddress.City"}, True),
        (contact("MailingCity"), {"OtherAddress.City"}, False),
        (contact("Phone"), {"Place__c.Latitude"}, True),
        (contact("Phone", where="Email != null"), {"Email"}, True),
        (Object("Contact", "contact", (field("Label__c", calculated=True),)), {"Email"}, True),
    ],
)
def test_an_update_that_changes_nothing_kept_costs_no_read(obj: Object, fields: set[str], concerned: bool) -> None:
    assert concerns(obj, fields) is concerned


def event(change: str, ids: list[str], entity: str = "Contact", changed: list[str] | None = None) -> bytes:
    header = {"entityName": entity, "recordIds": ids, "changeType": change, "commitTimestamp": 1_784_901_958_250}
    header |= {key: [] for key in LISTS} | {"changedFields": changed or []}
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(json.loads(CONTACT)), {"ChangeEventHeader": header})
    return out.getvalue()


ONE, TWO = "003dL00000Qx7TaQAJ", "003dL00000Qx7TbQAJ"
AT = datetime(2026, 7, 24, 14, 5, 58, 250_000, UTC)


def told(payload: bytes, *objects: Object) -> list[Change | Gap]:
    return list(changeevents.read("e", payload, SCHEMA, {obj.name: obj for obj in objects or (contact("Phone"),)}))


@pytest.mark.parametrize("change", ["CREATE", "DELETE", "UNDELETE", "GAP_CREATE", "GAP_UPDATE", "GAP_DELETE"])
def test_each_record_of_an_event_is_a_hint(change: str) -> None:
    assert told(event(change, [ONE, TWO])) == [
        Change(f"e:{ONE}", "Contact", ONE, change.lower(), AT),
        Change(f"e:{TWO}", "Contact", TWO, change.lower(), AT),
    ]


def test_updates_by_their_fields() -> None:
    assert told(event("UPDATE", [ONE], changed=["0x40"])) == []
    assert told(event("UPDATE", [ONE], changed=["0x08"])) == [Change(f"e:{ONE}", "Contact", ONE, "update", AT)]


@pytest.mark.parametrize(
    ("change", "ids", "whole"),
    [("GAP_OVERFLOW", [], False), ("GAP_OVERFLOW", ["000000000000000AAA"], False), ("GAP_UPDATE", ["003*"], True),
     ("GAP_DELETE", [], True), ("GAP_UPDATE", ["000000000000000AAA"], True)],
)  # fmt: skip
def test_events_without_records_are_gaps(change: str, ids: list[str], whole: bool) -> None:
    (gap,) = told(event(change, ids))
    assert isinstance(gap, Gap)
    assert replace(gap, reason="") == Gap("Contact", "", whole, AT)


def test_other_objects_are_ignored() -> None:
    assert told(event("CREATE", [ONE], entity="Case")) == []


@pytest.mark.parametrize("payload", [b"", b"\xff\xff\xff", b"\x02a", event("CREATE", [ONE])[:20]])
def test_what_cannot_be_read_says_so(payload: bytes) -> None:
    with pytest.raises(ValueError, match="Contact: an event does not fit its schema"):
        told(payload)


def test_schemas() -> None:
    assert SCHEMA.entity == "Contact"
    assert Schema.parse(CONTACT.replace("ContactChangeEvent", "Foo__ChangeEvent")).entity == "Foo__c"
    for text in ("", "[]", "{}", '{"name": "X", "fields": [{"name": "a", "type": "nothing"}]}'):
        with pytest.raises(ValueError):
            Schema.parse(text)
