"""What is done to many rows at once grows with their number: not with its square, nor with the size of the table."""

from __future__ import annotations

import psycopg
import pytest
from psycopg import sql

from crm_assets.store import ddl, outbox
from crm_assets.store.database import Database
from crm_assets.store.worker import Worker
from crm_assets_tests.store.kit import CONNECTION, CONTACT, Mirror

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


_FEW, _MANY, _CHANGES = 8_000, 160_000, 500
_TOUCHED = """
SELECT sum(coalesce(heap_blks_hit + heap_blks_read, 0) + coalesce(idx_blks_hit + idx_blks_read, 0))::bigint
  FROM pg_statio_user_tables WHERE schemaname IN ('salesforce', 'salesforce_stage', 'crm_assets')
"""


def test_a_window_costs_what_its_changes_cost_whatever_the_size_of_the_mirror(
    database_url: str, writer_url: str
) -> None:
    """The same changes, spread over all ids, in a mirror and in one of twenty times as many rows."""
    with psycopg.connect(database_url) as conn:
        if conn.info.server_version < 180000:
            pytest.skip("a backend's own WAL is counted from PostgreSQL 18 on")
    db = Database(database_url, max_size=1)
    try:
        ddl.ensure_object(db, CONNECTION, CONTACT, write=True)
        mirror = Mirror(db, writer_url)
        few = _cost(mirror, _FEW)
        many = _cost(mirror, _MANY)
    finally:
        db.close()
    for name, count in few.items():
        assert 0.8 * count < many[name] < 1.2 * count, (few, many)


def _cost(mirror: Mirror, rows: int) -> dict[str, int]:
    """Buffers touched and WAL records written by the window of changes, in a mirror of so many rows."""
    with mirror.db.transaction() as conn:
        conn.execute("SET LOCAL ROLE crm_assets_sync")
        conn.execute("DELETE FROM salesforce.contact")
        conn.execute(
            """INSERT INTO salesforce.contact (id, last_name, email, _version, _observed_at)
               SELECT '003' || lpad(n::text, 15, '0'), 'x', 'x', '2026-01-01', '2026-01-01'
                 FROM generate_series(1, %s) n""",
            (rows,),
        )
    with psycopg.connect(mirror.db.url, autocommit=True) as conn:
        # What an earlier window left behind is no part of what this one costs.
        conn.execute("TRUNCATE crm_assets.change")
        conn.execute("VACUUM (FULL, ANALYZE) salesforce.contact, salesforce_stage.contact, crm_assets.object")
    mirror.observe(
        *({"id": f"003{n:015}", "v": 1, "last_name": "y"} for n in range(1, rows, rows // _CHANGES)),
    )
    before = _counted(mirror)
    assert mirror.apply().updated == _CHANGES
    after = _counted(mirror)
    return {name: after[name] - before[name] for name in before}


def _counted(mirror: Mirror) -> dict[str, int]:
    with mirror.db.transaction() as conn:
        conn.execute("SELECT pg_stat_force_next_flush()")
    with mirror.db.transaction() as conn:
        conn.execute("SELECT pg_stat_clear_snapshot()")
        touched = conn.execute(sql.SQL(_TOUCHED)).fetchone()
        written = conn.execute("SELECT wal_records FROM pg_stat_get_backend_wal(pg_backend_pid())").fetchone()
    assert touched is not None and written is not None
    return {"buffers": touched[0], "wal_records": written[0]}


def test_a_claim_goes_by_the_index_of_what_is_pending(mirror: Mirror) -> None:
    """All rows were pending when they were counted last: the way by ``seq``, through what is settled by now, looks as
    good as the right one."""
    with mirror.db.transaction() as conn:
        conn.execute(
            """INSERT INTO crm_assets.outbox (connection, object, op, row_id, id, base, new)
               SELECT 'salesforce', 'contact', 'update', crm_assets.uuidv7(), '003' || n, '{"email": null}',
                      '{"email": "a"}' FROM generate_series(1, 2000) n"""
        )
        conn.execute("ANALYZE crm_assets.outbox")
        conn.execute("SET LOCAL enable_seqscan = off")
        plan = conn.execute(
            sql.SQL("EXPLAIN ") + sql.SQL(outbox._EARLIEST).format(mirror=sql.Identifier(CONNECTION, "contact")),
            {"connection": CONNECTION, "object": "contact", "limit": 50},
        ).fetchall()
    lines = [line for (line,) in plan]
    at = next(n for n, line in enumerate(lines) if " on outbox o " in line)
    assert "Index Scan using outbox_pending" in lines[at], lines
    # No more than asked for are looked at.
    assert not any("Sort" in line for line in lines[:at]), lines


@pytest.mark.parametrize("record", ["known", "new"])
def test_the_writes_of_a_hot_record_are_claimed_in_linear_time(mirror: Mirror, record: str) -> None:
    """Each is looked at beside the record's others only as far as the first one that holds it back."""
    if record == "known":
        mirror.seen({"id": "003a", "v": 1, "last_name": "old"})
    else:
        mirror.write("INSERT INTO salesforce.contact (last_name) VALUES ('old')")
    half, whole = (_claiming(mirror) for _ in range(2))
    assert whole < 2.6 * half, (half, whole)


def _claiming(mirror: Mirror) -> int:
    """Buffers that a claim touches after 500 more writes of the only record."""
    with mirror.product(autocommit=True) as product:
        product.execute(
            """DO $$ BEGIN
                   FOR n IN 1..500 LOOP
                       UPDATE salesforce.contact SET last_name = clock_timestamp()::text;
                   END LOOP;
               END $$"""
        )
    with mirror.db.transaction() as conn:
        conn.execute("SET LOCAL enable_seqscan = off")
        found = conn.execute(
            sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) ")
            + sql.SQL(outbox._EARLIEST).format(mirror=sql.Identifier(CONNECTION, "contact")),
            {"connection": CONNECTION, "object": "contact", "limit": 50},
        ).fetchone()
    assert found is not None
    ((plan,),) = found
    assert plan["Plan"]["Actual Rows"] == 1
    return int(plan["Plan"]["Shared Hit Blocks"] + plan["Plan"]["Shared Read Blocks"])
