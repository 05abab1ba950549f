"""The same without a relay: runs that Dagster starts do the work of the others beside a dead object, a poison record
and a connection that is down."""

from __future__ import annotations

import sqlite3
import uuid

import dagster as dg
import pytest

from crm_assets.core.model import Change
from crm_assets.orchestration.build import build
from crm_assets.store import inbox
from crm_assets_tests.orchestration.conftest import Room
from crm_assets_tests.orchestration.test_dispatcher import Clock, Sensor


def _hint(room: Room, name: str, record_id: str) -> None:
    with room.link.db.transaction() as conn:
        inbox.add(conn, "salesforce", [Change(uuid.uuid4().hex, name, record_id, "update")])


def _work(sensor: Sensor) -> list[bool]:
    """Run what the dispatcher asks for; whether each run was green."""
    return [
        sensor.room.run(str(request.job_name), asset_selection=list(request.asset_selection or []) or None).success
        for request in sensor.tick().run_requests or []
    ]


def test_runs_do_the_work_of_others_beside_what_is_dead(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    link, sandbox = room.link, room.link.sandbox
    assert room.sync().success
    sensor, clock = Sensor(room), Clock(monkeypatch)
    account, (ours, theirs, poison, *_) = min(sandbox.alive("Account")), sorted(sandbox.alive("Contact"))
    sandbox.faults(
        {"kind": "503", "path": "/composite/sobjects/Account", "times": 1_000_000},
        {"kind": "500", "path": r"/query.*FROM(\+|%20)Account\b", "times": 1_000_000},
    )
    link.rows("UPDATE salesforce.account SET phone = 'ours' WHERE id = %s", account)
    sandbox.update("Account", account, Fax="theirs")
    _hint(room, "Account", account)
    with sqlite3.connect(sandbox.data_dir / "salesforce.sqlite", timeout=30) as crm:
        crm.execute("UPDATE Contact SET Description = ? WHERE Id = ?", ("a\x00b", poison))
    crm.close()
    for step in range(2):
        sandbox.update("Contact", theirs, Title=f"theirs {step}")
        sandbox.update("Contact", poison, Title=f"poison {step}")
        for record_id in (poison, theirs):
            _hint(room, "Contact", record_id)
        link.rows("UPDATE salesforce.contact SET title = %s WHERE id = %s", f"ours {step}", ours)
        # At once, whatever got stuck before: new work does not wait for its next attempt.
        clock.now += 1
        assert False in _work(sensor), "a run that left something undone is not green"
        assert sandbox.alive("Contact")[ours]["Title"] == f"ours {step}"
        assert link.value("SELECT title FROM salesforce.contact WHERE id = %s", theirs) == f"theirs {step}"
    assert link.value("SELECT kind FROM crm_assets.drift WHERE id = %s AND state = 'open'", poison) == "set_aside"
    sandbox.clear_faults()

    # The right to read the object is taken away: the schedule's run reads the others.
    sandbox.schema("Account", "hide", "")
    link.rows("UPDATE crm_assets.object SET described_at = described_at - interval '10 minutes'")
    made = sandbox.create("Contact", LastName="Read all the same")
    room.pass_a_second()
    result = room.sync("account", "contact")
    assert not result.success and {"contact"} == {
        event.asset_key.path[-1] for event in result.get_asset_materialization_events() if event.asset_key
    }
    assert link.value("SELECT last_name FROM salesforce.contact WHERE id = %s", made) == "Read all the same"


def test_a_connection_that_is_down_delays_no_other(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each connection has a sensor, jobs and a cursor of its own: the one that is down fails in its own runs."""
    link = room.link
    assert room.sync("contact").success
    down = build(link.spec.model_copy(update={"connection": "down", "url": "http://127.0.0.1:9"}))
    failed = down.resolve_job_def("down_sync").execute_in_process(instance=room.instance, raise_on_error=False)
    assert not failed.success
    some = min(link.sandbox.alive("Contact"))
    link.rows("UPDATE salesforce.contact SET title = 'ours' WHERE id = %s", some)
    Clock(monkeypatch)
    assert _work(Sensor(room)) == [True]
    assert link.sandbox.alive("Contact")[some]["Title"] == "ours"
    with dg.build_sensor_context(instance=room.instance, repository_def=down.get_repository_def()) as context:
        told = down.resolve_sensor_def("down_dispatcher")(context)
    assert isinstance(told, dg.SensorResult) and not told.run_requests
