"""The status, as its readers rely on it."""

from __future__ import annotations

from typing import Any

import pytest

from crm_assets.store.status import status
from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import Mirror


def _contact(mirror: Mirror) -> dict[str, Any]:
    return dict(status(mirror.db)["connections"]["salesforce"]["objects"]["contact"])


def test_a_fresh_object_is_all_right(mirror: Mirror) -> None:
    assert status(mirror.db) == {
        "ok": True,
        "connections": {
            "salesforce": {
                "objects": {
                    "contact": {
                        "rows": 0,
                        "cursor": None,
                        "complete": None,
                        "complete_as_of": None,
                        "oldest_unsynced_seconds": None,
                    }
                },
                "outbox": {},
                "inbox": {},
                "conflicts": 0,
                "guards": [],
                "quota": {},
            }
        },
    }


def test_rows_are_the_living_and_the_unborn(mirror: Mirror) -> None:
    mirror.seen({"id": "003a", "v": 1}, {"id": "003b", "v": 1})
    mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('New')")
    with mirror.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute("UPDATE salesforce.contact SET _deleted_at = now() WHERE id = '003b'")
    assert _contact(mirror)["rows"] == 2


def test_numbers_of_writes_hints_and_quota(mirror: Mirror, worker: Worker) -> None:
    mirror.seen({"id": "003a", "v": 1})
    mirror.write("UPDATE salesforce.contact SET email = 'a'")
    mirror.confirm(worker)
    mirror.write("UPDATE salesforce.contact SET email = 'b'")
    mirror.all("INSERT INTO crm_assets.quota VALUES ('salesforce', 'daily_calls', 7, 24000)")
    connection = status(mirror.db)["connections"]["salesforce"]
    assert connection["outbox"] == {"confirmed": 1, "pending": 1}
    assert connection["inbox"] == {"pending": 1}
    assert connection["quota"] == {"daily_calls": {"used": 7, "limit": 24000}}
    assert status(mirror.db)["ok"] is True


@pytest.mark.parametrize("state", ["rejected", "unknown"])
def test_a_write_that_needs_a_person_is_not_all_right(mirror: Mirror, worker: Worker, state: str) -> None:
    mirror.seen({"id": "003a", "v": 1})
    mirror.write("UPDATE salesforce.contact SET email = 'a'")
    (write,) = mirror.claim(worker)
    assert status(mirror.db)["ok"] is True
    mirror.settle(write, state)
    assert status(mirror.db)["ok"] is False


@pytest.mark.parametrize(
    "trouble",
    [
        "INSERT INTO crm_assets.drift (connection, object, id, kind) VALUES ('salesforce', 'contact', 'x', 'missing')",
        "INSERT INTO crm_assets.cursor (connection, object, complete) VALUES ('salesforce', 'contact', false)",
        "INSERT INTO crm_assets.conflict (connection, object, row_id, seq, field, policy) "
        "VALUES ('salesforce', 'contact', gen_random_uuid(), 1, 'email', 'hold')",
    ],
)
def test_open_trouble_is_not_all_right(mirror: Mirror, trouble: str) -> None:
    assert status(mirror.db)["ok"] is True
    mirror.all(trouble)
    assert status(mirror.db)["ok"] is False


@pytest.mark.parametrize(
    "trouble",
    [
        "UPDATE crm_assets.outbox SET created_at = created_at - interval '1 hour'",
        "INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, received_at) "
        "VALUES ('salesforce', 'e', 'contact', '003a', 'update', now() - interval '1 hour')",
        "INSERT INTO salesforce_stage.contact (_source, _observed_at, id, _deleted) "
        "VALUES ('list', now() - interval '1 hour', '003a', false)",
    ],
)
def test_what_waits_in_either_direction_has_an_age(mirror: Mirror, trouble: str) -> None:
    if "outbox" in trouble:
        mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('New')")
    mirror.all(trouble)
    assert 3600 <= _contact(mirror)["oldest_unsynced_seconds"] < 3700


def test_what_was_given_up_waits_for_nothing(mirror: Mirror) -> None:
    load = mirror.value(
        "INSERT INTO crm_assets.load (connection, object, kind, owner, state) "
        "VALUES ('salesforce', 'contact', 'full', 'x', 'abandoned') RETURNING load_id"
    )
    mirror.observe({"id": "003a", "v": 1}, load=load)
    assert _contact(mirror)["oldest_unsynced_seconds"] is None
