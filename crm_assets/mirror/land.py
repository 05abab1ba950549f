"""Landing: pages of one load into the stage table, with dlt, or by a plain COPY where there are few rows.

dlt reads Arrow and writes Parquet, which its Postgres destination copies in binary. It keeps no state of ours: each
load has a pipeline and a directory of its own, removed afterwards. Binary COPY reinterprets the bytes of a column
whose type differs from the table's, without any error; so every page is cast to the described schema before dlt sees
it, and dlt's own schema is frozen.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain
from pathlib import Path
from typing import Any

import pyarrow as pa
from psycopg import DataError

from crm_assets.core.errors import FatalError
from crm_assets.core.model import FieldType, Object, Page, Source
from crm_assets.store import stage
from crm_assets.store.database import Database
from crm_assets.store.ddl import column_type, columns_of, stage_schema
from crm_assets.store.loads import Load

_ROWS_AT_ONCE = 50_000
FEW_ROWS = 5_000
"""So many are COPYed at once, as single changes are: they cost a tenth of the fixed part of a dlt run."""

_CONFIG = {
    "runtime.dlthub_telemetry": False,
    "runtime.log_level": "ERROR",
    "data_writer.disable_compression": True,
    "data_writer.file_max_items": 250_000,
    # A data error counts as transient for dlt and would be tried five times.
    "load.raise_on_max_retries": 1,
    "load.delete_completed_jobs": True,
    "load.workers": 2,
    "restore_from_destination": False,
}

_HINTS: dict[FieldType, dict[str, Any]] = {
    FieldType.TEXT: {"data_type": "text"},
    FieldType.REFERENCE: {"data_type": "text"},
    FieldType.BOOLEAN: {"data_type": "bool"},
    FieldType.INTEGER: {"data_type": "bigint"},
    FieldType.NUMBER: {"data_type": "decimal", "precision": 38, "scale": 18},
    FieldType.DATE: {"data_type": "date"},
    FieldType.TIME: {"data_type": "time"},
    FieldType.TIMESTAMP: {"data_type": "timestamp"},
}


def land(db: Database, home: Path, load: Load, obj: Object, tables: Iterator[pa.Table], source: Source) -> int:
    """Append all tables (see ``joined``) to the stage; returns the number of rows. On an error nothing of the load
    counts.

    The rows become visible to ``apply`` only when ``loads.land`` has marked the load.
    """
    _sweep(home, load)
    first, rows = [], 0
    for table in tables:
        first.append(table)
        rows += table.num_rows
        if rows > FEW_ROWS:
            break
    if not first:
        return 0
    verify(db, stage_schema(load.connection), obj)
    if rows <= FEW_ROWS:
        # What CSV cannot carry, dlt does.
        with suppress(DataError), db.transaction() as conn:
            return sum(stage.put_load(conn, load.connection, obj, _stamped(table, load, source)) for table in first)
    with _alone_the_first_time(db, load.connection):
        return _run(db, home, load, obj, chain(first, tables), source)


def _sweep(home: Path, load: Load) -> None:
    """Remove what killed loads of the object left on the disk; the lease says that nobody is landing them any more."""
    own = re.compile(rf"{re.escape(f'{load.connection}_{load.table}')}_\d+")
    for directory in (home / "dlt").glob(f"{load.connection}_{load.table}_*"):
        if own.fullmatch(directory.name):
            shutil.rmtree(directory, ignore_errors=True)


def verify(db: Database, schema: str, obj: Object) -> None:
    """The table has exactly the types that the pages are cast to; binary COPY would not notice a difference."""
    expected = {fld.column: column_type(fld.type) for fld in obj.fields} | {"_version": column_type(obj.version_type)}
    with db.transaction() as conn:
        present = columns_of(conn, schema, obj.table)
    for column, kind in expected.items():
        found = present.get(column)
        if found is None or found != kind:
            raise FatalError(
                f"{schema}.{obj.table}.{column} is {found or 'missing'} where the describe "
                f"says {kind}; run `crm-assets describe`"
            )


@contextmanager
def _alone_the_first_time(db: Database, connection: str) -> Iterator[None]:
    """dlt makes its own tables at its first load; two processes doing so at once would fail each other."""
    with db.transaction() as conn:
        ready = conn.execute("SELECT to_regclass(%s)", (f"{stage_schema(connection)}._dlt_loads",)).fetchone()
        if ready is None or ready[0] is None:
            conn.execute("SELECT pg_advisory_xact_lock(hashtext('crm_assets.dlt'), hashtext(%s))", (connection,))
            yield
            return
    yield


def _run(db: Database, home: Path, load: Load, obj: Object, tables: Iterator[pa.Table], source: Source) -> int:
    # Late: dlt takes seconds to import, and a window that tells nothing new does without it.
    import dlt

    from crm_assets.mirror.destination import destination

    name = f"{load.connection}_{load.table}_{load.load_id}"
    directory = home / "dlt" / name
    rows = 0

    def stamped() -> Iterator[pa.Table]:
        nonlocal rows
        for table in tables:
            rows += table.num_rows
            yield _stamped(table, load, source)

    os.environ.setdefault("RUNTIME__DLTHUB_TELEMETRY", "false")
    for key, value in _CONFIG.items():
        dlt.config[key] = value
    pipeline = dlt.pipeline(
        pipeline_name=name,
        pipelines_dir=str(directory),
        destination=destination(db.url),
        dataset_name=stage_schema(load.connection),
        progress=None,
    )
    try:
        info = pipeline.run(
            stamped(),
            table_name=obj.table,
            columns=_columns(obj),
            write_disposition="append",
            loader_file_format="parquet",
            schema_contract={"columns": "freeze", "data_type": "freeze"},
        )
        info.raise_on_failed_jobs()
    finally:
        pipeline.deactivate()
        shutil.rmtree(directory, ignore_errors=True)
    return rows


def _stamped(table: pa.Table, load: Load, source: Source) -> pa.Table:
    count = table.num_rows
    return (
        table.append_column("_load", pa.repeat(pa.scalar(load.load_id, pa.int64()), count))
        .append_column("_source", pa.repeat(pa.scalar(source.value, pa.string()), count))
        .append_column("_observed_at", pa.repeat(pa.scalar(load.observed_at, pa.timestamp("us", "UTC")), count))
    )


def _columns(obj: Object) -> dict[str, Any]:
    hints: dict[str, Any] = {
        "id": {"data_type": "text"},
        "_version": _HINTS[obj.version_type],
        "_deleted": {"data_type": "bool"},
        "_load": {"data_type": "bigint"},
        "_source": {"data_type": "text"},
        "_observed_at": {"data_type": "timestamp"},
    }
    for fld in obj.fields:
        hints[fld.column] = _HINTS[fld.type]
    return {name: {"name": name, **hint} for name, hint in hints.items()}


def joined(obj: Object, pages: Iterator[Page]) -> Iterator[pa.Table]:
    """Pages cast to the described schema and joined, so that small pages do not mean small copies."""
    schema = obj.page_schema()
    waiting: list[pa.Table] = []
    count = 0
    for page in pages:
        table = page.table
        if table.schema.names != schema.names:
            raise FatalError(f"a page of {obj.name} has other columns than its describe")
        if table.num_rows:
            waiting.append(table.cast(schema))
            count += table.num_rows
        if count >= _ROWS_AT_ONCE:
            whole = pa.concat_tables(waiting).combine_chunks()
            # Not held while the copy is stored.
            waiting, count = [], 0
            del page, table
            yield whole
    if waiting:
        yield pa.concat_tables(waiting).combine_chunks()
