"""Reconciliation finds what is different, repairs it through apply, and says what it could not repair."""

from __future__ import annotations

from typing import Any

import pytest

from crm_assets.reconcile.compare import Reconciled, reconcile
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.sandbox import wait_until


def _check(link: Link, table: str = "contact") -> Reconciled:
    return reconcile(link.db, link.connector, link.object(table))


def _as_sync(link: Link, statement: str) -> None:
    """Change the mirror behind everybody's back."""
    with link.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute(statement)  # type: ignore[arg-type]


def test_equal_ends_are_complete(link: Link) -> None:
    found = _check(link)
    assert found.complete and not found.repaired
    assert found.remote_rows == found.local_rows == len(link.sandbox.alive("Contact"))
    assert link.value("SELECT complete FROM crm_assets.cursor WHERE object = 'contact'") is True


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM salesforce.contact WHERE id = (SELECT min(id) FROM salesforce.contact)",
        "UPDATE salesforce.contact SET phone = 'damaged' WHERE id = (SELECT min(id) FROM salesforce.contact)",
        "INSERT INTO salesforce.contact (id, last_name, _version, _observed_at)"
        " VALUES ('003000000000001AAA', 'Ghost', '2020-01-01', '2020-01-01')",
    ],
    ids=["missing", "differs", "extra"],
)
def test_damage_is_found_and_repaired(link: Link, damage: str) -> None:
    _as_sync(link, damage)
    found = _check(link)
    assert found.complete and found.repaired == 1
    again = _check(link)
    assert again.complete and again.repaired == 0
    assert {r[0] for r in link.rows("SELECT id FROM salesforce.contact")} == set(link.sandbox.alive("Contact"))
    assert link.value("SELECT count(*) FROM salesforce.contact WHERE phone = 'damaged'") == 0


def test_a_change_that_no_event_told_is_repaired(link: Link) -> None:
    record_id = next(iter(link.sandbox.alive("Contact")))
    link.sandbox.update("Contact", record_id, Title="Silent")
    assert _check(link).repaired == 1
    assert link.value("SELECT title FROM salesforce.contact WHERE id = %s", record_id) == "Silent"


def test_a_write_that_is_under_way_is_neither_damage_nor_repaired(link: Link) -> None:
    link.rows("UPDATE salesforce.contact SET phone = '42' WHERE id = (SELECT min(id) FROM salesforce.contact)")
    found = _check(link)
    assert found.complete and found.unsettled == 1 and found.repaired == 0
    assert link.states() == {"pending": 1}
    link.settle()
    assert _check(link).unsettled == 0


def _blocked(link: Link) -> dict[str, Any]:
    """A record the CRM deleted while a product's table still points at it."""
    row_id, record_id = link.rows("SELECT row_id, id FROM salesforce.contact ORDER BY id LIMIT 1")[0]
    link.rows("CREATE TABLE public.ticket (contact uuid REFERENCES salesforce.contact (row_id))")
    link.rows("INSERT INTO public.ticket VALUES (%s)", row_id)
    link.sandbox.delete("Contact", record_id)
    return {"id": record_id}


def test_drift_that_stays_is_written_down_and_closed_when_it_ends(link: Link) -> None:
    with link.db.transaction() as holder:
        holder.execute(
            "UPDATE salesforce.contact SET phone = phone WHERE id = (SELECT min(id) FROM salesforce.contact)"
        )
        record_id = link.value("SELECT min(id) FROM salesforce.contact")
        link.sandbox.update("Contact", record_id, Title="Unreachable")
        found = _check(link)
        # The product holds the row, so the repair waits in the stage: under way, not drift.
        assert found.complete and found.unsettled == 1
    wait_until(lambda: _check(link).unsettled == 0)
    assert link.value("SELECT title FROM salesforce.contact WHERE id = %s", record_id) == "Unreachable"


def test_a_deletion_that_a_foreign_key_forbids_is_reported_and_the_rest_goes_on(link: Link) -> None:
    record_id = _blocked(link)["id"]
    other = link.sandbox.create("Contact", LastName="Next")

    def done() -> bool:
        link.sync("contact")
        link.settle()
        return bool(link.value("SELECT count(*) FROM salesforce.contact WHERE id = %s", other))

    wait_until(done)
    assert link.value("SELECT _deleted_at IS NOT NULL FROM salesforce.contact WHERE id = %s", record_id) is True
    assert (
        link.value("SELECT kind FROM crm_assets.drift WHERE id = %s AND state = 'open'", record_id) == "delete_blocked"
    )
