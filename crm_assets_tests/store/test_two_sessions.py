"""The interleavings that lose data in simpler designs, each driven by two real sessions."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psycopg
import pytest

from crm_assets.core.model import Source
from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import CONNECTION, LEASE, Mirror, at, in_thread, wait_for_waiter

_UPDATE = "UPDATE salesforce.contact SET email = %s WHERE id = %s"


@pytest.fixture
def one(mirror: Mirror) -> Mirror:
    """A mirror with the record ``003a``."""
    mirror.seen({"id": "003a", "v": 1, "last_name": "Ada", "email": "old", "score": 1})
    return mirror


def test_apply_passes_by_a_row_the_product_holds_and_takes_it_later(one: Mirror) -> None:
    product = one.product()
    product.execute(_UPDATE, ("product", "003a"))
    one.observe({"id": "003a", "v": 2, "last_name": "Ada L.", "email": "crm"})
    assert one.apply().waiting == 1 and one.staged() == 1
    product.commit()
    one.apply()
    row = one.row("003a")
    assert (row["last_name"], row["email"], row["_version"]) == ("Ada L.", "product", at(2))
    (write,) = one.outbox()
    assert (write["base"], write["new"], write["theirs"]) == ({"email": "old"}, {"email": "product"}, {"email": "crm"})
    assert one.staged() == 0


@pytest.mark.parametrize("step", ["lock", "hold", "decide", "write"])
def test_a_product_write_between_the_steps_of_apply_is_kept(one: Mirror, step: str) -> None:
    one.observe({"id": "003a", "v": 2, "email": "crm"}, {"id": "003b", "v": 1, "last_name": "Bo"})
    product = one.product()
    if step == "lock":
        with one.before(step, lambda: one.write(_UPDATE, "product", "003a")):
            one.apply()
    else:
        # The row is locked by now: the product waits for the batch, then its write is captured on top of it.
        with in_thread(lambda: None) as _, one.before(step, lambda: product.execute("SELECT 1")):
            one.apply()
        one.write(_UPDATE, "product", "003a")
    one.apply()
    assert one.row("003a")["email"] == "product"
    assert [w["new"] for w in one.outbox()] == [{"email": "product"}]


def test_statement_2_touches_only_rows_that_statement_1_has_locked(one: Mirror) -> None:
    """The product holds the row while statement 1 runs and commits before statement 2: an update of everything
    that is newer would overwrite it."""
    product = one.product()
    product.execute(_UPDATE, ("product", "003a"))
    one.observe({"id": "003a", "v": 2, "email": "crm"})
    with one.before("hold", product.commit):
        one.apply()
    assert one.row("003a")["email"] == "product"
    assert one.staged() == 1
    one.apply()
    assert one.row("003a")["email"] == "product" and one.outbox()[0]["theirs"] == {"email": "crm"}


@pytest.mark.parametrize("step", ["lock", "hold", "write"])
def test_a_row_the_product_deletes_meanwhile_is_not_revived(one: Mirror, step: str) -> None:
    product = one.product()
    product.execute("DELETE FROM salesforce.contact WHERE id = '003a'")
    one.observe({"id": "003a", "v": 2, "email": "crm"})
    with one.before(step, product.commit):
        one.apply()
    one.apply()
    assert one.rows() == {}
    assert one.states() == [("delete", "pending")]
    assert one.value("SELECT deleted_by FROM crm_assets.tombstone WHERE id = '003a'") == "product"


def test_applys_locks_let_the_products_foreign_keys_be(one: Mirror, database_url: str) -> None:
    with psycopg.connect(database_url) as owner:
        owner.execute("CREATE TABLE public.ticket (contact uuid REFERENCES salesforce.contact (row_id))")
        owner.execute("GRANT INSERT ON public.ticket TO crm_assets_writer")
        owner.execute("GRANT REFERENCES, SELECT ON salesforce.contact TO crm_assets_writer")
    row_id = one.row("003a")["row_id"]
    one.observe({"id": "003a", "v": 2, "email": "crm"})

    def insert() -> None:
        with psycopg.connect(one.writer_url, options="-c lock_timeout=300ms") as conn:
            conn.execute("INSERT INTO public.ticket VALUES (%s)", (row_id,))

    with one.before("hold", insert):
        one.apply()
    assert one.row("003a")["email"] == "crm"


def test_two_applies_at_once_lose_nothing(one: Mirror) -> None:
    one.observe({"id": "003a", "v": 2, "email": "crm"})
    other: list[bool] = []
    second = Mirror(one.db, one.writer_url, one.obj)
    with one.before("hold", lambda: other.append(second.apply().busy)):
        one.apply()
    assert other == [True] and one.row("003a")["email"] == "crm"


def test_a_delete_gives_way_to_the_product_before_anybody_is_a_deadlock_victim(one: Mirror) -> None:
    product = one.product()
    product.execute("SELECT 1 FROM salesforce.contact WHERE id = '003a' FOR UPDATE")
    one.gone("003a", 5)
    assert one.apply().deleted == 0 and one.staged() == 1
    product.execute(_UPDATE, ("still mine", "003a"))
    product.commit()
    assert one.apply().deleted == 1
    assert one.rows() == {}


def test_a_product_trigger_that_fires_inside_apply_is_captured(one: Mirror, database_url: str) -> None:
    with psycopg.connect(database_url) as owner:
        owner.execute("CREATE TABLE public.log (id text)")
        owner.execute(
            """CREATE FUNCTION public.react() RETURNS trigger LANGUAGE plpgsql AS $$
               BEGIN
                   UPDATE salesforce.contact SET last_name = upper(NEW.last_name)
                    WHERE id = NEW.id AND last_name <> upper(NEW.last_name);
                   RETURN NULL;
               END $$"""
        )
        owner.execute(
            "CREATE TRIGGER react AFTER UPDATE ON salesforce.contact FOR EACH ROW EXECUTE FUNCTION public.react()"
        )
    one.seen({"id": "003a", "v": 2, "last_name": "ada", "email": "crm"})
    assert one.row("003a")["last_name"] == "ADA"
    assert [(w["base"], w["new"]) for w in one.outbox()] == [({"last_name": "ada"}, {"last_name": "ADA"})]


def test_capture_cannot_be_switched_off_by_the_session(one: Mirror) -> None:
    with psycopg.connect(one.writer_url) as conn, pytest.raises(psycopg.errors.InsufficientPrivilege):
        conn.execute("SET ROLE crm_assets_sync")
    enabled = one.all(
        "SELECT tgenabled::text AS how FROM pg_trigger "
        "WHERE tgrelid = 'salesforce.contact'::regclass AND NOT tgisinternal"
    )
    # ENABLE ALWAYS: they fire under every session_replication_role.
    assert [row["how"] for row in enabled] == ["A"] * 4


def test_two_workers_never_hold_two_writes_of_one_record(one: Mirror, database_url: str) -> None:
    one.write(_UPDATE, "first", "003a")
    with Worker(database_url) as a, Worker(database_url) as b:
        first = one.claim(a, limit=1)
        one.write(_UPDATE, "second", "003a")
        assert [w.new for w in first] == [{"email": "first"}]
        assert one.claim(b) == []
        one.settle(first[0], "pending")
        # Offered again, with what came later folded in: still one write, in order.
        (again,) = one.claim(b)
        assert (again.base, again.new) == ({"email": "old"}, {"email": "second"})
        assert one.claim(a) == []


def test_a_claim_that_is_not_committed_hides_the_records_later_writes(one: Mirror, database_url: str) -> None:
    one.write(_UPDATE, "first", "003a")
    one.write(_UPDATE, "second", "003a")
    with psycopg.connect(database_url) as claiming, Worker(database_url) as other:
        claiming.execute('SELECT FROM crm_assets.outbox WHERE new = \'{"email": "first"}\' FOR UPDATE')
        # Plain SKIP LOCKED would hand out the second write here.
        assert one.claim(other) == []


def test_the_claims_of_a_killed_worker_are_known_at_once(one: Mirror, database_url: str) -> None:
    one.write(_UPDATE, "product", "003a")
    script = (
        "import sys, time\n"
        "from crm_assets.store.database import Database\n"
        "from crm_assets.store import outbox\n"
        "from crm_assets.store.worker import Worker\n"
        "from crm_assets_tests.store.kit import CONTACT, CONNECTION, LEASE\n"
        "db = Database(sys.argv[1])\n"
        "with Worker(db.url) as worker:\n"
        "    outbox.claim(db, CONNECTION, CONTACT, worker, 1, LEASE)\n"
        "    print('claimed', flush=True)\n"
        "    time.sleep(60)\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, database_url],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    ) as process:
        assert process.stdout is not None and process.stdout.readline() == "claimed\n"
        assert one.states() == [("update", "sending")]
        from crm_assets.store import outbox

        assert outbox.expire(one.db, CONNECTION) == 0
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    from crm_assets_tests.store.kit import wait_until

    wait_until(lambda: outbox.expire(one.db, CONNECTION) == 1)
    assert one.states() == [("update", "unknown")]
    assert LEASE.total_seconds() > 10


def test_a_delete_that_meets_the_claim_of_its_create_waits_for_the_outcome(mirror: Mirror, worker: Worker) -> None:
    mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('New')")
    product = mirror.product()
    with psycopg.connect(mirror.db.url) as claiming:
        claiming.execute("UPDATE crm_assets.outbox SET state = 'sending', claimed_by = %s", (worker.name,))
        with in_thread(lambda: product.execute("DELETE FROM salesforce.contact")) as deletion:
            wait_for_waiter(mirror, claiming)
            claiming.commit()
            deletion.result()
        product.commit()
    assert mirror.states() == [("create", "sending"), ("delete", "pending")]
    assert mirror.claim(worker) == []


def test_settle_does_not_wait_for_a_row_that_the_product_holds(one: Mirror, worker: Worker) -> None:
    one.write(_UPDATE, "product", "003a")
    (write,) = one.claim(worker)
    product = one.product()
    product.execute("SELECT FROM salesforce.contact WHERE id = '003a' FOR UPDATE")
    with psycopg.connect(one.db.url) as conn:
        conn.execute("ALTER ROLE CURRENT_USER IN DATABASE " + conn.info.dbname + " SET lock_timeout = '500ms'")
    assert one.settle(write, "rejected", reason="no") == 1
    product.commit()
    one.apply()
    assert one.row("003a")["email"] == "old"


def test_a_read_begun_before_our_write_was_answered_does_not_undo_it(one: Mirror, worker: Worker) -> None:
    one.write(_UPDATE, "product", "003a")
    (write,) = one.claim(worker)
    early = one.db.now()
    one.settle(write, "confirmed", id="003a")
    one.observe({"id": "003a", "v": 9, "email": "old"}, observed_at=early)
    one.apply()
    assert one.row("003a")["email"] == "product"
    # The first read begun after it counts, whatever its version.
    one.seen({"id": "003a", "v": 1, "email": "as stored", "last_name": "Ada"}, source=Source.ID)
    assert one.row("003a")["email"] == "as stored"
    assert one.value("SELECT count(*) FROM crm_assets.floor") == 0


def test_an_echo_that_beats_the_reply_makes_no_second_row(mirror: Mirror, worker: Worker) -> None:
    mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('New')")
    (write,) = mirror.claim(worker)
    mirror.seen({"id": "003x", "v": 1, "last_name": "New", "crm_assets_row_id_c": str(write.row_id)})
    assert [(r["id"], r["row_id"]) for r in mirror.rows().values()] == [("003x", write.row_id)]
    mirror.settle(write, "confirmed", id="003x")
    mirror.apply()
    assert len(mirror.rows()) == 1


def test_an_alter_that_has_to_wait_gives_up_before_readers_queue_behind_it(one: Mirror) -> None:
    """A waiting ALTER blocks every later read; so it waits for 200 ms at the most and tries again."""
    from dataclasses import replace

    from crm_assets.store import ddl
    from crm_assets_tests.store.kit import column

    reader = one.product()
    reader.execute("SELECT count(*) FROM salesforce.contact")
    wider = replace(one.obj, fields=(*one.obj.fields, column("New__c", "new_c")))
    with in_thread(lambda: ddl.ensure_object(one.db, CONNECTION, wider, write=True)) as change:
        wait_for_waiter(one, reader)
        with psycopg.connect(one.writer_url, options="-c lock_timeout=2s") as conn:
            conn.execute("SELECT count(*) FROM salesforce.contact")
        reader.commit()
        change.result()
    one.write("UPDATE salesforce.contact SET new_c = 'captured'")
    assert one.outbox()[-1]["new"] == {"new_c": "captured"}
