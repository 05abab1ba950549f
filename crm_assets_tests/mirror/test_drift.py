"""The CRM's schema changes while everything runs: mirrors keep up, lose nothing, and say what they made of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from crm_assets.mirror import describing
from crm_assets.mirror import fill as filling
from crm_assets.mirror.describing import take_over
from crm_assets.store import catalog, ddl, fills
from crm_assets.store.apply import apply
from crm_assets.store.snapshot import read_snapshot
from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.sandbox import wait_until


def _soon(condition: Callable[[], Any]) -> Any:
    """The CRM vouches for whole seconds, and a full machine takes its time."""
    return wait_until(condition, 45.0)


@pytest.fixture
def link(make_link: MakeLink) -> Link:
    made = make_link(objects=("Contact",))
    made.follow("contact")
    return made


def _value(link: Link, column: str, record_id: str) -> Any:
    return link.value(f"SELECT {column} FROM salesforce.contact WHERE id = %s", record_id)


def _told(link: Link) -> list[tuple[str, str]]:
    return link.rows("SELECT field, kind FROM crm_assets.schema_change ORDER BY change_id")  # type: ignore[return-value]


def _fresh(link: Link) -> int:
    """Rows that the mirror has read since the test changed them."""
    return int(link.value("SELECT count(*) FROM salesforce.contact WHERE _version > now() - interval '10 minutes'"))


def _untouched(link: Link, but: str) -> list[tuple[Any, ...]]:
    return link.rows(f"SELECT id, to_jsonb(c) - '{but}' FROM salesforce.contact c ORDER BY id")


def test_an_added_field_is_filled_for_old_rows_and_nothing_else_is_written(link: Link) -> None:
    """F37, F38: no reset, no row without its value, no other column touched."""
    some, other, *_ = sorted(link.sandbox.alive("Contact"))
    link.sandbox.schema("Contact", "add", "Shoe_Size__c", type="double")
    link.sandbox.update("Contact", some, Shoe_Size__c=44)
    for record_id in sorted(link.sandbox.alive("Contact"))[2:12]:
        link.sandbox.control("PATCH", f"/Contact/{record_id}", {"fields": {"Shoe_Size__c": 40}})
    _soon(lambda: (link.follow("contact"), _fresh(link) == 11)[1])
    before = _untouched(link, "shoe_size_c")
    assert "shoe_size_c" not in link.object("contact").by_column, "not asked yet"

    link.age()
    report = link.follow("contact")
    assert (report.mode, report.partial, report.filling) == ("incremental", False, ())
    assert report.filled == 11
    assert _value(link, "shoe_size_c", some) == 44 and _value(link, "shoe_size_c", other) is None
    assert link.value("SELECT count(*) FROM salesforce.contact WHERE shoe_size_c = 40") == 10
    assert _untouched(link, "shoe_size_c") == before
    assert _told(link) == [("Shoe_Size__c", "added")]
    assert "shoe_size_c" in read_snapshot(link.home, "salesforce")["contact"].by_column
    assert link.follow("contact").filled == 0, "once is enough"


def test_a_field_dropped_in_the_middle_of_everything_heals_within_the_run(link: Link) -> None:
    """The CRM refuses the old query; no ten minutes have passed."""
    link.sandbox.schema("Contact", "add", "Shoe_Size__c", type="double")
    some = min(link.sandbox.alive("Contact"))
    link.sandbox.update("Contact", some, Shoe_Size__c=44)
    link.age()
    _soon(lambda: link.follow("contact") and _value(link, "shoe_size_c", some) == 44)
    link.sandbox.schema("Contact", "drop", "Shoe_Size__c")
    made = link.sandbox.create("Contact", LastName="Later")
    assert not _soon(lambda: (r := link.follow("contact")) and _value(link, "last_name", made) and r).partial
    assert _value(link, "shoe_size_c", some) == 44, "a column keeps what it had"
    (gone,) = link.object("contact").retired
    assert (gone.column, gone.field, gone.why) == ("shoe_size_c", "Shoe_Size__c", "dropped")
    link.sandbox.update("Contact", some, LastName="Changed")
    _soon(lambda: link.follow("contact") and _value(link, "last_name", some) == "Changed")
    assert _value(link, "shoe_size_c", some) == 44, "nothing writes NULL over it"
    with pytest.raises(psycopg.errors.RaiseException, match=r"shoe_size_c.*CRM dropped its field Shoe_Size__c"):
        link.rows("UPDATE salesforce.contact SET shoe_size_c = 45")

    link.sandbox.schema("Contact", "add", "Shoe_Size__c", type="double")
    link.sandbox.update("Contact", made, Shoe_Size__c=39)
    link.age()
    link.follow("contact")
    _soon(lambda: link.follow("contact") and _value(link, "shoe_size_c", made) == 39)
    assert link.object("contact").retired == () and _value(link, "shoe_size_c", some) is None
    assert [kind for _, kind in _told(link)] == ["added", "dropped", "returned"]


def test_a_renamed_field_is_one_dropped_and_one_added(link: Link) -> None:
    some = min(link.sandbox.alive("Contact"))
    link.sandbox.schema("Contact", "add", "Boots__c", type="string")
    link.sandbox.update("Contact", some, Boots__c="red")
    link.age()
    _soon(lambda: link.follow("contact") and _value(link, "boots_c", some) == "red")
    link.sandbox.schema("Contact", "rename", "Boots__c", to="Shoes__c")
    link.follow("contact")
    _soon(lambda: link.follow("contact") and _value(link, "shoes_c", some) == "red")
    assert _value(link, "boots_c", some) == "red"
    assert sorted(_told(link)[1:]) == [("Boots__c", "dropped"), ("Shoes__c", "added")]


def test_a_type_that_the_column_cannot_hold_gets_a_column_of_its_own(link: Link) -> None:
    some = min(link.sandbox.alive("Contact"))
    link.sandbox.schema("Contact", "add", "Feet__c", type="double")
    link.sandbox.update("Contact", some, Feet__c=7)
    link.age()
    _soon(lambda: link.follow("contact") and _value(link, "feet_c", some) == 7)
    link.sandbox.schema("Contact", "retype", "Feet__c", type="string")
    link.age()
    report = link.follow("contact")
    assert not report.partial and link.object("contact").by_name["Feet__c"].column == "feet_c_2"
    assert _value(link, "feet_c", some) == 7 and _value(link, "feet_c_2", some) == "7"
    assert catalog.columns(link.db, "salesforce", "Contact")["Feet__c (number)"] == "feet_c"
    # The old name is never given to another field.
    link.sandbox.schema("Contact", "add", "FeetC", type="string")
    link.age()
    link.follow("contact")
    assert link.object("contact").by_name["FeetC"].column == "feet_c_3"


def test_a_fill_goes_on_where_it_stopped(make_link: MakeLink, monkeypatch: pytest.MonkeyPatch) -> None:
    from crm_assets.connectors.salesforce import reading

    monkeypatch.setattr(reading, "BULK_ROWS", 20)
    link = make_link(objects=("Contact",), rows=300)
    link.follow("contact")
    ids = sorted(link.sandbox.alive("Contact"))
    link.sandbox.schema("Contact", "add", "Size__c", type="double")
    for record_id in ids:
        link.sandbox.update("Contact", record_id, Size__c=1)
    link.connector.config.options["bulk_threshold"] = 0  # type: ignore[index]
    link.age()
    obj = take_over(link.db, link.connector, "Contact", link.spec.objects["Contact"], link.object("contact"))
    filled: list[filling.Filled] = []
    # As if the mirror had read the records with their new version, before it knew the field.
    with link.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        for record_id, record in link.sandbox.records("Contact").items():
            conn.execute(
                "UPDATE salesforce.contact SET _version = %s WHERE id = %s",
                (record["fields"]["SystemModstamp"], record_id),
            )
    while not filled or filled[-1].open:
        filled.append(filling.fill(link.db, link.connector, obj, -1.0))
    assert [one.rows for one in filled[:-1]] == [20] * (len(ids) // 20)
    assert link.value("SELECT count(*) FROM salesforce.contact WHERE size_c = 1") == len(ids)
    assert link.value("SELECT rows FROM crm_assets.fill WHERE done_at IS NOT NULL") == len(ids) - len(ids) % 20


def test_a_fill_leaves_the_products_writes_and_rows_in_use_alone(link: Link, writer_url: str) -> None:
    mine, used, plain = sorted(link.sandbox.alive("Contact"))[:3]
    link.sandbox.schema("Contact", "add", "Size__c", type="double")
    for record_id in (mine, used, plain):
        link.sandbox.update("Contact", record_id, Size__c=1)
    _soon(lambda: (link.follow("contact"), _fresh(link) == 3)[1])
    obj = take_over(link.db, link.connector, "Contact", link.spec.objects["Contact"], link.object("contact"))
    with psycopg.connect(writer_url) as product:
        product.execute("UPDATE salesforce.contact SET size_c = 2 WHERE id = %s", (mine,))
        product.commit()
        product.execute("SELECT FROM salesforce.contact WHERE id = %s FOR UPDATE", (used,))
        done = filling.fill(link.db, link.connector, obj)
    assert done.rows == 1 and done.open == ()
    assert [_value(link, "size_c", one) for one in (mine, used, plain)] == [2, None, 1]
    assert link.rows("SELECT new, theirs FROM crm_assets.outbox") == [({"size_c": 2}, {"size_c": 1})]
    link.connection = replace(link.connection, objects={"contact": obj})
    link.read_events()
    assert _value(link, "size_c", used) == 1, "read by id once it is free"


def test_a_column_that_cannot_be_added_now_costs_no_read(link: Link, writer_url: str) -> None:
    """And no reader waits longer than the lock timeout, although the table is in use for long."""
    link.sandbox.schema("Contact", "add", "Size__c", type="double")
    made = link.sandbox.create("Contact", LastName="Read all the same")
    link.age()
    longest, stop = [0.0], threading.Event()

    def read() -> None:
        with psycopg.connect(writer_url, autocommit=True) as session:
            while not stop.is_set():
                began = time.monotonic()
                session.execute("SELECT count(*) FROM salesforce.contact")
                longest[0] = max(longest[0], time.monotonic() - began)

    with psycopg.connect(writer_url) as product:
        product.execute("SELECT FROM salesforce.contact")  # and stays in its transaction
        reader = threading.Thread(target=read)
        reader.start()
        try:
            link.follow("contact")
        finally:
            stop.set()
            reader.join()
        assert "size_c" not in link.object("contact").by_column
    assert longest[0] < ddl._LOCK_TIMEOUT_MS / 1000 + 0.5, longest
    _soon(lambda: link.follow("contact") and _value(link, "last_name", made))
    _soon(lambda: (link.age(), link.follow("contact")) and "size_c" in link.object("contact").by_column)


def test_what_was_read_before_the_column_came_does_not_empty_it(
    link: Link, writer_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """F37: a record of the old shape waits in the stage while its row is in use; then the column comes."""
    some = min(link.sandbox.alive("Contact"))
    with psycopg.connect(writer_url) as product:
        product.execute("SELECT FROM salesforce.contact WHERE id = %s FOR UPDATE", (some,))
        link.sandbox.schema("Contact", "add", "Size__c", type="double")
        link.sandbox.update("Contact", some, LastName="Newer", Size__c=9)
        _soon(lambda: link.sync("contact").waiting)

        def just_released(*given: Any) -> None:
            apply(*given)
            product.rollback()

        monkeypatch.setattr(describing, "apply", just_released)
        obj = take_over(link.db, link.connector, "Contact", link.spec.objects["Contact"], link.object("contact"))
    assert link.rows("SELECT record_id, reason FROM crm_assets.inbox") == [(some, "new field")]
    link.connection = replace(link.connection, objects={"contact": obj})
    link.read_events()
    assert _value(link, "size_c", some) == 9 and _value(link, "last_name", some) == "Newer"


def test_events_survive_a_dropped_field(link: Link) -> None:
    """The re-read by id is refused, too: the hint waits for the new describe instead of failing for good."""
    link.sandbox.schema("Contact", "add", "Size__c", type="double")
    link.age()
    link.follow("contact")
    link.sandbox.schema("Contact", "drop", "Size__c")
    some = min(link.sandbox.alive("Contact"))
    link.sandbox.update("Contact", some, LastName="Told by an event")
    link.rows(
        """INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change)
           VALUES ('salesforce', 'e', 'contact', %s, 'update')""",
        some,
    )
    link.read_events()
    assert link.rows("SELECT state FROM crm_assets.inbox") == [("pending",)]
    assert catalog.doubted(link.db, "salesforce") == {"Contact"}
    link.follow("contact")
    assert catalog.doubted(link.db, "salesforce") == set()
    link.rows("UPDATE crm_assets.inbox SET next_try_at = now()")
    link.read_events()
    assert link.rows("SELECT state FROM crm_assets.inbox") == [("done",)]
    assert _value(link, "last_name", some) == "Told by an event"


def test_unchanged_objects_are_asked_every_ten_minutes(link: Link) -> None:
    link.age()
    link.sandbox.reset_calls()
    for _ in range(3):
        link.follow("contact")
    assert link.sandbox.calls()["by_api"]["describe"] == 1
    assert fills.begin(link.db, "salesforce", "contact") == []
