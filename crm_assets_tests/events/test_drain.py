"""The drain: what the inbox names ends up in the mirror as the CRM has it, whatever happens on the way."""

from __future__ import annotations

import random
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any

import psycopg
import pytest

from crm_assets.core.model import Object
from crm_assets.events.drain import drain
from crm_assets.store import catalog, ddl, inbox
from crm_assets.store.apply import apply
from crm_assets.store.database import Database
from crm_assets_tests.events.desk import Desk, described
from crm_assets_tests.events.hints import hint, make_due, names, reasons, states


def test_a_change_is_read_and_applied(db: Database, desk: Desk, contact: Object) -> None:
    desk.put("contact", "1", name="Ada")
    desk.put("contact", "2", name="Grace")
    hint(db, "1", "2")
    report = drain(db, desk, {"contact": contact})
    assert names(db) == {"1": "Ada", "2": "Grace"}
    assert states(db) == {"done": 2}
    assert (report.reread, report.applied, report.api_calls) == (2, 2, 1)
    desk.put("contact", "1", name="Ada L.")
    hint(db, "1")
    assert drain(db, desk, {"contact": contact}).objects["contact"].updated == 1
    assert names(db) == {"1": "Ada L.", "2": "Grace"}


def test_many_hints_of_one_record_are_one_read(db: Database, desk: Desk, contact: Object) -> None:
    desk.put("contact", "1", name="Ada")
    hint(db, *["1"] * 7)
    report = drain(db, desk, {"contact": contact})
    assert desk.fetched[0] == ("contact", ("1",))
    assert states(db) == {"done": 7} and report.api_calls <= 2


def test_large_backlogs_go_in_calls_of_the_size_the_vendor_takes(db: Database, desk: Desk, contact: Object) -> None:
    for n in range(250):
        desk.put("contact", f"{n:03}", name=str(n))
    hint(db, *(f"{n:03}" for n in range(250)))
    report = drain(db, desk, {"contact": contact})
    assert [len(ids) for _, ids in desk.fetched] == [100, 100, 50]
    assert len(names(db)) == 250 and report.reread == 250


def test_the_limit_is_kept(db: Database, desk: Desk, contact: Object) -> None:
    for n in range(30):
        desk.put("contact", str(n), name="x")
    hint(db, *map(str, range(30)))
    assert drain(db, desk, {"contact": contact}, limit=12).reread == 12
    assert states(db) == {"done": 12, "pending": 18}


def test_a_record_that_is_gone_leaves_the_mirror(db: Database, desk: Desk, contact: Object) -> None:
    desk.put("contact", "1", name="Ada")
    hint(db, "1")
    drain(db, desk, {"contact": contact})
    desk.drop("contact", "1")
    hint(db, "1")
    report = drain(db, desk, {"contact": contact})
    assert names(db) == {}
    assert report.objects["contact"].deleted == 1
    with db.transaction() as conn:
        assert conn.execute("SELECT id, deleted_by FROM crm_assets.tombstone").fetchall() == [("1", "crm")]


