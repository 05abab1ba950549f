"""Fills are asked for by one process while another one keeps how far they have come."""

from __future__ import annotations

import psycopg

from crm_assets.store import fills
from crm_assets.store.database import Database
from crm_assets_tests.store.kit import CONNECTION, in_thread, wait_until

_OBJECT = (CONNECTION, "contact")


def test_a_fill_and_a_refresh_of_its_columns_are_nobodys_deadlock(db: Database) -> None:
    """They take the rows in one order, whatever order those lie in."""

    def refresh() -> None:
        with db.transaction() as conn:
            fills.refresh(conn, *_OBJECT, ["a", "b"])

    def waiting(count: int) -> bool:
        with db.transaction() as conn:
            found = conn.execute(
                """SELECT count(*) FROM pg_stat_activity
                    WHERE datname = current_database() AND wait_event_type = 'Lock'"""
            ).fetchone()
        return found == (count,)

    with db.transaction() as conn:
        fills.ask(conn, *_OBJECT, ["a", "b"])
    (both,) = fills.begin(db, *_OBJECT)
    with psycopg.connect(db.url) as holder:
        # The first one lies behind the other now, and so small a table is read from its beginning to its end.
        holder.execute("""UPDATE crm_assets.fill SET rows = 0 WHERE "column" = 'a'""")
        holder.execute("ANALYZE crm_assets.fill")
        holder.commit()
        holder.execute("""SELECT 1 FROM crm_assets.fill WHERE "column" = 'b' FOR UPDATE""")
        with in_thread(lambda: fills.keep(db, *_OBJECT, both, "here", 1)) as kept:
            wait_until(lambda: waiting(1))
            with in_thread(refresh) as asked:
                wait_until(lambda: waiting(2))
                holder.rollback()
                asked.result(10)
            kept.result(10)
    (still,) = fills.begin(db, *_OBJECT)
    assert (still.columns, still.place) == (("a", "b"), "here")
