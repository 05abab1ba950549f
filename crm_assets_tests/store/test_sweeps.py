"""Requests for reads of whole objects, and which reads answer them; the place of a stream."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import psycopg
import pytest

from crm_assets.core.model import Change, Gap, Heard, Unread
from crm_assets.store import streams, sweeps
from crm_assets.store.database import Database
from crm_assets.store.streams import Follower

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
SECOND = timedelta(seconds=1)


@pytest.fixture(autouse=True)
def read_once(db: Database) -> None:
    with db.transaction() as conn:
        conn.execute(
            "INSERT INTO crm_assets.cursor (connection, object, cursor) VALUES ('c', 'contact', '2026-01-01T00:00:00Z')"
        )


def ask(db: Database, *gaps: Gap) -> None:
    with db.transaction() as conn:
        sweeps.ask(conn, "c", gaps)


def covered(db: Database, *, full: bool = False, begun: datetime | None = None, high: datetime | None = None) -> bool:
    with db.transaction() as conn:
        return sweeps.covered(conn, "c", "contact", full=full, begun=begun or db.now(), high=high or AT)


def rows(db: Database, text: str) -> list[tuple[object, ...]]:
    with db.transaction() as conn:
        return conn.execute(text).fetchall()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("gap", "full", "high", "answered"),
    [
        (Gap("Contact", "r"), False, AT, True),
        (Gap("Contact", "r", until=AT - SECOND), False, AT, True),
        (Gap("Contact", "r", until=AT), False, AT, False),  # the window does not hold its own high end
        (Gap("Contact", "r", until=AT), True, AT, True),
        (Gap("Contact", "r", whole=True), False, AT, False),
        (Gap("Contact", "r", whole=True), True, AT, True),
    ],
)
def test_which_reads_answer_a_request(db: Database, gap: Gap, full: bool, high: datetime, answered: bool) -> None:
    ask(db, gap)
    assert covered(db, full=full, high=high) is answered


def test_a_read_that_began_before_the_request_does_not_answer_it(db: Database) -> None:
    begun = db.now()
    ask(db, Gap("Contact", "r"))
    assert not covered(db, full=True, begun=begun)
    assert covered(db)


def test_requests_add_up(db: Database) -> None:
    ask(db, Gap("Contact", "one", whole=True), Gap("Contact", "two", until=AT), Gap("Account", "never read"))
    assert rows(db, "SELECT object, whole, until, reason FROM crm_assets.sweep") == [("contact", True, AT, "two")]


def test_a_request_is_taken_by_one_and_comes_back_later(db: Database) -> None:
    ask(db, Gap("Contact", "r"))
    with db.transaction() as conn:
        taken = sweeps.claim(conn, "c")
        assert taken is not None and (taken.table, taken.whole) == ("contact", False)
        assert sweeps.claim(conn, "c") is None
    pauses = "SELECT attempts, next_try_at > clock_timestamp() FROM crm_assets.sweep"
    assert rows(db, pauses) == [(1, True)]


def test_an_object_that_is_being_read_waits_for_that_read(db: Database) -> None:
    ask(db, Gap("Contact", "r"))
    with db.transaction() as conn:
        conn.execute("UPDATE crm_assets.cursor SET lease_until = clock_timestamp() + interval '1 minute'")
        assert sweeps.claim(conn, "c") is None


def test_what_a_stream_told_and_its_place_are_kept_together(db: Database) -> None:
    follower = Follower(db.url, "c", "t")
    assert follower.hold() and follower.place() is None
    follower.keep(
        Heard(
            b"\x00\x01",
            (Change("e1", "Contact", "003a", "update"), Change("e2", "Contact", "003b", "update")),
            (Gap("Contact", "gap"),),
            (Unread("e3", "Contact", "no Avro"),),
        )
    )
    follower.keep(Heard(changes=(Change("e1", "Contact", "003a", "update"),)))
    assert follower.place() == b"\x00\x01", "what has no place leaves it where it was"
    found = rows(db, "SELECT event_id, state FROM crm_assets.inbox ORDER BY event_id")
    assert found == [("e1", "pending"), ("e2", "pending"), ("e3", "failed")]
    with pytest.raises(psycopg.Error):
        follower.keep(Heard(object(), (Change("e4", "Contact", "003c", "update"),)))  # type: ignore[arg-type]
    assert follower.place() == b"\x00\x01" and len(rows(db, "SELECT 1 FROM crm_assets.inbox")) == 3
    follower.close()


def test_an_event_that_postgres_cannot_hold_does_not_hold_its_topic(db: Database) -> None:
    follower = Follower(db.url, "c", "t")
    assert follower.hold()
    told = Heard(b"1", (Change("e\x00", "Contact", "a\x00", "\ud800"),), unread=(Unread("f\x00", "Contact", "\x00"),))
    for _ in range(2):
        follower.keep(told)
    assert follower.place() == b"1"
    found = rows(db, "SELECT event_id, record_id, change, reason FROM crm_assets.inbox ORDER BY event_id")
    assert found == [("e\\x00", "a\\x00", "\\ud800", None), ("f\\x00", "", "unreadable", "\\x00")]
    follower.close()


def test_one_follows_until_its_session_ends(db: Database) -> None:
    first, second, other = Follower(db.url, "c", "t"), Follower(db.url, "c", "t"), Follower(db.url, "c", "u")
    assert first.hold() and first.hold() and not second.hold() and other.hold()
    first.close()
    assert second.hold() and not first.hold()
    for one in (second, other):
        one.close()


def test_a_stream_is_fresh_while_it_tells_something(db: Database) -> None:
    follower = Follower(db.url, "c", "t")
    assert follower.hold()
    follower.keep(Heard(b"1"))
    with db.transaction() as conn:
        assert streams.fresh(conn, "c") and not streams.fresh(conn, "other")
    streams.trouble(db, "c", "t", "refused")
    with db.transaction() as conn:
        assert not streams.fresh(conn, "c")
        assert streams.heard(conn, "c")["t"]["trouble"] == "refused"
    follower.keep(Heard(b"2"))
    with db.transaction() as conn:
        assert streams.fresh(conn, "c")
        conn.execute("UPDATE crm_assets.stream SET heard_at = clock_timestamp() - interval '11 minutes'")
        assert not streams.fresh(conn, "c")
    follower.close()
