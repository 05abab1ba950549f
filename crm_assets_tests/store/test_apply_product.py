"""Apply beside the product: the product's value stays while it is unsettled, and apply waits for nobody."""

from __future__ import annotations

import pytest

from crm_assets.core.model import Source
from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import CONNECTION, Mirror, at, in_thread

_EMAIL = "UPDATE salesforce.contact SET email = %s WHERE id = '003a'"


@pytest.fixture
def one(mirror: Mirror) -> Mirror:
    mirror.seen({"id": "003a", "v": 1, "last_name": "Ada", "email": "old"})
    return mirror


@pytest.mark.parametrize("state", ["pending", "sending", "unknown"])
def test_an_unsettled_field_keeps_the_products_value(one: Mirror, worker: Worker, state: str) -> None:
    one.write(_EMAIL, "product")
    if state != "pending":
        (write,) = one.claim(worker)
        if state == "unknown":
            one.settle(write, "unknown")
    one.seen({"id": "003a", "v": 2, "last_name": "Ada L.", "email": "crm"})
    row, (write_row,) = one.row("003a"), one.outbox()
    assert (row["email"], row["last_name"], row["_version"]) == ("product", "Ada L.", at(2))
    assert write_row["theirs"] == {"email": "crm"}
    assert write_row["theirs_version"].startswith("2026-01-01 00:00:02")


def test_a_write_that_knows_what_the_crm_has_is_left_alone(one: Mirror) -> None:
    """A hot record has thousands of writes, and each change of another field would rewrite all of them."""
    one.write(_EMAIL, "product")
    one.seen({"id": "003a", "v": 2, "last_name": "Ada L.", "email": "crm"})
    row = "SELECT xmin::text FROM crm_assets.outbox"
    before = one.value(row)
    one.seen({"id": "003a", "v": 3, "last_name": "Ada Lovelace", "email": "crm"})
    assert one.row("003a")["last_name"] == "Ada Lovelace" and one.value(row) == before
    one.seen({"id": "003a", "v": 4, "last_name": "Ada Lovelace", "email": None})
    assert one.outbox()[0]["theirs"] == {"email": None}


def test_apply_itself_is_not_captured(one: Mirror) -> None:
    one.seen({"id": "003a", "v": 2, "email": "crm"}, {"id": "003b", "v": 2})
    one.gone("003a", 3)
    one.apply()
    assert one.outbox() == []


def test_an_open_transaction_on_the_outbox_holds_up_one_record_only(one: Mirror) -> None:
    """A person who decides on a write in an open transaction must not stop the object, nor the product behind it."""
    one.write(_EMAIL, "product")
    person = one.product()
    person.execute("SELECT crm_assets.discard(%s)", (one.outbox()[0]["seq"],))
    one.observe({"id": "003a", "v": 2, "email": "crm"}, {"id": "003b", "v": 1})
    with in_thread(one.apply) as applying:
        try:
            assert applying.result(timeout=5).waiting == 1
        finally:
            person.rollback()
    assert one.row("003a")["email"] == "product" and "003b" in one.rows()
    one.apply()
    assert one.outbox()[0]["theirs"] == {"email": "crm"} and one.staged() == 0


def test_an_open_transaction_on_a_delete_holds_up_one_record_only(one: Mirror) -> None:
    one.write("DELETE FROM salesforce.contact")
    person = one.product()
    person.execute("SELECT crm_assets.discard(%s)", (one.outbox()[0]["seq"],))
    one.observe({"id": "003a", "v": 2, "email": "crm"}, {"id": "003b", "v": 1})
    with in_thread(one.apply) as applying:
        try:
            assert applying.result(timeout=5).waiting == 1
        finally:
            person.rollback()
    assert list(one.rows()) == ["003b"]
    one.apply()
    assert one.outbox()[0]["theirs"]["email"] == "crm" and one.staged() == 0


def test_a_reply_does_not_overwrite_what_the_product_commits_meanwhile(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "bad")
    one.reject(worker)
    product = one.product()
    product.execute(_EMAIL, ("newer",))
    with one.before("jsonb_populate_record", product.commit, must=False):
        one.apply()
    product.commit()
    one.apply()
    assert one.row("003a")["email"] == "newer"
    assert one.outbox()[-1]["new"] == {"email": "newer"}


def test_a_reply_that_had_to_wait_does_not_undo_a_later_observation(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "bad")
    one.reject(worker)
    product = one.product()
    product.execute("SELECT FROM salesforce.contact WHERE id = '003a' FOR UPDATE")
    one.observe({"id": "003a", "v": 2, "email": "crm"}, source=Source.ID)
    with one.before("lock", product.commit):
        one.apply()
    one.apply()
    assert one.row("003a")["email"] == "crm" and one.staged() == 0


def test_a_floor_raised_meanwhile_is_not_lowered_by_an_older_read(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "product")
    one.confirm(worker)
    one.observe({"id": "003a", "v": 2, "email": "product"}, source=Source.ID)
    raise_again = f"SELECT crm_assets.raise_floor('{CONNECTION}', 'contact', '003a', '{{email}}')"
    with one.before("lower_floor", lambda: one.all(raise_again)):
        one.apply()
    assert one.value("SELECT count(*) FROM crm_assets.floor") == 1


def test_a_lagging_read_does_not_end_the_wait_for_a_primary_one(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "product")
    one.confirm(worker)
    one.seen({"id": "003a", "v": 9, "email": "old"}, source=Source.LAGGING)
    assert one.row("003a")["email"] == "product"
    assert one.value("SELECT count(*) FROM crm_assets.floor") == 1


def test_the_read_after_a_reply_gives_waiting_writes_of_the_settled_fields_their_base(
    one: Mirror, worker: Worker
) -> None:
    one.write(_EMAIL, "first")
    (write,) = one.claim(worker)
    one.write("UPDATE salesforce.contact SET email = 'second', last_name = 'Mine' WHERE id = '003a'")
    one.settle(write, "confirmed", id="003a")
    one.seen({"id": "003a", "v": 2, "last_name": "Theirs", "email": "first, as stored"}, source=Source.ID)
    assert one.outbox()[-1]["base"] == {"email": "first, as stored", "last_name": "Ada"}
    assert one.outbox()[-1]["theirs"] == {"email": "first, as stored", "last_name": "Theirs"}


def test_a_retried_write_does_not_overwrite_what_the_product_wrote_since(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "again")
    (write,) = one.reject(worker)
    one.apply()
    one.write("SELECT crm_assets.retry(%s)", write.seq)
    one.write(_EMAIL, "later")
    one.apply()
    assert one.row("003a")["email"] == "later"


def test_a_retried_write_that_is_on_its_way_already_is_in_the_mirror(one: Mirror, worker: Worker) -> None:
    one.write(_EMAIL, "again")
    (write,) = one.reject(worker)
    one.seen({"id": "003a", "v": 1, "last_name": "Ada", "email": "old"}, source=Source.ID)
    one.write("SELECT crm_assets.retry(%s)", write.seq)
    assert len(one.claim(worker)) == 1
    one.apply()
    assert one.row("003a")["email"] == "again"


def test_a_value_that_returns_to_the_mirror_has_no_arrow_zeros(one: Mirror, worker: Worker) -> None:
    one.write("UPDATE salesforce.contact SET amount = 5 WHERE id = '003a'")
    one.seen({"id": "003a", "v": 2, "amount": 12})
    one.write("SELECT crm_assets.discard(%s)", one.outbox()[0]["seq"])
    one.apply()
    assert one.value("SELECT amount::text FROM salesforce.contact") == "12"
