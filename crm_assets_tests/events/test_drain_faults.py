"""The drain when the CRM, a record or one of ours is at fault: nothing is lost, and nothing else is held up."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import pytest

from crm_assets.core.errors import (
    ConfigurationError,
    ObjectUnavailable,
    QuotaExhausted,
    RetriableError,
    UnknownOutcome,
)
from crm_assets.core.model import Object
from crm_assets.events.drain import drain
from crm_assets.store import ddl
from crm_assets.store.database import Database
from crm_assets_tests.events.desk import Desk, described
from crm_assets_tests.events.hints import hint, make_due, names, reasons, states


@pytest.mark.parametrize(
    "error",
    [
        RetriableError("busy", retry_after=timedelta(seconds=40)),
        QuotaExhausted("out", until=datetime(2100, 1, 1, tzinfo=UTC)),
        QuotaExhausted("out"),
        UnknownOutcome("no reply"),
        ConfigurationError("no password"),
        ZeroDivisionError("a bug"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_succeed_later_waits_with_its_reason(
    db: Database, desk: Desk, contact: Object, error: Exception
) -> None:
    desk.put("contact", "1", name="Ada")
    hint(db, "1")

    def fail(_obj: Object, _ids: Sequence[str]) -> None:
        raise error

    desk.before_fetch = fail
    report = drain(db, desk, {"contact": contact})
    assert (report.reread, report.retried) == (0, 1)
    assert states(db) == {"pending": 1} and reasons(db) == {str(error)}
    assert drain(db, desk, {"contact": contact}).api_calls == 0, "not before its time"
    desk.before_fetch = lambda _o, _i: None
    make_due(db)
    drain(db, desk, {"contact": contact})
    assert names(db) == {"1": "Ada"}


@pytest.mark.parametrize(
    ("error", "seconds"),
    [
        (lambda: RetriableError("busy", retry_after=timedelta(seconds=40)), 40),
        # Made when the test runs: the collection may be minutes ago by then.
        (lambda: QuotaExhausted("out", until=datetime.now(UTC) + timedelta(hours=3)), 3 * 3600),
    ],
    ids=["retry_after", "until"],
)
def test_the_vendors_word_on_when_to_try_again_is_kept(
    db: Database, desk: Desk, contact: Object, error: Callable[[], Exception], seconds: float
) -> None:
    hint(db, "1")

    def fail(_obj: Object, _ids: Sequence[str]) -> None:
        raise error()

    desk.before_fetch = fail
    drain(db, desk, {"contact": contact})
    with db.transaction() as conn:
        row = conn.execute(
            "SELECT extract(epoch FROM next_try_at - clock_timestamp())::float8 FROM crm_assets.inbox"
        ).fetchone()
    assert row is not None and row[0] == pytest.approx(seconds, abs=120 if seconds > 60 else 5)


def test_the_pause_grows_with_each_attempt(db: Database, desk: Desk, contact: Object) -> None:
    hint(db, "1")

    def fail(_obj: Object, _ids: Sequence[str]) -> None:
        raise RetriableError("busy")

    desk.before_fetch = fail
    pauses = []
    for _ in range(12):
        make_due(db)
        drain(db, desk, {"contact": contact})
        with db.transaction() as conn:
            row = conn.execute("SELECT next_try_at - clock_timestamp() FROM crm_assets.inbox").fetchone()
        assert row is not None
        pauses.append(row[0].total_seconds())
    assert pauses[0] < 1.1 and all(later > earlier * 1.5 for earlier, later in itertools.pairwise(pauses[:8]))
    assert pauses[-1] <= 300


def test_one_id_that_the_vendor_refuses_fails_alone(db: Database, desk: Desk, contact: Object) -> None:
    for n in range(20):
        desk.put("contact", str(n), name="x")
    desk.unreadable = {"not an id"}
    hint(db, *map(str, range(20)), "not an id")
    report = drain(db, desk, {"contact": contact})
    assert len(names(db)) == 20
    assert (report.reread, report.failed, states(db)) == (20, 1, {"done": 20, "failed": 1})
    assert reasons(db) == {"malformed id: 1"}


def test_a_dead_object_does_not_stop_the_others(db: Database, desk: Desk, contact: Object) -> None:
    """F59: one bad sink stopped all six."""
    objects = {"contact": contact}
    for table in ("account", "lead", "task"):
        objects[table] = described(table, "name")
        ddl.ensure_object(db, "desk", objects[table], write=False)
        desk.put(table, "1", name=table)
    desk.put("contact", "1", name="Ada")
    faults = {
        "account": ObjectUnavailable("no rights"),
        "lead": ZeroDivisionError("a bug"),
        "task": RetriableError("x"),
    }

    def fail(obj: Object, _ids: Sequence[str]) -> None:
        if obj.table in faults:
            raise faults[obj.table]

    desk.before_fetch = fail
    for table in ("account", "lead", "task", "contact"):
        hint(db, "1", obj=table)
    report = drain(db, desk, objects)
    assert names(db) == {"1": "Ada"}
    assert states(db) == {"done": 1, "failed": 1, "pending": 2}
    assert report.faults == {"lead": "ZeroDivisionError: a bug"}


def test_an_object_that_is_not_synced_is_ignored_and_counted(db: Database, desk: Desk, contact: Object) -> None:
    hint(db, "1", "2", obj="Opportunity")
    hint(db, "1")
    desk.put("contact", "1", name="Ada")
    report = drain(db, desk, {"contact": contact})
    assert (report.ignored, states(db)) == (2, {"done": 1, "ignored": 2})
    assert "opportunity" in reasons(db).pop()


def test_poison_is_set_aside_and_the_page_goes_on(db: Database, desk: Desk, contact: Object) -> None:
    for n in range(10):
        desk.put("contact", str(n), name="x")
    desk.poisonous = {"3"}
    desk.put("contact", "7", name="NUL \x00 in it")
    hint(db, *map(str, range(10)))
    report = drain(db, desk, {"contact": contact})
    assert set(names(db)) == set("0124") | set("5689")
    assert report.objects["contact"].set_aside == 2
    assert states(db) == {"done": 10}
    with db.transaction() as conn:
        drift = dict(conn.execute("SELECT id, reason FROM crm_assets.drift WHERE state = 'open'").fetchall())
        assert set(drift) == {"3", "7"} and drift["3"] == "no such date"
    desk.poisonous = set()
    desk.put("contact", "7", name="clean")
    hint(db, "3", "7")
    drain(db, desk, {"contact": contact})
    assert names(db)["3"] == "x" and names(db)["7"] == "clean"
    with db.transaction() as conn:
        assert conn.execute("SELECT FROM crm_assets.drift WHERE state = 'open'").rowcount == 0


def test_a_poisonous_record_is_not_taken_for_a_deleted_one(db: Database, desk: Desk, contact: Object) -> None:
    desk.put("contact", "1", name="Ada")
    hint(db, "1")
    drain(db, desk, {"contact": contact})
    desk.poisonous = {"1"}
    hint(db, "1")
    drain(db, desk, {"contact": contact})
    assert names(db) == {"1": "Ada"}
