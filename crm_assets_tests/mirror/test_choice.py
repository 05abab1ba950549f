"""The choice of records and fields in defs.yaml: changed later, without a reload of the rest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

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


def _ids(link: Link) -> set[str]:
    return {row[0] for row in link.rows("SELECT id FROM salesforce.contact")}


def _physical(link: Link) -> dict[str, Any]:
    return dict(link.rows("SELECT id, ctid::text || xmin::text FROM salesforce.contact"))


def test_another_where_reads_what_came_in_and_lets_go_of_what_left(link: Link) -> None:
    everything = set(link.sandbox.alive("Contact"))
    some, other, *_ = sorted(everything)
    for record_id in (some, other):
        link.sandbox.update("Contact", record_id, Department="Sales")
    _soon(
        lambda: (
            link.follow("contact")
            and link.value("SELECT count(*) FROM salesforce.contact WHERE department = 'Sales'") == 2
        )
    )
    row_ids = dict(link.rows("SELECT id, row_id FROM salesforce.contact"))
    link.choose("Contact", where="Department = 'Sales'")
    report = link.follow("contact")
    assert (report.mode, report.left, report.filled) == ("incremental", len(everything) - 2, 0)
    assert _ids(link) == {some, other}
    kept = _physical(link)

    link.choose("Contact", where="Department = 'Sales' OR LastName != 'nobody'")
    link.sandbox.reset_calls()
    report = link.follow("contact")
    assert (report.mode, report.filled, report.left) == ("incremental", len(everything) - 2, 0)
    assert _ids(link) == everything
    assert {one: _physical(link)[one] for one in kept} == kept, "what was there is not written again"
    assert dict(link.rows("SELECT id, row_id FROM salesforce.contact")) == row_ids, "and what returns is who it was"
    assert not link.rows("SELECT * FROM crm_assets.outbox"), "leaving the choice deletes nothing in the CRM"
    assert set(link.sandbox.alive("Contact")) == everything


def test_a_record_that_leaves_the_where_in_the_crm_leaves_the_mirror(make_link: MakeLink) -> None:
    link = make_link(objects=("Contact",), settings={"Contact": {"where": "DoNotCall = false"}})
    link.follow("contact")
    some = min(_ids(link))
    link.sandbox.update("Contact", some, DoNotCall=True)
    report = _soon(lambda: (r := link.follow("contact")).left and r)
    assert report.left == 1 and some not in _ids(link)
    assert link.value("SELECT id FROM crm_assets.tombstone") == some
    link.sandbox.update("Contact", some, DoNotCall=False)

    def back() -> bool:
        link.follow("contact")
        link.settle()
        return some in _ids(link)

    _soon(back)


def test_a_field_chosen_later_is_filled_and_one_no_longer_chosen_keeps_its_column(make_link: MakeLink) -> None:
    link = make_link(objects=("Contact",), settings={"Contact": {"fields": ["LastName", "Phone"]}})
    link.follow("contact")
    deleted = min(link.sandbox.alive("Contact"))
    link.sandbox.delete("Contact", deleted)
    _soon(lambda: link.follow("contact") and deleted not in _ids(link))
    truth = link.sandbox.alive("Contact")
    assert {"is_deleted", "system_modstamp", "master_record_id"} <= link.object("contact").by_column.keys()
    before = dict(link.rows("SELECT id, to_jsonb(c) - 'email' FROM salesforce.contact c"))

    link.choose("Contact", fields=["LastName", "Phone", "Email"])
    report = link.follow("contact")
    assert report.mode == "incremental" and report.filled == sum(bool(one["Email"]) for one in truth.values())
    assert dict(link.rows("SELECT id, email FROM salesforce.contact")) == {i: one["Email"] for i, one in truth.items()}
    assert dict(link.rows("SELECT id, to_jsonb(c) - 'email' FROM salesforce.contact c")) == before

    link.choose("Contact", fields=["LastName", "Email"])
    link.follow("contact")
    assert dict(link.rows("SELECT id, phone FROM salesforce.contact")) == {i: one["Phone"] for i, one in truth.items()}
    (gone,) = link.object("contact").retired
    assert (gone.column, gone.why) == ("phone", "not chosen")
    some = min(truth)
    link.sandbox.update("Contact", some, Phone="changed meanwhile", LastName="Seen")
    wait_until(
        lambda: (
            link.follow("contact")
            and link.value("SELECT last_name FROM salesforce.contact WHERE id = %s", some) == "Seen"
        )
    )
    assert link.value("SELECT phone FROM salesforce.contact WHERE id = %s", some) == truth[some]["Phone"]
    link.choose("Contact", fields="*")
    link.follow("contact")
    assert link.value("SELECT phone FROM salesforce.contact WHERE id = %s", some) == "changed meanwhile"
