"""First load: pages copied straight into the mirror end in the state that stage and apply would have led to."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from crm_assets.core.errors import RetriableError
from crm_assets.core.model import Source, Window
from crm_assets.store import ddl, loads
from crm_assets.store.first import FirstLoad
from crm_assets.store.loads import Load
from crm_assets_tests.store.conftest import MakeMirror
from crm_assets_tests.store.kit import CONNECTION, CONTACT, CONTACT_WITHOUT_EXTERNAL_ID, Mirror, at, in_thread

_HIGH = datetime(2026, 3, 1, tzinfo=UTC)


def _open(mirror: Mirror) -> Load:
    return loads.open_load(mirror.db, CONNECTION, "contact", "full", Window(None, _HIGH), "run-1")


def _page(mirror: Mirror, *records: dict[str, Any]) -> pa.Table:
    schema = mirror.obj.page_schema()
    rows = [{"_deleted": False, **r, "_version": at(r["v"]) if "v" in r else None} for r in records]
    return pa.Table.from_pylist([{name: row.get(name) for name in schema.names} for row in rows], schema=schema)


def _load(
    mirror: Mirror, *pages: tuple[dict[str, Any], ...], between: Callable[[], object] = lambda: None
) -> tuple[int, Load]:
    """Bring the pages in; ``between`` happens after each. Returns how many records went straight to the mirror."""
    load, straight = _open(mirror), 0
    with FirstLoad(mirror.db, load, mirror.obj, Source.LIST) as into:
        for page in pages:
            straight += into.put(_page(mirror, *page))
            between()
    loads.land(mirror.db, load, sum(map(len, pages)))
    mirror.apply()
    loads.close(mirror.db, load)
    return straight, load


def _state(mirror: Mirror) -> dict[str, Any]:
    """All that is known, except what no two loads share: row_ids, and when things happened."""
    return {
        "mirror": [
            ({k: v for k, v in r.items() if k not in ("row_id", "_observed_at")}, r["_observed_at"] is not None)
            for _, r in sorted(mirror.rows().items())
        ],
        "amounts": [r["amount"] for r in mirror.all(f"SELECT amount::text FROM {CONNECTION}.contact ORDER BY id")],
        "tombstones": mirror.all("SELECT id, deleted_by FROM crm_assets.tombstone ORDER BY id"),
        "drift": mirror.drift(),
        "cursor": mirror.value("SELECT cursor FROM crm_assets.cursor"),
        "load": mirror.one("SELECT state, rows FROM crm_assets.load"),
        "staged": mirror.staged(),
        "outbox": mirror.outbox(),
        "rereads": mirror.rereads(),
    }


_RECORDS: tuple[dict[str, Any], ...] = (
    {"id": "003a", "v": 5, "last_name": 'é "q" \\N', "amount": Decimal("2.50"), "met_at": at(-5), "score": -(2**63)},
    {"id": "003b", "v": 1, "last_name": "", "amount": Decimal("12345678901234567890.000000000000000001")},
    {"id": "003c", "v": 2, "_deleted": True, "last_name": "gone"},
    {"id": "003d", "v": 1, "amount": Decimal("-300"), "reports_to_id": "003a"},
    {"id": "003e", "v": 1, "crm_assets_row_id_c": "019a0000-0000-7000-8000-000000000001"},
    {"id": "003f", "v": 1, "crm_assets_row_id_c": "no uuid"},
    {"id": "003a", "v": 4, "last_name": "older"},
    {"id": "003d", "v": 3, "last_name": "newer", "amount": Decimal("0.10")},
)


@pytest.mark.parametrize("size", [1, 3, len(_RECORDS)])
def test_it_ends_in_the_state_that_stage_and_apply_lead_to(mirror: Mirror, size: int) -> None:
    pages = [_RECORDS[start : start + size] for start in range(0, len(_RECORDS), size)]
    straight, load = _load(mirror, *pages)
    assert 1 <= straight < len(_RECORDS)
    assert {r["_observed_at"] for r in mirror.rows().values()} == {load.observed_at}
    assert str(mirror.row("003e")["row_id"]) == _RECORDS[4]["crm_assets_row_id_c"]
    assert len({r["row_id"] for r in mirror.rows().values()}) == 5
    found = _state(mirror)

    mirror.all(f"DROP TABLE {CONNECTION}.contact, {CONNECTION}_stage.contact")
    mirror.all("TRUNCATE crm_assets.load, crm_assets.cursor, crm_assets.tombstone, crm_assets.inbox")
    ddl.ensure_object(mirror.db, CONNECTION, CONTACT, write=True)
    ordinary = _open(mirror)
    for page in pages:
        mirror.observe(*page, observed_at=ordinary.observed_at, load=ordinary.load_id)
    loads.land(mirror.db, ordinary, len(_RECORDS))
    mirror.apply()
    assert _state(mirror) == found


def test_capture_stays_silent_and_the_products_writes_are_heard(mirror: Mirror) -> None:
    """A row is the product's to write as soon as its page is in; an older duplicate on a later page changes nothing."""
    _load(
        mirror,
        ({"id": "003a", "v": 2, "email": "crm"}, {"id": "003b", "v": 1}),
        ({"id": "003a", "v": 1, "email": "old"}, {"id": "003c", "v": 1}),
        between=lambda: mirror.write(
            "UPDATE salesforce.contact SET email = 'ours' WHERE id = '003a' AND email = 'crm'"
        ),
    )
    (write,) = mirror.outbox()
    assert (write["base"], write["new"]) == ({"email": "crm"}, {"email": "ours"})
    assert mirror.row("003a")["email"] == "ours" and set(mirror.rows()) == {"003a", "003b", "003c"}


