"""Few changes in many records: a window, a window that says nothing new, and single changes of the relay."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any

import psycopg
import pyarrow as pa
from adbc_driver_postgresql import dbapi
from psycopg import sql

from crm_assets.core.model import Object, Page, Source
from crm_assets.store.database import Database, as_sync_role
from crm_assets_tests.bench import engine, limit, records
from crm_assets_tests.bench.measure import Setting
from crm_assets_tests.bench.server import ROOT

_TIMES = 30
"""Repetitions of what takes milliseconds; the median counts."""
_OLDER = "UPDATE {m} SET phone = 'old', _version = _version - interval '1 day' WHERE _version >= '2025-01-30'"


def prepare(setting: Setting) -> float:
    """Both tables with all records in them: the mirror, and the plain one of the limit."""
    from crm_assets.mirror.sync import sync

    limit.copy(setting.database, limit.bulk(setting.server))
    with engine.opened(setting, bulk_threshold=0) as (db, connector, obj):
        report = sync(db, engine.home(setting), connector, obj)
    assert report.inserted == setting.rows, report
    # As autovacuum would have left it a minute later.
    with psycopg.connect(setting.database, autocommit=True) as conn:
        conn.execute("VACUUM ANALYZE")
    return report.seconds


def _window(again: bool) -> Callable[[Setting], float]:
    def read(setting: Setting) -> float:
        """The second of two windows in one process; before it, the first one's changes are taken back."""
        from crm_assets.mirror.sync import sync

        with engine.opened(setting) as (db, connector, obj):
            sync(db, engine.home(setting), connector, obj)
            if not again:
                _take_back(db)
            started = time.perf_counter()
            report = sync(db, engine.home(setting), connector, obj)
            seconds = time.perf_counter() - started
        assert report.mode == "incremental" and report.rows_read == setting.changed, report
        assert report.updated == (0 if again else setting.changed), report
        return seconds

    return read


def _take_back(db: Database) -> None:
    with db.transaction() as conn:
        as_sync_role(conn)
        conn.execute(sql.SQL(_OLDER).format(m=sql.Identifier("salesforce", "contact")))


def _by_hand(setting: Setting) -> float:
    """COPY into a temporary table and INSERT … ON CONFLICT, on a connection that stands."""
    seconds = 0.0
    with dbapi.connect(setting.database) as conn:
        for _ in range(2):
            started = time.perf_counter()
            _upsert(conn, pa.concat_tables(list(limit.rest(setting.server, f"{ROOT}/query/new-0"))))
            seconds = time.perf_counter() - started
    return seconds


def _upsert(conn: Any, table: pa.Table) -> None:
    names = ["Id", *records.TYPES]
    listed = ", ".join(f'"{name}"' for name in names)
    changes = ", ".join(f'"{name}" = excluded."{name}"' for name in records.TYPES)
    with conn.cursor() as cursor:
        cursor.execute(f'CREATE TEMP TABLE incoming ("Id" text, {limit.columns_sql()}) ON COMMIT DROP')
        cursor.adbc_ingest("incoming", table, mode="append", temporary=True)
        cursor.execute(
            f"INSERT INTO public.contact ({listed}) SELECT {listed} FROM incoming "
            f'ON CONFLICT ("Id") DO UPDATE SET {changes}'
        )
    conn.commit()


def _single() -> Callable[[Setting], float]:
    """What the relay does to the database with records that it has read: stage and apply."""

    def write(setting: Setting) -> float:
        from crm_assets.store import stage
        from crm_assets.store.apply import apply

        count = setting.rows
        with engine.opened(setting) as (db, _, obj), _ids(setting) as ids:
            taken: list[float] = []
            for turn in range(_TIMES):
                page = _page(obj, ids[turn * count : (turn + 1) * count])
                observed_at = db.now()
                started = time.perf_counter()
                with db.transaction() as conn:
                    stage.put(conn, "salesforce", obj, page, Source.ID, observed_at)
                applied = apply(db, "salesforce", obj)
                taken.append(time.perf_counter() - started)
                assert applied.updated == count, applied
        return median(taken)

    return write


def _single_by_hand() -> Callable[[Setting], float]:
    def write(setting: Setting) -> float:
        count, names = setting.rows, ["Id", *records.TYPES]
        statement = sql.SQL("INSERT INTO public.contact ({n}) VALUES ({v}) ON CONFLICT ({k}) DO UPDATE SET {s}").format(
            n=sql.SQL(", ").join(map(sql.Identifier, names)),
            v=sql.SQL(", ").join([sql.Placeholder()] * len(names)),
            k=sql.Identifier("Id"),
            s=sql.SQL(", ").join(sql.SQL("{0} = excluded.{0}").format(sql.Identifier(name)) for name in records.TYPES),
        )
        with psycopg.connect(setting.database) as conn, _ids(setting) as ids:
            taken: list[float] = []
            for turn in range(_TIMES):
                rows = [
                    [one, *records.values(turn, changed=60).values()] for one in ids[turn * count : (turn + 1) * count]
                ]
                started = time.perf_counter()
                conn.cursor().executemany(statement, rows)
                conn.commit()
                taken.append(time.perf_counter() - started)
        return median(taken)

    return write


@contextmanager
def _ids(setting: Setting) -> Iterator[list[str]]:
    with psycopg.connect(setting.database) as conn:
        yield [row[0] for row in conn.execute('SELECT "Id" FROM public.contact LIMIT 3000')]


def _page(obj: Object, ids: list[str]) -> Page:
    from crm_assets.connectors.salesforce.cast import page_from_reply

    shown = ",".join(records.salesforce(one, number, changed=60) for number, one in enumerate(ids))
    page = page_from_reply(obj, b'{"done": true, "records": [%s]}' % shown.encode())
    assert page is not None
    return page


WORKS: dict[str, Callable[[Setting], float]] = {
    "prepare/crm_assets": prepare,
    "incremental/crm_assets": _window(again=False),
    "incremental/limit": _by_hand,
    "incremental_unchanged/crm_assets": _window(again=True),
    "incremental_unchanged/limit": _by_hand,
    "apply_1/crm_assets": _single(),
    "apply_1/limit": _single_by_hand(),
    "apply_100/crm_assets": _single(),
    "apply_100/limit": _single_by_hand(),
}
