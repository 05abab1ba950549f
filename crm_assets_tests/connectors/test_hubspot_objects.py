"""HubSpot's other objects, both ways: the account's own, labels of its own, activities, products with line items."""

from __future__ import annotations

import json
import time
from decimal import Decimal
from typing import Any

import httpx

from crm_assets.connections import ObjectSpec
from crm_assets.connectors.hubspot import webhook
from crm_assets_tests.plugins.hubspot import ROW_ID, MakeHubspot
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import wait_until

PORTAL = 48210
MACHINE = f"p{PORTAL}_machine"
ACTIVITIES = ("calls", "emails", "meetings", "notes", "tasks")
URL = "https://relay.example.com/webhooks/hubspot"


def one(link: Link, kind: str, /, **fields: Any) -> tuple[str, dict[str, Any]]:
    """The one live record with these values, and its id."""
    # "calls" is a resource of the control API.
    records = link.sandbox.alive("call" if kind == "calls" else kind)
    (found,) = [(key, row) for key, row in records.items() if fields.items() <= row.items()]
    return found


def machines(link: Link) -> None:
    """What an admin sets up: an object of the account's own, with a label between it and contacts."""
    text = {"type": "string", "fieldType": "text"}
    body = {
        "name": "machine",
        "labels": {"singular": "Machine", "plural": "Machines"},
        "requiredProperties": ["serial"],
        "searchableProperties": ["serial"],
        "primaryDisplayProperty": "serial",
        "properties": [
            {"name": "serial", "label": "Serial", **text},
            {"name": "weight", "label": "Weight", "type": "number", "fieldType": "number"},
        ],
        "associatedObjects": ["CONTACT"],
    }
    label = {"label": "Serviced by", "name": "serviced_by"}
    with httpx.Client(base_url=link.sandbox.url, headers={"Authorization": "Bearer sandbox"}, trust_env=False) as api:
        assert api.post("/crm/v3/schemas", json=body).status_code == 201
        assert api.post(f"/crm/v4/associations/{MACHINE}/contacts/labels", json=label).status_code == 200


def test_an_object_of_the_accounts_own(make_hubspot: MakeHubspot) -> None:
    first = make_hubspot("contacts")
    machines(first)
    box = first.sandbox
    for n in range(120):
        box.create(MACHINE, serial=f"S-{n}", weight=str(n))
    edges = f"{MACHINE}_to_contacts"
    objects = {
        "contacts": first.spec.objects["contacts"],
        MACHINE: ObjectSpec(write=True, external_id=ROW_ID),
        edges: ObjectSpec(write=True),
    }
    link = Link(box, first.db, first.home, first.spec.model_copy(update={"objects": objects}))
    obj = link.object(MACHINE)
    assert MACHINE in link.connector.object_names() and obj.label == "Machines"
    assert obj.by_name["serial"].required and not obj.by_name["weight"].required
    for table in link.connection.objects:
        assert not link.sync(table).partial
    assert link.value(f"SELECT count(*) FROM hubspot.{MACHINE}") == 120

    changed = one(link, MACHINE, serial="S-7")[0]
    box.update(MACHINE, changed, weight="77.5")
    box.delete(MACHINE, one(link, MACHINE, serial="S-8")[0])

    def read() -> bool:
        link.sync(MACHINE)
        weight = link.value(f"SELECT weight FROM hubspot.{MACHINE} WHERE id = %s", changed)
        return weight == Decimal("77.5") and link.value(f"SELECT count(*) FROM hubspot.{MACHINE}") == 119

    wait_until(read, every=0.2)

    # A machine that HubSpot does not have yet, associated with a contact under the account's own label.
    contact = next(iter(box.alive("contacts")))
    link.rows(
        f"""WITH m AS (INSERT INTO hubspot.{MACHINE} (serial, weight) VALUES ('New', 5) RETURNING row_id)
            INSERT INTO hubspot.{edges} (from_id, to_id, label) SELECT row_id::text, %s, 'Serviced by' FROM m""",
        contact,
    )
    link.rows(f"UPDATE hubspot.{MACHINE} SET weight = 1 WHERE serial = 'S-1'")
    link.rows(f"DELETE FROM hubspot.{MACHINE} WHERE serial = 'S-2'")
    link.settle()
    assert set(link.states()) == {"confirmed"}
    made, _ = one(link, MACHINE, serial="New")
    held = {(e["to_id"], e["label"]) for e in box.alive(edges).values() if e["from_id"] == made}
    assert held == {(contact, None), (contact, "Serviced by")}
    assert one(link, MACHINE, serial="S-1")[1]["weight"] == "1"
    assert "S-2" not in {row["serial"] for row in box.alive(MACHINE).values()}
    events_of_it(link, made, contact)
    link.connection.close()


