"""The schedule that reads what changed: when it does, and why not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from crm_assets.orchestration.cadence import late_after, longest_gap
from crm_assets.store import activity
from crm_assets_tests.orchestration.conftest import Room


def tick(room: Room) -> dg.RunRequest | str:
    """What one tick of ``salesforce_incremental`` asks for, or why it asks for nothing."""
    with dg.build_schedule_context(
        instance=room.instance,
        scheduled_execution_time=datetime.now(UTC),
        repository_def=room.defs.get_repository_def(),
    ) as context:
        answer = room.defs.resolve_schedule_def("salesforce_incremental")(context)
    if isinstance(answer, dg.SkipReason):
        return str(answer.skip_message)
    assert isinstance(answer, dg.RunRequest)
    return answer


def selected(answer: dg.RunRequest | str) -> list[str]:
    assert isinstance(answer, dg.RunRequest), answer
    return sorted(key.to_user_string() for key in answer.asset_selection or [])


def relay(room: Room, *, pushed: bool = True) -> None:
    """A relay that lives; with ``pushed``, one that the CRM has told of a change."""
    activity.heartbeat(room.link.db, "relay:test", "salesforce")
    if pushed:
        room.link.rows(
            """INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, state)
               SELECT 'salesforce', 'event ' || object, object, '003', 'update', 'done'
                 FROM unnest('{account,contact}'::text[]) object ON CONFLICT DO NOTHING"""
        )


def test_a_relay_that_no_event_ever_reached_brings_no_changes(room: Room) -> None:
    room.sync()
    relay(room, pushed=False)
    assert selected(tick(room)) == ["salesforce/account", "salesforce/contact"]


def test_a_stream_that_is_followed_counts_before_its_first_event(room: Room) -> None:
    room.sync()
    relay(room, pushed=False)
    room.link.rows(
        "INSERT INTO crm_assets.stream (connection, topic, heard_at) VALUES ('salesforce', 't', clock_timestamp())"
    )
    assert "a relay brings changes" in str(tick(room))
    room.link.rows("UPDATE crm_assets.stream SET trouble = 'refused'")
    assert selected(tick(room)) == ["salesforce/account", "salesforce/contact"]


def test_without_a_relay_every_tick_reads_everything(room: Room) -> None:
    room.sync()
    assert selected(tick(room)) == ["salesforce/account", "salesforce/contact"]


def test_a_sweep_runs_no_checks(room: Room) -> None:
    """One of them compares every record of both ends: every minute, that would be the whole quota."""
    request = tick(room)
    assert isinstance(request, dg.RunRequest)
    assert request.asset_check_keys == []
    job = room.defs.resolve_job_def("salesforce_sync").get_subset(
        asset_selection=set(request.asset_selection or []), asset_check_selection=set(request.asset_check_keys)
    )
    assert sorted(node.name for node in job.nodes) == ["salesforce__account", "salesforce__contact"]


def test_what_is_pushed_is_swept_once_an_hour_and_the_rest_as_ever(room: Room) -> None:
    room.sync()
    relay(room)
    reason = tick(room)
    assert isinstance(reason, str)
    assert reason.startswith("a relay brings changes as they happen; the next to be read is account, in 60 minutes")
    room.link.rows("UPDATE crm_assets.cursor SET moved_at = moved_at - interval '1 hour' WHERE object = 'contact'")
    assert selected(tick(room)) == ["salesforce/contact"]
    room.link.rows("DELETE FROM crm_assets.inbox WHERE object = 'account'")
    assert selected(tick(room)) == ["salesforce/account", "salesforce/contact"], "nobody tells of accounts"


def test_what_never_changes_is_read_more_rarely(room: Room) -> None:
    room.sync()
    room.link.rows(
        "UPDATE crm_assets.cursor SET changed_at = changed_at - interval '30 minutes' WHERE object = 'contact'"
    )
    assert selected(tick(room)) == ["salesforce/account"], "a tenth of half an hour has not passed"
    room.link.rows("UPDATE crm_assets.cursor SET moved_at = moved_at - interval '3 minutes', changed_at = NULL")
    assert tick(room) == "no object has changed lately; the next to be read is account, in 7 minutes"
    room.link.rows("UPDATE crm_assets.cursor SET moved_at = moved_at - interval '7 minutes'")
    assert selected(tick(room)) == ["salesforce/account", "salesforce/contact"]
    room.sync()
    assert not room.link.value("SELECT bool_or(changed_at IS NOT NULL) FROM crm_assets.cursor"), "nothing had changed"
    room.link.sandbox.update("Contact", min(room.link.sandbox.alive("Contact")), Title="Moves")
    room.pass_a_second()
    room.sync()
    assert selected(tick(room)) == ["salesforce/contact"], "it has changed now"


def test_while_the_days_calls_would_not_last_reads_are_spared(room: Room) -> None:
    room.sync()
    room.link.rows("UPDATE crm_assets.quota_spent SET calls = 3000")
    assert str(tick(room)).endswith("in 5 minutes")


def test_with_a_relay_what_was_never_read_is_read_at_once(room: Room) -> None:
    relay(room)
    assert selected(tick(room)) == ["salesforce/account", "salesforce/contact"]


def test_a_relay_of_another_connection_or_one_that_died_does_not_count(room: Room) -> None:
    room.sync()
    activity.heartbeat(room.link.db, "relay:other", "hubspot")
    relay(room)
    room.link.rows("UPDATE crm_assets.heartbeat SET at = at - interval '1 minute' WHERE connection = 'salesforce'")
    assert selected(tick(room)) == ["salesforce/account", "salesforce/contact"]


def test_while_the_quota_is_out_it_says_so_and_until_when(room: Room) -> None:
    room.sync()
    room.link.rows('UPDATE crm_assets.quota SET used = "limit", updated_at = clock_timestamp()')
    reason = tick(room)
    assert isinstance(reason, str)
    assert reason.startswith("the quota is out: daily_calls")
    assert "the CRM is asked again at" in reason
    room.link.rows("UPDATE crm_assets.quota SET updated_at = updated_at - interval '2 minutes'")
    room.link.rows("UPDATE crm_assets.cursor SET moved_at = moved_at - interval '5 minutes'")
    assert selected(tick(room)), "the vendor's word is old: it is asked again"


@pytest.mark.parametrize("job", ["sync", "full_refresh"])
def test_two_runs_of_the_same_work_never_overlap(room: Room, job: str) -> None:
    room.sync()
    room.instance.create_run_for_job(room.defs.resolve_job_def(f"salesforce_{job}"), status=dg.DagsterRunStatus.STARTED)
    reason = tick(room)
    assert isinstance(reason, str)
    assert f"of salesforce_{job} is started" in reason


@pytest.mark.parametrize(
    ("cron", "gap"),
    [("* * * * *", timedelta(minutes=1)), ("*/15 * * * *", timedelta(minutes=15)), ("0 6 * * 1-5", timedelta(days=3))],
)
def test_what_counts_as_late_follows_from_the_schedule(cron: str, gap: timedelta) -> None:
    assert longest_gap(cron) == gap
    warn, fail = late_after(cron)
    assert gap < warn < fail
    assert warn >= timedelta(minutes=15)
