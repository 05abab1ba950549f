"""Rights that are taken away in the middle: said by name, felt by nobody else, and nothing is lost."""

from __future__ import annotations

import dagster as dg
import psycopg
import pytest

from crm_assets_tests.orchestration.conftest import MakeRoom
from crm_assets_tests.orchestration.test_checks import ERROR, WARN, evaluations
from crm_assets_tests.plugins.sandbox import wait_until


def _rows(room: object, table: str) -> list[tuple[object, ...]]:
    return room.link.rows(f"SELECT id, row_id, to_jsonb(t) FROM salesforce.{table} t ORDER BY id")  # type: ignore[attr-defined,no-any-return]


def test_a_right_that_is_revoked_stops_one_object_or_one_column_and_is_shown(make_room: MakeRoom) -> None:
    """An object is hidden, and of another one a field (field-level security)."""
    room = make_room(objects=("Account", "Contact", "Lead"), rows=40, call_timeout=20)
    link, sandbox = room.link, room.link.sandbox
    assert room.sync().success
    contacts, phones = _rows(room, "contact"), link.rows("SELECT id, phone FROM salesforce.account ORDER BY id")
    sandbox.schema("Contact", "hide", "")
    sandbox.schema("Account", "hide", "Phone")
    seen = {name: next(iter(sandbox.alive(name))) for name in ("Account", "Lead", "Contact")}
    sandbox.update("Account", seen["Account"], Name="Read all the same", Phone="hidden")
    sandbox.update("Lead", seen["Lead"], Company="Read all the same")
    sandbox.update("Contact", seen["Contact"], LastName="Nobody sees it")

    def read() -> bool:
        failed = room.failures(room.sync())
        assert failed.keys() == {"salesforce__contact"}, failed
        assert "give the integration user the right" in failed["salesforce__contact"]
        return bool(
            link.value("SELECT id FROM salesforce.account WHERE name = 'Read all the same'")
            and link.value("SELECT id FROM salesforce.lead WHERE company = 'Read all the same'")
        )

    wait_until(read, 30)
    assert _rows(room, "contact") == contacts
    assert link.rows("SELECT id, phone FROM salesforce.account ORDER BY id") == phones, "a column keeps what it had"
    with pytest.raises(psycopg.errors.RaiseException, match=r'"phone".*field Phone, or hides it'):
        link.rows("UPDATE salesforce.account SET phone = '1'")
    with pytest.raises(psycopg.errors.RaiseException, match=r'"phone".*field Phone, or hides it'):
        link.rows("INSERT INTO salesforce.account (name, phone) VALUES ('X', '1')")

    found = evaluations(room.run("salesforce_reconcile"))
    hidden, lost = found["contact", "schema"], found["account", "schema"]
    assert (hidden.passed, hidden.severity) == (False, ERROR)
    assert "the rows stay as they were read last" in str(hidden.description)
    assert (lost.passed, lost.severity, lost.description) == (False, WARN, "Phone was dropped")
    assert found["lead", "schema"].passed and found["account", "complete"].passed and found["lead", "complete"].passed
    assert ("contact", "complete") not in found, "nobody can tell"

    sandbox.schema("Contact", "show", "")
    sandbox.schema("Account", "show", "Phone")
    link.age()

    def back() -> dg.ExecuteInProcessResult | None:
        done = room.sync()
        return done if link.value("SELECT id FROM salesforce.contact WHERE last_name = 'Nobody sees it'") else None

    assert wait_until(back, 30).success
    assert link.value("SELECT phone FROM salesforce.account WHERE id = %s", seen["Account"]) == "hidden"
    assert [row[:2] for row in _rows(room, "contact")] == [row[:2] for row in contacts]
