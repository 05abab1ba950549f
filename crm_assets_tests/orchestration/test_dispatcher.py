"""The dispatcher: what the relay did becomes visible, what waits gets a run, and never two at once."""

from __future__ import annotations

import dagster as dg
import pytest

from crm_assets.core.model import Change, Gap
from crm_assets.orchestration import dispatcher as dispatcher_module
from crm_assets.orchestration.telling import Position
from crm_assets.store import activity, inbox, sweeps
from crm_assets_tests.orchestration.conftest import Room


class Clock:
    """The time that the sensor sees."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000_000.0
        monkeypatch.setattr(dispatcher_module, "clock", lambda: self.now)


class Sensor:
    """Ticks as the daemon would make them: the cursor goes from one to the next."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.cursor: str | None = None
        self.definition = room.defs.resolve_sensor_def("salesforce_dispatcher")

    def tick(self) -> dg.SensorResult:
        with dg.build_sensor_context(
            instance=self.room.instance, cursor=self.cursor, repository_def=self.room.defs.get_repository_def()
        ) as context:
            result = self.definition(context)
        assert isinstance(result, dg.SensorResult)
        self.cursor = result.cursor
        return result

    def requests(self) -> list[str]:
        return [str(request.job_name) for request in self.tick().run_requests or []]

    def skip(self) -> str:
        result = self.tick()
        assert not result.run_requests
        assert result.skip_reason is not None and result.skip_reason.skip_message is not None
        return result.skip_reason.skip_message


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


@pytest.fixture
def sensor(room: Room, clock: Clock) -> Sensor:
    return Sensor(room)


def did(room: Room, table: str, kind: str, **counts: int) -> None:
    with room.link.db.transaction() as conn:
        activity.record(conn, "salesforce", table, kind, counts)


def hint(room: Room, event: str = "e1") -> None:
    with room.link.db.transaction() as conn:
        inbox.add(conn, "salesforce", [Change(event, "Contact", "003000000000001AAA", "UPDATE")])


def relay(room: Room) -> None:
    activity.heartbeat(room.link.db, "relay:test", "salesforce")


def test_a_quiet_tick_does_nothing_and_asks_the_crm_nothing(sensor: Sensor) -> None:
    used = sensor.room.link.sandbox.calls()["total"]
    assert sensor.skip() == "nothing is due"
    assert sensor.room.link.sandbox.calls()["total"] == used


def test_what_the_relay_did_is_told_once_a_minute_with_sums_and_columns(sensor: Sensor, clock: Clock) -> None:
    did(sensor.room, "contact", "events", read=2, updated=2)
    did(sensor.room, "contact", "apply", inserted=1)
    did(sensor.room, "contact", "writeback", sent=3, confirmed=2, rejected=1)
    first, second = sensor.tick().asset_events
    assert isinstance(first, dg.AssetMaterialization)
    assert first.asset_key == dg.AssetKey(["salesforce", "contact"])
    assert (first.metadata["rows_updated"].value, first.metadata["rows_inserted"].value) == (2, 1)
    assert "last_name" in [column.name for column in first.metadata["dagster/column_schema"].value.columns]
    assert second.asset_key == dg.AssetKey(["salesforce_writeback", "contact"])
    assert second.metadata["rows_rejected"].value == 1

    clock.now += 5
    did(sensor.room, "contact", "events", updated=5)
    did(sensor.room, "account", "events", updated=1)
    assert [one.asset_key.path[-1] for one in sensor.tick().asset_events] == ["account"], "contact was told just now"
    clock.now += 20
    did(sensor.room, "contact", "events", updated=7)
    assert sensor.tick().asset_events == []
    clock.now += 40
    (later,) = sensor.tick().asset_events
    assert later.metadata["rows_updated"].value == 12, "nothing of the minute is lost"
    clock.now += 100
    assert sensor.tick().asset_events == []


def test_a_read_that_changed_nothing_is_no_event(sensor: Sensor) -> None:
    did(sensor.room, "contact", "events", read=9, retried=1)
    assert sensor.tick().asset_events == []


def test_without_a_relay_work_is_started_at_once(sensor: Sensor) -> None:
    sensor.room.sync()
    hint(sensor.room)
    sensor.room.link.rows("UPDATE salesforce.contact SET last_name = 'Ours'")
    result = sensor.tick()
    events, writeback = result.run_requests or []
    assert events.job_name == "salesforce_events"
    assert writeback.job_name == "salesforce_writeback"
    assert writeback.asset_selection == [dg.AssetKey(["salesforce_writeback", "contact"])]
    assert "attempt-1" in str(events.run_key)