def test_what_events_brought_in_meanwhile_is_not_overwritten(mirror: Mirror) -> None:
    def event() -> None:
        if not mirror.rows().get("003b"):
            mirror.seen({"id": "003b", "v": 9, "email": "new"}, source=Source.ID)

    straight, _ = _load(
        mirror,
        ({"id": "003a", "v": 1},),
        ({"id": "003b", "v": 1, "email": "old"}, {"id": "003c", "v": 1}),
        between=event,
    )
    assert straight == 2 and mirror.row("003b")["email"] == "new"


def test_a_record_that_was_deleted_meanwhile_does_not_come_back(mirror: Mirror) -> None:
    def delete() -> None:
        mirror.gone("003b")
        mirror.apply()
        mirror.write("DELETE FROM salesforce.contact WHERE id = '003a'")

    _load(mirror, ({"id": "003a", "v": 1},), ({"id": "003a", "v": 1}, {"id": "003b", "v": 1}), between=delete)
    assert mirror.rows() == {} and mirror.states() == [("delete", "pending")]


def test_a_delete_that_commits_while_the_page_waits_for_it_stays_a_delete(mirror: Mirror) -> None:
    load = _open(mirror)
    with FirstLoad(mirror.db, load, mirror.obj, Source.LIST) as into:
        into.put(_page(mirror, {"id": "003a", "v": 1}))
        product = mirror.product()
        product.execute("DELETE FROM salesforce.contact WHERE id = '003a'")
        with in_thread(lambda: into.put(_page(mirror, {"id": "003a", "v": 1}, {"id": "003b", "v": 1}))) as page:
            mirror.all("SELECT pg_sleep(0.1)")
            product.commit()
        assert page.result() <= 1
    assert set(mirror.rows()) <= {"003b"}


def test_a_create_of_ours_is_recognised_by_its_external_id(mirror: Mirror) -> None:
    mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('ours')")
    row_id = mirror.value("SELECT row_id FROM salesforce.contact")
    _load(
        mirror,
        ({"id": "003a", "v": 1, "last_name": "ours", "crm_assets_row_id_c": str(row_id)}, {"id": "003b", "v": 1}),
    )
    assert mirror.row("003a")["row_id"] == row_id and set(mirror.rows()) == {"003a", "003b"}


def test_without_an_external_id_nothing_is_copied_past_a_create_of_ours(make_mirror: MakeMirror) -> None:
    mirror = make_mirror(CONTACT_WITHOUT_EXTERNAL_ID)
    mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('ours')")
    straight, _ = _load(mirror, ({"id": "003a", "v": 1},))
    assert straight == 0


def test_a_load_that_was_given_up_stores_nothing_more(mirror: Mirror) -> None:
    load = _open(mirror)
    with FirstLoad(mirror.db, load, mirror.obj, Source.LIST) as into:
        into.put(_page(mirror, {"id": "003a", "v": 1}))
        loads.abandon(mirror.db, load)
        with pytest.raises(RetriableError, match="given up"):
            into.put(_page(mirror, {"id": "003b", "v": 1}))
    assert set(mirror.rows()) == {"003a"}


def test_a_load_that_was_killed_is_met_by_the_next_one(mirror: Mirror) -> None:
    with FirstLoad(mirror.db, _open(mirror), mirror.obj, Source.LIST) as into:
        into.put(_page(mirror, {"id": "003a", "v": 1}, {"id": "003b", "v": 1, "_deleted": True}))
    kept = mirror.row("003a")["row_id"]
    straight, _ = _load(mirror, ({"id": "003a", "v": 2, "email": "new"}, {"id": "003c", "v": 1}))
    assert straight == 1 and mirror.staged() == 0
    assert mirror.row("003a")["row_id"] == kept and mirror.row("003a")["email"] == "new"


def test_a_constraint_of_the_product_makes_the_page_wait_instead_of_failing_the_load(mirror: Mirror) -> None:
    mirror.all("ALTER TABLE salesforce.contact ADD CHECK (last_name <> 'bad')")
    load = _open(mirror)
    with FirstLoad(mirror.db, load, mirror.obj, Source.LIST) as into:
        assert into.put(_page(mirror, {"id": "003a", "v": 1, "last_name": "bad"})) == 0
    assert mirror.staged() == 1


def test_what_was_set_aside_before_is_closed_when_it_is_stored(mirror: Mirror) -> None:
    mirror.all(
        """INSERT INTO crm_assets.drift (connection, object, id, kind, field)
           VALUES ('salesforce', 'contact', '003a', 'set_aside', 'Email'),
                  ('salesforce', 'contact', '003z', 'set_aside', 'Email')"""
    )
    _load(mirror, ({"id": "003a", "v": 1},))
    assert mirror.drift() == [("003z", "set_aside")]


def test_the_servers_words_about_a_record_are_not_repeated(mirror: Mirror) -> None:
    mirror.all(f"ALTER TABLE {CONNECTION}_stage.contact DROP COLUMN email")
    load = _open(mirror)
    with (
        FirstLoad(mirror.db, load, mirror.obj, Source.LIST) as into,
        pytest.raises(Exception, match="cannot store") as said,
    ):
        into.put(_page(mirror, {"id": "003a", "v": 1, "_deleted": True, "email": "secret@example.com"}))
    assert "secret" not in str(said.value)
