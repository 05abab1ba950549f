"""E. Formula and calculated fields."""

from __future__ import annotations

import sqlite3

from crm_assets_tests.faults.kit import caught_up, check, equal, mirror
from crm_assets_tests.plugins.linked import Link


def test_F35_a_field_that_changes_without_moving_the_stamp_is_found(link: Link) -> None:
    """A standard field behaved like a formula though its metadata did not say so: its changes move no stamp, and no
    incremental read sees them. Reconciliation compares values, not stamps."""
    record_id = link.sandbox.create("Contact", LastName="Quiet", Title="before")
    caught_up(link)
    with sqlite3.connect(link.sandbox.data_dir / "salesforce.sqlite", timeout=60) as db:
        db.execute('UPDATE "Contact" SET "Title" = ? WHERE "Id" = ?', ("after", record_id))
    db.close()
    found = check(link)
    assert found.complete and found.repaired == 1
    assert mirror(link, record_id, "title") == "after"
    equal(link)
