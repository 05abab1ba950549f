"""The outbox: what is claimed, in which order, and what waits for whom."""

from __future__ import annotations

import threading
from datetime import timedelta

import psycopg
import pytest

from crm_assets.core.conflict import Ruling
from crm_assets.core.model import Source
from crm_assets.store import conflicts, outbox
from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import CONNECTION, LEASE, Mirror

_EMAIL = "UPDATE salesforce.contact SET email = %s WHERE id = '003a'"


@pytest.fixture
def one(mirror: Mirror) -> Mirror:
    mirror.seen({"id": "003a", "v": 1, "last_name": "Ada", "email": "old"}, {"id": "003b", "v": 1})
    return mirror


def _due(mirror: Mirror) -> None:
    mirror.all("UPDATE crm_assets.outbox SET next_try_at = clock_timestamp()")


def test_many_workers_at_once_send_each_record_in_order(one: Mirror, database_url: str) -> None:
    """Eight writes each of two records, three workers: every value arrives once and none after a later one."""
    for n in range(8):
        one.write("UPDATE salesforce.contact SET email = %s", f"{n}")
    sent: list[tuple[str, int]] = []
    lock = threading.Lock()

    def work() -> None:
        with Worker(database_url) as worker:
            while any(state in ("pending", "sending") for _, state in one.states()):
                for write in one.claim(worker, limit=1):
                    with lock:
                        sent.append((str(write.id), int(write.new["email"])))
                    one.settle(write, "confirmed", id=write.id)
                    one.all("DELETE FROM crm_assets.floor")

    threads = [threading.Thread(target=work) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for record_id in ("003a", "003b"):
        values = [value for one_id, value in sent if one_id == record_id]
        assert values == sorted(set(values)) and values[-1] == 7


def test_only_one_write_of_a_record_can_be_sending(one: Mirror) -> None:
    one.write(_EMAIL, "1")
    one.write(_EMAIL, "2")
    with pytest.raises(psycopg.errors.UniqueViolation):
        one.all("UPDATE crm_assets.outbox SET state = 'sending'")


def test_a_write_that_is_being_sent_takes_nothing_in(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "1")
    (first,) = one.claim(worker)
    one.write(_EMAIL, "2")
    assert one.claim(worker) == []
    assert one.states() == [("update", "sending"), ("update", "pending")]
    one.settle(first, "rejected", reason="no")
    one.seen({"id": "003a", "v": 1, "email": "old"}, source=Source.ID)
    (second,) = one.claim(worker)
    assert (second.base, second.new) == ({"email": "old"}, {"email": "2"})


def test_a_write_that_somebody_holds_ends_the_folding(one: Mirror, worker: Worker) -> None:
    """Folding the third over the second would send the second last."""
    for value in ("1", "2", "3"):
        one.write(_EMAIL, value)
    person = one.product()
    person.execute("SELECT crm_assets.discard(%s)", (one.outbox()[1]["seq"],))
    (write,) = one.claim(worker)
    assert write.new == {"email": "1"}
    person.rollback()
    one.settle(write, "pending")
    (write,) = one.claim(worker)
    assert write.new == {"email": "3"}


def test_a_conflict_blocks_its_fields_and_nothing_else(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "mine")
    (write,) = one.claim(worker)
    conflicts.settle(one.db, CONNECTION, one.obj, write, Ruling(hold=frozenset({"email"})), {"email": "theirs"}, "v")
    one.write(_EMAIL, "mine too")
    assert one.claim(worker) == []
    one.write("UPDATE salesforce.contact SET last_name = 'A' WHERE id = '003a'")
    one.write("UPDATE salesforce.contact SET email = 'mine at last', last_name = 'B', amount = 1 WHERE id = '003a'")
    one.write("UPDATE salesforce.contact SET amount = 2 WHERE id = '003a'")
    (free,) = one.claim(worker)
    assert (free.new, free.base) == ({"last_name": "B", "amount": 2}, {"last_name": "Ada", "amount": None})
    one.settle(free, "confirmed", id="003a")
    one.seen({"id": "003a", "v": 2, "last_name": "B", "amount": 2, "email": "theirs"}, source=Source.ID)
    waiting = one.outbox("state IN ('pending', 'conflict')")
    assert [o["new"] for o in waiting] == [{"email": v} for v in ("mine", "mine too", "mine at last")]
    assert one.row("003a")["email"] == "mine at last"

    one.write("SELECT crm_assets.resolve(%s, 'product')", one.value("SELECT conflict_id FROM crm_assets.conflict"))
    assert [w.new for w in one.claim(worker)] == [{"email": "mine at last"}]


def test_a_delete_waits_for_a_conflict_that_came_after_it(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "mine")
    (write,) = one.claim(worker)
    one.write("DELETE FROM salesforce.contact WHERE id = '003a'")
    conflicts.settle(one.db, CONNECTION, one.obj, write, Ruling(hold=frozenset({"email"})), {"email": "theirs"}, "v")
    assert one.claim(worker) == []
    one.write("SELECT crm_assets.resolve(%s, 'crm')", one.value("SELECT conflict_id FROM crm_assets.conflict"))
    one.seen({"id": "003a", "v": 2, "email": "theirs"}, source=Source.ID)
    assert [w.op for w in one.claim(worker)] == ["delete"]


def test_an_unknown_outcome_blocks_its_record(one: Mirror, worker: Worker) -> None:
    one.write("UPDATE salesforce.contact SET last_name = 'A'")
    first, _ = one.claim(worker)
    one.settle(first, "unknown", reason="no reply")
    one.write("UPDATE salesforce.contact SET email = 'B'")
    assert one.claim(worker) == []
    assert one.outbox("state = 'unknown'")[0]["claimed_by"] is None


def test_an_unknown_outcome_is_looked_at_when_it_is_due(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "A")
    (write,) = one.claim(worker)
    one.settle(write, "unknown", retry_after=timedelta(hours=1))
    assert outbox.unknowns(one.db, CONNECTION, one.obj, 10) == []
    _due(one)
    assert [w.seq for w in outbox.unknowns(one.db, CONNECTION, one.obj, 10)] == [write.seq]
    # Another drain does not look at the same time.
    assert outbox.unknowns(one.db, CONNECTION, one.obj, 10) == []


def test_a_write_put_off_is_not_due(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "A")
    (write,) = one.claim(worker)
    one.settle(write, "pending", reason="busy", retry_after=timedelta(hours=1))
    assert one.claim(worker) == []
    _due(one)
    (again,) = one.claim(worker)
    assert again.attempts == 1


def test_a_lease_that_ran_out_makes_the_outcome_unknown(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "A")
    one.claim(worker, lease=LEASE)
    assert outbox.expire(one.db, CONNECTION) == 0
    one.all("UPDATE crm_assets.outbox SET lease_until = clock_timestamp() - interval '1 second'")
    assert outbox.expire(one.db, CONNECTION) == 1
    assert one.states() == [("update", "unknown")]


def test_a_worker_is_alive_in_its_own_database_only(one: Mirror, database_url: str) -> None:
    """Advisory locks of other databases on the same server prove nothing."""
    one.write(_EMAIL, "A")
    worker = Worker(database_url)
    one.claim(worker)
    with psycopg.connect(database_url.rpartition("/")[0] + "/postgres", autocommit=True) as elsewhere:
        elsewhere.execute("SELECT pg_advisory_lock(%s, %s)", (outbox.LOCK_CLASS, worker.key))
        assert outbox.expire(one.db, CONNECTION) == 1


def test_a_child_waits_for_its_parent_and_gets_its_id(mirror: Mirror, worker: Worker) -> None:
    mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('Parent')")
    parent = str(mirror.value("SELECT row_id FROM salesforce.contact"))
    mirror.write("INSERT INTO salesforce.contact (last_name, reports_to_id) VALUES ('Child', %s)", parent)
    # A later write of the waiting child must not get lost while it waits.
    mirror.write("UPDATE salesforce.contact SET email = 'child' WHERE last_name = 'Child'")
    (first,) = mirror.claim(worker)
    assert first.new == {"last_name": "Parent"}
    assert mirror.outbox()[1]["waiting_for"] == f"reports_to_id {parent}"
    mirror.settle(first, "confirmed", id="003p")
    _due(mirror)
    (child,) = mirror.claim(worker)
    assert child.new == {"last_name": "Child", "reports_to_id": "003p", "email": "child"}
    assert mirror.outbox()[1]["waiting_for"] is None


def test_a_reference_by_row_id_to_a_known_record_becomes_its_id(one: Mirror, worker: Worker) -> None:
    one.write(
        "UPDATE salesforce.contact SET reports_to_id = (SELECT row_id::text FROM salesforce.contact WHERE id = '003b')"
        " WHERE id = '003a'"
    )
    (write,) = one.claim(worker)
    assert write.new == {"reports_to_id": "003b"}


def test_an_update_that_was_waiting_for_a_rejected_create_is_a_create(mirror: Mirror, worker: Worker) -> None:
    mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('Odd')")
    (create,) = mirror.claim(worker)
    mirror.write("UPDATE salesforce.contact SET last_name = 'Even'")
    mirror.settle(create, "rejected", reason="no")
    (write,) = mirror.claim(worker)
    assert (write.op, write.base, write.new) == ("create", {}, {"last_name": "Even"})
    assert mirror.states() == [("create", "rejected"), ("create", "sending")]


def test_a_later_write_outlives_a_conflict_that_was_split_off_after_it(one: Mirror, worker: Worker) -> None:
    one.write("UPDATE salesforce.contact SET email = 'mine', last_name = 'Mine' WHERE id = '003a'")
    (write,) = one.claim(worker)
    one.write(_EMAIL, "later")
    ruling = Ruling(hold=frozenset({"email"}))
    rest = conflicts.settle(one.db, CONNECTION, one.obj, write, ruling, {"email": "crm"}, "v")
    assert rest is not None and rest.new == {"last_name": "Mine"}
    one.settle(rest, "confirmed", id="003a")
    one.seen({"id": "003a", "v": 2, "last_name": "Mine", "email": "crm"}, source=Source.ID)
    one.write("SELECT crm_assets.resolve(%s, 'product')", one.value("SELECT conflict_id FROM crm_assets.conflict"))
    (write,) = one.claim(worker)
    assert (write.base, write.new) == ({"email": "crm"}, {"email": "later"})
