"""What capture costs the product: the same UPDATE on a mirror and on a table of the same shape without triggers."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import psycopg
from psycopg import sql

from crm_assets_tests.bench.measure import Setting

_PLAIN = sql.Identifier("public", "plain")
_MIRROR = sql.Identifier("salesforce", "contact")


def _statement(table: sql.Identifier) -> Callable[[Setting], float]:
    """One statement that changes two columns of many rows."""

    def update(setting: Setting) -> float:
        with _opened(setting, table) as conn:
            ids = conn.execute(
                sql.SQL("SELECT max(id) FROM (SELECT id FROM {} ORDER BY id LIMIT %s) x").format(table),
                (setting.rows,),
            ).fetchone()
            assert ids is not None
            query = sql.SQL("UPDATE {} SET title = 'changed', phone = '+49 30 1' WHERE id <= %s").format(table)
            started = time.perf_counter()
            changed = conn.execute(query, ids).rowcount
            seconds = time.perf_counter() - started
        assert changed == setting.rows
        return seconds

    return update


def _single(table: sql.Identifier) -> Callable[[Setting], float]:
    """As many transactions of one row each."""

    def update(setting: Setting) -> float:
        with _opened(setting, table) as conn:
            ids = conn.execute(sql.SQL("SELECT row_id FROM {} LIMIT %s").format(table), (setting.rows,)).fetchall()
            query = sql.SQL("UPDATE {} SET title = %s WHERE row_id = %s").format(table)
            started = time.perf_counter()
            for number, (row_id,) in enumerate(ids):
                conn.execute(query, (f"changed {number}", row_id))
            return time.perf_counter() - started

    return update


def _opened(setting: Setting, table: sql.Identifier) -> psycopg.Connection[Any]:
    if table is _PLAIN:
        with psycopg.connect(setting.database, autocommit=True) as owner:
            owner.execute(sql.SQL("CREATE TABLE {} (LIKE {} INCLUDING ALL)").format(_PLAIN, _MIRROR))
            owner.execute(sql.SQL("INSERT INTO {} SELECT * FROM {}").format(_PLAIN, _MIRROR))
            owner.execute(sql.SQL("GRANT SELECT, UPDATE ON {} TO crm_assets_writer").format(_PLAIN))
            owner.execute(sql.SQL("VACUUM ANALYZE {}").format(_PLAIN))
    return psycopg.connect(setting.writer, autocommit=True)


WORKS: dict[str, Callable[[Setting], float]] = {
    "capture/crm_assets": _statement(_MIRROR),
    "capture/limit": _statement(_PLAIN),
    "capture_single/crm_assets": _single(_MIRROR),
    "capture_single/limit": _single(_PLAIN),
}
