"""Loads: the lease of an object, what counts of a load, and when the cursor moves."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from crm_assets.core.errors import Busy, RetriableError
from crm_assets.core.model import Window
from crm_assets.store import loads
from crm_assets.store.loads import Load
from crm_assets_tests.store.kit import CONNECTION, Mirror


def _day(day: int) -> datetime:
    return datetime(2026, 3, day, tzinfo=UTC)


def _open(mirror: Mirror, high: int, kind: str = "incremental", owner: str = "run-1") -> Load:
    return loads.open_load(mirror.db, CONNECTION, "contact", kind, Window(None, _day(high)), owner)


def _cursor(mirror: Mirror) -> str | None:
    return loads.read_cursor(mirror.db, CONNECTION, "contact")


def test_rows_count_when_their_load_has_landed(mirror: Mirror) -> None:
    load = _open(mirror, 1)
    mirror.observe({"id": "003a", "v": 1}, load=load.load_id)
    mirror.seen({"id": "003b", "v": 1})
    assert set(mirror.rows()) == {"003b"} and mirror.staged() == 1
    loads.land(mirror.db, load, 1)
    mirror.apply()
    assert set(mirror.rows()) == {"003a", "003b"} and mirror.staged() == 0


def test_the_cursor_moves_with_its_load(mirror: Mirror) -> None:
    load = _open(mirror, 1)
    mirror.apply()
    assert _cursor(mirror) is None
    loads.land(mirror.db, load, 0)
    assert _cursor(mirror) is None
    mirror.apply()
    assert _cursor(mirror) == _day(1).isoformat() == loads.close(mirror.db, load)
    state = mirror.one("SELECT state, rows, applied_at IS NOT NULL AS applied FROM crm_assets.load")
    assert state == {"state": "applied", "rows": 0, "applied": True}


def test_the_cursor_moves_although_a_row_had_to_stay_behind(mirror: Mirror) -> None:
    mirror.seen({"id": "003a", "v": 1, "email": "old"})
    product = mirror.product()
    product.execute("SELECT FROM salesforce.contact FOR UPDATE")
    load = _open(mirror, 1)
    mirror.observe({"id": "003a", "v": 2, "email": "new"}, load=load.load_id)
    loads.land(mirror.db, load, 1)
    assert mirror.apply().waiting == 1
    assert _cursor(mirror) == _day(1).isoformat()
    product.commit()
    mirror.apply()
    assert mirror.row("003a")["email"] == "new"


def test_a_load_from_another_cursor_moves_nothing(mirror: Mirror) -> None:
    first = _open(mirror, 2)
    mirror.all("UPDATE crm_assets.cursor SET cursor = %s", _day(1).isoformat())
    loads.land(mirror.db, first, 0)
    mirror.apply()
    assert _cursor(mirror) == _day(1).isoformat()


@pytest.mark.parametrize(
    ("kind", "high", "then"),
    [("full", 3, 3), ("full", 1, 2), ("incremental", 1, 2), ("backfill", 3, 2), ("repair", 3, 2)],
)
def test_which_loads_move_a_cursor(mirror: Mirror, kind: str, high: int, then: int) -> None:
    first = _open(mirror, 2)
    loads.land(mirror.db, first, 0)
    mirror.apply()
    loads.land(mirror.db, _open(mirror, high, kind), 0)
    mirror.apply()
    assert _cursor(mirror) == _day(then).isoformat()


def test_one_owner_at_a_time(mirror: Mirror) -> None:
    load = _open(mirror, 1)
    with pytest.raises(Busy, match="another run"):
        _open(mirror, 1, owner="run-2")
    loads.close(mirror.db, load)
    _open(mirror, 1, owner="run-2")


def test_a_load_whose_lease_was_taken_over_cannot_land(mirror: Mirror) -> None:
    dead = _open(mirror, 1)
    mirror.observe({"id": "003a", "v": 1}, load=dead.load_id)
    mirror.all("UPDATE crm_assets.cursor SET lease_until = clock_timestamp() - interval '1 second'")
    _open(mirror, 1, owner="run-2")
    assert mirror.staged() == 0
    for late in (loads.renew, lambda db, load: loads.land(db, load, 1)):
        with pytest.raises(RetriableError, match="taken over"):
            late(mirror.db, dead)
    mirror.apply()
    assert _cursor(mirror) is None and mirror.rows() == {}


def test_a_load_that_its_own_owner_has_begun_anew_cannot_land(mirror: Mirror) -> None:
    """A repeated run has the same name; the rows of its first attempt are gone."""
    first = _open(mirror, 1)
    _open(mirror, 1)
    with pytest.raises(RetriableError):
        loads.land(mirror.db, first, 1)


def test_a_page_that_arrives_after_its_load_was_given_up_goes_with_the_next(mirror: Mirror) -> None:
    dead = _open(mirror, 1)
    loads.abandon(mirror.db, dead)
    mirror.observe({"id": "003a", "v": 1}, load=dead.load_id)
    mirror.apply()
    assert mirror.rows() == {} and mirror.staged() == 1
    _open(mirror, 1, owner="run-2")
    assert mirror.staged() == 0


def test_a_lease_is_kept_while_the_work_goes_on(mirror: Mirror, monkeypatch: pytest.MonkeyPatch) -> None:
    load = _open(mirror, 1)
    until = mirror.value("SELECT lease_until FROM crm_assets.cursor")
    monkeypatch.setattr(loads, "LEASE", loads.LEASE / 1000)
    from crm_assets_tests.store.kit import wait_until

    with loads.keeping(mirror.db, load):
        wait_until(lambda: mirror.value("SELECT lease_until FROM crm_assets.cursor") != until)