def events_of_it(link: Link, machine: str, contact: str) -> None:
    """Events call it by its type id, associations by its plain name."""
    common = {"eventId": 1, "portalId": PORTAL, "occurredAt": int(time.time() * 1000), "attemptNumber": 0}
    events = [
        {**common, "subscriptionType": "object.propertyChange", "objectTypeId": "2-100", "objectId": int(machine)},
        {
            **common,
            "subscriptionType": "object.associationChange",
            "objectTypeId": "2-100",
            "associationType": "MACHINE_TO_CONTACT",
            "fromObjectId": int(machine),
            "toObjectId": int(contact),
        },
        {**common, "subscriptionType": "object.creation", "objectTypeId": "2-999", "objectId": 1},
    ]
    body, stamp = json.dumps(events).encode(), str(int(time.time() * 1000))
    headers = {
        "X-HubSpot-Signature-v3": webhook.sign("sandbox", URL, body, stamp),
        "X-HubSpot-Request-Timestamp": stamp,
    }
    found = {(change.object, change.record_id) for change in link.connector.parse_event(headers, body, URL)}
    assert found == {
        (MACHINE, machine),
        (f"{MACHINE}_to_contacts", machine),
        (f"contacts_to_{MACHINE}", contact),
    }


def test_activities_products_and_line_items(make_hubspot: MakeHubspot) -> None:
    edges = ("deals_to_line_items", *(f"{name}_to_contacts" for name in ACTIVITIES))
    link = make_hubspot("contacts", "deals", "products", "line_items", *ACTIVITIES, *edges, rows=60)
    box = link.sandbox
    for table in link.connection.objects:
        assert not link.sync(table).partial
    for name in ("products", "line_items", "emails", "meetings", "notes", "tasks"):
        assert {key for (key,) in link.rows(f"SELECT id FROM hubspot.{name}")} == set(box.alive(name))
    contact, deal = next(iter(box.alive("contacts"))), next(iter(box.alive("deals")))
    texts = {
        "calls": "hs_call_title",
        "emails": "hs_email_subject",
        "meetings": "hs_meeting_title",
        "notes": "hs_note_body",
        "tasks": "hs_task_subject",
    }
    for name, column in texts.items():
        # The association waits for the activity that HubSpot does not have yet.
        link.rows(
            f"""WITH a AS (INSERT INTO hubspot.{name} ({column}, hs_timestamp) VALUES (%s, now()) RETURNING row_id)
                INSERT INTO hubspot.{name}_to_contacts (from_id, to_id) SELECT row_id::text, %s FROM a""",
            f"Ours of {name}",
            contact,
        )
    link.rows("INSERT INTO hubspot.notes (hs_note_body) VALUES ('no date')")
    link.rows(
        """WITH p AS (INSERT INTO hubspot.products (name, price) VALUES ('Widget', 12.5) RETURNING row_id),
                l AS (INSERT INTO hubspot.line_items (name, quantity, hs_product_id)
                      SELECT 'Widget', 3, row_id::text FROM p RETURNING row_id)
           INSERT INTO hubspot.deals_to_line_items (from_id, to_id) SELECT %s, row_id::text FROM l""",
        deal,
    )
    link.settle(40)
    assert link.states() == {"confirmed": 13, "rejected": 1}
    assert "hs_timestamp" in link.value("SELECT reason FROM crm_assets.outbox WHERE state = 'rejected'")
    for name, column in texts.items():
        made, _ = one(link, name, **{column: f"Ours of {name}"})
        ends = box.alive(f"{name}_to_contacts").values()
        assert contact in {edge["to_id"] for edge in ends if edge["from_id"] == made}
    product, line = one(link, "products", name="Widget"), one(link, "line_items", name="Widget")
    assert line[1]["hs_product_id"] == product[0] and line[1]["quantity"] == "3"
    assert line[0] in {edge["to_id"] for edge in box.alive("deals_to_line_items").values() if edge["from_id"] == deal}
