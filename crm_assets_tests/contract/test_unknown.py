"""A write without a whole reply is unknown, and what became of it can be looked up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from crm_assets.core.errors import RetriableError
from crm_assets.core.model import Result
from crm_assets_tests.contract.crms import Crm
from crm_assets_tests.plugins.sandbox import wait_until


@pytest.mark.parametrize(("kind", "done"), [("timeout_after", True), ("timeout_before", False), ("truncate", True)])
def test_a_write_without_a_whole_reply_is_unknown(crm: Crm, kind: str, done: bool) -> None:
    if kind == "truncate" and not crm.vendor.answers_writes:
        return
    create = crm.create(1)
    crm.sandbox.faults({"kind": kind, "path": crm.vendor.write_path})
    (outcome,) = crm.connector.write(crm.obj, [create])
    assert outcome.result is Result.UNKNOWN and outcome.reason
    assert (crm.connector.lookup(crm.obj, [str(create.row_id)]).table.num_rows == 1) is done


def test_a_lost_create_is_found_by_its_values(crm: Crm) -> None:
    since = datetime.now(UTC) - timedelta(seconds=2)
    create = crm.create(7)
    (outcome,) = crm.connector.write(crm.obj, [create])
    found = wait_until(lambda: crm.connector.find(crm.obj, create.values, since).table["id"].to_pylist())
    assert found == [outcome.id]
    other = {**create.values, crm.vendor.text[0]: "Somebody else"}
    assert crm.connector.find(crm.obj, other, since).table.num_rows == 0


def test_what_never_left_may_be_sent_again(crm: Crm) -> None:
    """Refused for its number of calls: certainly nothing was done."""
    create = crm.create(1)
    crm.sandbox.faults({"kind": "429", "path": crm.vendor.write_path})
    with pytest.raises(RetriableError):
        crm.connector.write(crm.obj, [create])
    assert crm.connector.lookup(crm.obj, [str(create.row_id)]).table.num_rows == 0
