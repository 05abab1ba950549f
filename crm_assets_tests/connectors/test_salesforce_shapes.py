"""Salesforce's own shapes, both ways: record types, compounds, references to several objects, the org's own objects."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

import pytest

from crm_assets.connections import ObjectSpec
from crm_assets.core.errors import ObjectUnavailable
from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.sandbox import Sandbox, wait_until

OBJECTS = ("Account", "Contact", "Opportunity", "Task", "RecordType", "Invoice__c")


def set_up(box: Sandbox) -> None:
    """Record types of Account, and an object of the org's own that refers to Account and to itself."""
    box.schema("Account", "add", "RecordTypeId", type="reference", to="RecordType")
    for name, of in (("Partner", "Account"), ("Customer", "Account"), ("Repair", "Case")):
        box.create("RecordType", Name=name, DeveloperName=name, SobjectType=of, IsActive=True)
    for field, kind, to in (
        ("Amount__c", "currency", ""),
        ("Due__c", "date", ""),
        ("Account__c", "reference", "Account"),
        ("Corrects__c", "reference", "Invoice__c"),
    ):
        box.schema("Invoice__c", "add", field, type=kind, to=to)
    account = next(iter(box.alive("Account")))
    for n in range(3):
        box.create("Invoice__c", Name=f"I-{n}", Amount__c=n + 0.25, Due__c="2026-05-01", Account__c=account)


def one(link: Link, name: str, **fields: Any) -> dict[str, Any]:
    """The one live record with these values."""
    (found,) = [row for row in link.sandbox.alive(name).values() if fields.items() <= row.items()]
    return found


def comes(link: Link, table: str, statement: str, key: str, value: Any) -> None:
    """A change in the CRM is in the mirror after a sync whose window reaches it; one in the second of a write of ours
    is read again by id."""

    def there() -> bool:
        link.sync(table)
        link.read_events()
        return bool(link.value(statement, key) == value)

    wait_until(there, every=0.3)


def test_shapes_both_ways(make_link: MakeLink) -> None:
    first = make_link(objects=("User",))
    set_up(first.sandbox)
    key = "Crm_Assets_Row_Id__c"
    objects = {name: ObjectSpec(write=True, external_id=key) for name in OBJECTS} | {"RecordType": ObjectSpec()}
    link = Link(first.sandbox, first.db, first.home, first.spec.model_copy(update={"objects": objects}))
    assert set(link.connection.objects) == {"account", "contact", "opportunity", "task", "record_type", "invoice_c"}
    for table in link.connection.objects:
        link.sync(table)
    record_types(link)
    compounds(link)
    several_targets(link)
    own_objects(link)
    assert link.states() == {"confirmed": 10, "rejected": 1}
    link.connection.close()


def record_types(link: Link) -> None:
    """An object to read, and a reference that is written like any other; one of another object is refused."""
    box = link.sandbox
    types = dict(link.rows("SELECT name, id FROM salesforce.record_type"))
    assert set(types) == {"Partner", "Customer", "Repair"}
    account, other = list(box.alive("Account"))[:2]
    link.rows("UPDATE salesforce.account SET record_type_id = %s WHERE id = %s", types["Partner"], account)
    link.rows("UPDATE salesforce.account SET record_type_id = %s WHERE id = %s", types["Repair"], other)
    link.settle()
    assert box.alive("Account")[account]["RecordTypeId"] == types["Partner"]
    assert "Record Type ID" in link.value("SELECT reason FROM crm_assets.outbox WHERE state = 'rejected'")
    box.update("Account", account, RecordTypeId=types["Customer"])
    comes(link, "account", "SELECT record_type_id FROM salesforce.account WHERE id = %s", account, types["Customer"])


def compounds(link: Link) -> None:
    """An address is its parts, and a name is read only."""
    box, other = link.sandbox, list(link.sandbox.alive("Account"))[2]
    columns = link.object("account").by_column
    assert "billing_address" not in columns and columns["billing_city"].writable
    assert not link.object("contact").by_column["name"].writable
    box.update("Account", other, BillingStreet="12 Quay Rd", BillingCity="Leith")
    comes(link, "account", "SELECT billing_city FROM salesforce.account WHERE id = %s", other, "Leith")
    link.rows("UPDATE salesforce.account SET billing_country = 'Scotland', billing_city = NULL WHERE id = %s", other)
    link.settle()
    found = box.alive("Account")[other]
    assert (found["BillingStreet"], found["BillingCity"], found["BillingCountry"]) == ("12 Quay Rd", None, "Scotland")


def several_targets(link: Link) -> None:
    """WhoId may be a contact or a lead, WhatId an account or an opportunity, with rows that have no id yet too."""
    task, box = link.object("task"), link.sandbox
    assert len(task.by_name["WhoId"].reference_to) > 1 and len(task.by_name["WhatId"].reference_to) > 1
    link.rows(
        """WITH a AS (INSERT INTO salesforce.account (name) VALUES ('Fresh Ltd') RETURNING row_id),
                c AS (INSERT INTO salesforce.contact (last_name, account_id)
                      SELECT 'Fresh', row_id::text FROM a RETURNING row_id)
           INSERT INTO salesforce.task (subject, who_id, what_id)
           SELECT 'Call', c.row_id::text, a.row_id::text FROM a, c"""
    )
    link.settle(30)
    contact = one(link, "Contact", LastName="Fresh")
    made = one(link, "Task", Subject="Call", WhoId=contact["Id"])
    assert made["WhatId"] == contact["AccountId"] == one(link, "Account", Name="Fresh Ltd")["Id"]
    deal, user = next(iter(box.alive("Opportunity"))), list(box.alive("User"))[-1]
    link.rows("UPDATE salesforce.task SET what_id = %s, owner_id = %s WHERE id = %s", deal, user, made["Id"])
    link.settle()
    found = box.alive("Task")[made["Id"]]
    assert (found["WhatId"], found["OwnerId"]) == (deal, user)
    box.update("Task", made["Id"], WhatId=contact["AccountId"])
    comes(link, "task", "SELECT what_id FROM salesforce.task WHERE id = %s", made["Id"], contact["AccountId"])


def own_objects(link: Link) -> None:
    """Read with their types; created, updated, deleted; a row may refer to one of the same object without an id."""
    rows = link.rows("SELECT name, amount_c, due_c, account_c FROM salesforce.invoice_c ORDER BY name")
    account = rows[0][3]
    assert rows == [(f"I-{n}", Decimal(n) + Decimal("0.25"), date(2026, 5, 1), account) for n in range(3)]
    link.rows(
        """WITH first AS (INSERT INTO salesforce.invoice_c (name, amount_c, account_c)
                          VALUES ('I-10', 99.5, %s) RETURNING row_id)
           INSERT INTO salesforce.invoice_c (name, corrects_c) SELECT 'I-11', row_id::text FROM first""",
        account,
    )
    link.rows("UPDATE salesforce.invoice_c SET amount_c = 7 WHERE name = 'I-1'")
    link.rows("DELETE FROM salesforce.invoice_c WHERE name = 'I-2'")
    link.settle()
    first, second = one(link, "Invoice__c", Name="I-10"), one(link, "Invoice__c", Name="I-11")
    assert second["Corrects__c"] == first["Id"] and (first["Amount__c"], first["Account__c"]) == (99.5, account)
    assert one(link, "Invoice__c", Name="I-1")["Amount__c"] == 7
    assert "I-2" not in {row["Name"] for row in link.sandbox.alive("Invoice__c").values()}
    with pytest.raises(ObjectUnavailable, match="Nothing__c"):
        link.connector.describe("Nothing__c")