def test_with_a_relay_only_what_waits_longer_than_it_should(sensor: Sensor) -> None:
    hint(sensor.room)
    relay(sensor.room)
    assert sensor.skip() == "events: 1 due, left to the relay"
    sensor.room.link.rows("UPDATE crm_assets.inbox SET next_try_at = next_try_at - interval '6 seconds'")
    assert sensor.requests() == ["salesforce_events"]


def test_the_requested_run_does_the_work(sensor: Sensor) -> None:
    sensor.room.sync()
    some = min(sensor.room.link.sandbox.alive("Contact"))
    sensor.room.link.rows("UPDATE salesforce.contact SET last_name = 'Ours' WHERE id = %s", some)
    (request,) = sensor.tick().run_requests or []
    assert sensor.room.run(str(request.job_name), asset_selection=list(request.asset_selection or [])).success
    assert sensor.room.link.sandbox.alive("Contact")[some]["LastName"] == "Ours"
    assert sensor.skip() == "nothing is due"


def test_failed_work_comes_back_with_a_new_key_and_ever_longer_pauses(sensor: Sensor, clock: Clock) -> None:
    hint(sensor.room)
    (first,) = sensor.tick().run_requests or []
    clock.now += 5
    assert "tried without progress" in sensor.skip()
    clock.now += 6
    (second,) = sensor.tick().run_requests or []
    assert "attempt-2" in str(second.run_key)
    assert first.run_key != second.run_key
    clock.now += 15
    assert "tried without progress" in sensor.skip()
    clock.now += 10
    (third,) = sensor.tick().run_requests or []
    assert "attempt-3" in str(third.run_key)

    hint(sensor.room, "e2")
    clock.now += 1
    (fresh,) = sensor.tick().run_requests or []
    assert "attempt-1" in str(fresh.run_key), "new work does not wait for what got stuck"


def test_never_two_runs_for_the_same_work(sensor: Sensor) -> None:
    hint(sensor.room)
    sensor.room.instance.create_run_for_job(
        sensor.room.defs.resolve_job_def("salesforce_events"), status=dg.DagsterRunStatus.STARTED
    )
    assert "of salesforce_events is started" in sensor.skip()


def test_while_the_quota_is_out_nothing_is_started(sensor: Sensor) -> None:
    hint(sensor.room)
    sensor.room.link.rows(
        'INSERT INTO crm_assets.quota (connection, name, used, "limit") VALUES (%s, %s, 10, 10)'
        ' ON CONFLICT (connection, name) DO UPDATE SET used = 10, "limit" = 10, updated_at = clock_timestamp()',
        "salesforce",
        "daily_calls",
    )
    assert "the quota is out (daily_calls 10 of 10)" in sensor.skip()


def test_paused_writes_start_nothing(sensor: Sensor) -> None:
    sensor.room.sync()
    sensor.room.link.rows("UPDATE salesforce.contact SET last_name = 'Ours'")
    sensor.room.link.rows("SELECT crm_assets.pause('salesforce')")
    assert sensor.skip() == "nothing is due"


def test_the_cursor_stays_small(sensor: Sensor) -> None:
    for number in range(200):
        did(sensor.room, "contact", "events", updated=number + 1)
    sensor.tick()
    assert sensor.cursor is not None and len(sensor.cursor) < 500
    assert Position.parse(sensor.cursor).seq >= 200


def test_objects_that_have_to_be_read_again_get_a_run(room: Room, sensor: Sensor) -> None:
    """Without a relay at once; the whole object where nobody knows what changed, and how long ago."""
    for table in ("account", "contact"):
        room.link.sync(table)
    with room.link.db.transaction() as conn:
        sweeps.ask(conn, "salesforce", [Gap("Account", "overflow"), Gap("Contact", "range", whole=True)])
    requests = {request.asset_selection[0].path[-1]: request for request in sensor.tick().run_requests or []}  # type: ignore[index]
    assert {request.job_name for request in requests.values()} == {"salesforce_sync"}
    assert requests["account"].run_config == {}
    assert requests["contact"].run_config == {"ops": {"salesforce__contact": {"config": {"mode": "full"}}}}
    for table, request in requests.items():
        job = room.defs.resolve_job_def("salesforce_sync")
        chosen = job.get_subset(asset_selection=set(request.asset_selection or ()), asset_check_selection=set())
        assert chosen.execute_in_process(run_config=request.run_config, instance=room.instance).success, table
    with room.link.db.transaction() as conn:
        assert conn.execute("SELECT object FROM crm_assets.sweep").fetchall() == []
