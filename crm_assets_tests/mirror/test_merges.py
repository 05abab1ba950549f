"""Records merged in the CRM, as its reads show them."""

from __future__ import annotations

import pytest

from crm_assets_tests.plugins.linked import MakeLink
from crm_assets_tests.plugins.sandbox import wait_until


@pytest.mark.parametrize("threshold", [0, 5_000], ids=["bulk", "rest"])
def test_a_chain_of_merges_leaves_one_record_that_all_others_lead_to(make_link: MakeLink, threshold: int) -> None:
    link = make_link(objects=("Account", "Contact"), rows=40)
    link.connector.config.options["bulk_threshold"] = threshold  # type: ignore[index]
    for table in ("account", "contact"):
        link.sync(table)
    child, first = link.rows("SELECT id, account_id FROM salesforce.contact WHERE account_id IS NOT NULL LIMIT 1")[0]
    second, third = sorted(set(link.sandbox.alive("Account")) - {first})[:2]
    row_ids = dict(link.rows("SELECT id, row_id FROM salesforce.account"))
    link.sandbox.merge("Account", second, [first])
    link.sandbox.merge("Account", third, [second])
    # The CRM vouches for whole seconds: what happened in this one is read in the next.
    wait_until(lambda: link.sync("account") and link.value("SELECT count(*) FROM crm_assets.alias") == 2)
    assert set(link.sandbox.alive("Account")) == {row[0] for row in link.rows("SELECT id FROM salesforce.account")}
    assert sorted(link.rows("SELECT row_id, survivor, survivor_id FROM crm_assets.alias")) == sorted(
        (row_ids[loser], row_ids[third], third) for loser in (first, second)
    )
    # The child was not read since, but its join holds.
    assert link.value("SELECT account_id FROM salesforce.contact WHERE id = %s", child) == third