def test_lost_repeated_and_reordered_events_end_as_the_crm_is(db: Database, desk: Desk, contact: Object) -> None:
    """A hint says nothing but *look*: whichever of them arrive, in whatever order, the last look is right."""
    chance = random.Random(7)
    events: list[str] = []
    for step in range(120):
        record_id = str(chance.randrange(12))
        if chance.random() < 0.2 and record_id in desk.records.get("contact", {}):
            desk.drop("contact", record_id)
        else:
            desk.put("contact", record_id, name=f"step {step}")
        events.append(record_id)
        if chance.random() < 0.2:
            events.append(record_id)  # repeated
        if chance.random() < 0.3:
            chance.shuffle(events)
            kept = events[: len(events) // 2]  # delivered now, out of order; the others later
            hint(db, *kept)
            events = events[len(kept) :]
            drain(db, desk, {"contact": contact}, limit=3)
    # Each record's last event is delivered; of the ones before it, some never were.
    hint(db, *(str(n) for n in range(12)))
    drain(db, desk, {"contact": contact})
    assert names(db) == {i: values["name"] for i, values in sorted(desk.records["contact"].items())}


def test_nothing_is_held_while_the_crm_answers(db: Database, desk: Desk, contact: Object) -> None:
    """In the middle of the call the database has no transaction of ours open, and the product may write."""
    desk.put("contact", "1", name="Ada")
    hint(db, "1")
    seen: list[Any] = []

    def look(_obj: Object, _ids: Sequence[str]) -> None:
        with psycopg.connect(db.url, autocommit=True) as other:
            seen.append(
                other.execute(
                    """SELECT count(*) FROM pg_stat_activity
                        WHERE datname = current_database() AND pid <> pg_backend_pid()
                          AND state LIKE 'idle in transaction%'"""
                ).fetchone()
            )
            other.execute("SET lock_timeout = '1s'")
            with other.transaction():
                other.execute("LOCK TABLE desk.contact, crm_assets.inbox IN ACCESS EXCLUSIVE MODE")

    desk.before_fetch = look
    drain(db, desk, {"contact": contact})
    assert seen == [(0,)]


def test_a_change_after_the_read_began_is_not_lost(db: Database, desk: Desk, contact: Object) -> None:
    """The event of a change that the read in progress may have missed gets a read of its own."""
    desk.put("contact", "1", name="old")
    hint(db, "1")
    old = dict(desk.records["contact"])

    def change_behind_its_back(_obj: Object, _ids: Sequence[str]) -> None:
        desk.before_fetch = lambda _o, _i: None
        hint(db, "1")

    desk.before_fetch = change_behind_its_back
    drain(db, desk, {"contact": contact}, limit=1)
    assert names(db) == {"1": old["1"]["name"]}
    desk.put("contact", "1", name="new")
    drain(db, desk, {"contact": contact})
    assert names(db) == {"1": "new"} and states(db) == {"done": 2}


class Killed(BaseException):
    """Stands for the end of the process: nothing of ours runs after it."""


def test_a_worker_that_dies_in_the_call_leaves_its_hints_to_the_next(db: Database, desk: Desk, contact: Object) -> None:
    desk.put("contact", "1", name="Ada")
    hint(db, "1")

    def die(_obj: Object, _ids: Sequence[str]) -> None:
        raise Killed

    desk.before_fetch = die
    with pytest.raises(Killed):
        drain(db, desk, {"contact": contact})
    assert states(db) == {"claimed": 1}
    desk.before_fetch = lambda _o, _i: None
    assert drain(db, desk, {"contact": contact}).reread == 0, "the lease still holds"
    with db.transaction() as conn:
        row = conn.execute("SELECT lease_until - clock_timestamp() FROM crm_assets.inbox").fetchone()
    assert row is not None and timedelta(0) < row[0] <= inbox.LEASE
    make_due(db)
    assert drain(db, desk, {"contact": contact}).reread == 1
    assert names(db) == {"1": "Ada"}


def test_a_worker_slower_than_its_lease_does_no_harm(db: Database, desk: Desk, contact: Object) -> None:
    """The slow one's older answer arrives after the fast one's newer answer, and loses."""
    desk.put("contact", "1", name="old")
    hint(db, "1")
    reached, go_on = threading.Event(), threading.Event()
    slow = Desk()
    slow.records, slow.versions = {"contact": {"1": {"name": "old"}}}, dict(desk.versions)

    def wait(_obj: Object, _ids: Sequence[str]) -> None:
        reached.set()
        assert go_on.wait(20)

    slow.before_fetch = wait
    first = threading.Thread(target=lambda: drain(db, slow, {"contact": contact}))
    first.start()
    assert reached.wait(10)
    make_due(db)
    desk.put("contact", "1", name="new")
    assert drain(db, desk, {"contact": contact}).reread == 1
    assert names(db) == {"1": "new"}
    go_on.set()
    first.join(20)
    apply(db, "desk", contact)
    assert names(db) == {"1": "new"} and states(db) == {"done": 1}


def test_a_lost_lease_settles_nothing(db: Database, desk: Desk, contact: Object) -> None:
    hint(db, "1")
    with db.transaction() as conn:
        lost = inbox.claim(conn, "desk", "contact", 10)
    make_due(db)
    with db.transaction() as conn:
        held = inbox.claim(conn, "desk", "contact", 10)
        assert inbox.finish(conn, lost) == 0 and inbox.release(conn, lost, "late") == 0
    assert states(db) == {"claimed": 1}
    with db.transaction() as conn:
        assert inbox.finish(conn, held) == 1
    assert states(db) == {"done": 1}


def test_two_drains_share_the_work(db: Database, desk: Desk, contact: Object) -> None:
    for n in range(1000):
        desk.put("contact", f"{n:04}", name=str(n))
    hint(db, *(f"{n:04}" for n in range(1000)))
    others = [Desk() for _ in range(3)]
    for other in others:
        other.records, other.versions = desk.records, desk.versions
    threads = [threading.Thread(target=drain, args=(db, other, {"contact": contact})) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    read = [record_id for other in others for _, ids in other.fetched for record_id in ids]
    assert sorted(read) == sorted(desk.records["contact"]), "each record is read once"
    apply(db, "desk", contact)
    assert len(names(db)) == 1000 and states(db) == {"done": 1000}


def test_a_field_that_appears_meanwhile_is_not_emptied(db: Database, desk: Desk, contact: Object) -> None:
    """Another process describes a new field and fills it between our request and our commit."""
    wider = described("contact", "name", "phone")
    desk.put("contact", "1", name="Ada", phone="555")
    hint(db, "1")

    def widen(_obj: Object, _ids: Sequence[str]) -> None:
        desk.before_fetch = lambda _o, _i: None
        ddl.ensure_object(db, "desk", wider, write=True)

    desk.before_fetch = widen
    drain(db, desk, {"contact": contact})
    with db.transaction() as conn:
        assert conn.execute("SELECT name, phone FROM desk.contact").fetchall() == [("Ada", "555")]
    assert catalog.load(db, "desk") == {"contact": wider}
    assert states(db) == {"done": 1}


def test_reread_asks_again_for_what_was_read_before(db: Database, desk: Desk, contact: Object) -> None:
    desk.put("contact", "1", name="Ada")
    hint(db, "1")
    drain(db, desk, {"contact": contact})
    with psycopg.connect(db.url, autocommit=True) as listener:
        listener.execute("LISTEN crm_assets_inbox")
        with db.transaction() as conn:
            assert inbox.reread(conn, "desk", "contact", ["1", "1"], "checked") == 1
        assert [note.payload for note in listener.notifies(timeout=5, stop_after=1)] == ["desk"]
    assert drain(db, desk, {"contact": contact}).reread == 1
    assert reasons(db) == {"checked"}


def test_history_is_forgotten_but_never_what_waits_or_failed(db: Database, desk: Desk, contact: Object) -> None:
    desk.put("contact", "1", name="Ada")
    desk.unreadable = {"bad"}
    hint(db, "1", "bad")
    hint(db, "9", obj="Opportunity")
    drain(db, desk, {"contact": contact})
    hint(db, "1")
    with db.transaction() as conn:
        assert inbox.purge(conn, "desk", timedelta(hours=1)) == 0
        assert inbox.purge(conn, "desk", timedelta(0)) == 2
    assert states(db) == {"failed": 1, "pending": 1}
