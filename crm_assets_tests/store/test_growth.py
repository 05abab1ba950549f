"""What a product does to many rows at once grows with their number, not with its square."""

from __future__ import annotations

from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import Mirror

_ROWS = 20_000


def test_one_statement_on_many_rows_is_captured_and_claimed_in_linear_time(mirror: Mirror, worker: Worker) -> None:
    """A session that has changed one row before, on tables that have no statistics yet: the plans that were made for
    a single row would compare each row with each, for minutes. The database's statement_timeout is 20 s."""
    with mirror.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute(
            "INSERT INTO salesforce.contact (id, last_name, _version) "
            "SELECT '003' || lpad(n::text, 15, '0'), 'x', '2026-01-01' FROM generate_series(1, %s) n",
            (_ROWS,),
        )
    product = mirror.product(autocommit=True)
    product.execute("UPDATE salesforce.contact SET last_name = 'first' WHERE id = '003000000000000001'")
    product.execute("UPDATE salesforce.contact SET last_name = 'changed'")
    assert mirror.value("SELECT count(*) FROM crm_assets.outbox") == _ROWS + 1
    writes = mirror.claim(worker, limit=1_000)
    assert len(writes) == 1_000
    assert mirror.states().count(("update", "superseded")) == 1
