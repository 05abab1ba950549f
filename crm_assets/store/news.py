"""News: which records of a page tell the mirror something.

Every window overlaps the last one, so that most of what is read again is in the mirror already. Such a record would
travel through the stage only to be found unchanged. It is left out before it lands if the mirror shows the same
version with the same values, and nothing waits for a read of it: ``apply`` would do nothing with it either.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyarrow as pa
import pyarrow.compute as pc
from psycopg import DataError, sql

from crm_assets.core.model import Object
from crm_assets.store.apply_sql import staged
from crm_assets.store.database import Database, statement
from crm_assets.store.ddl import column_type, stage_schema
from crm_assets.store.stage import as_csv

_ROW = "_row"


def news(db: Database, connection: str, obj: Object, page: pa.Table) -> pa.Table:
    """The page (of ``Object.page_schema()``) without the records that are in the mirror as they are."""
    # A record that changed while it was read is in the page twice, so that rows are told apart and not ids.
    numbers = pa.array(range(page.num_rows), pa.int64())
    rows = page.append_column(_ROW, numbers).filter(pc.invert(page["_deleted"]))
    # What changed has another version: most comparisons end with two columns.
    rows = rows.filter(pc.is_in(rows[_ROW], value_set=_shown(db, connection, obj, rows, ())))
    shown = _shown(db, connection, obj, rows, [fld.column for fld in obj.fields])
    return page.filter(pc.invert(pc.is_in(numbers, value_set=shown)))


def _shown(db: Database, connection: str, obj: Object, rows: pa.Table, columns: Sequence[str]) -> pa.Array:
    """Numbers of the rows that the mirror shows with this version and these columns. None of them, if COPY cannot
    take a value: the rows then land, and are judged there."""
    if not rows.num_rows:
        return pa.array([], pa.int64())
    named = [_ROW, "id", "_version", *columns]
    types = ["bigint", "text", column_type(obj.version_type)]
    types += [column_type(obj.by_column[column].type) for column in columns]
    listed = sql.SQL(", ").join(map(sql.Identifier, named))
    shape = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(n), sql.SQL(k)) for n, k in zip(named, types, strict=True)
    )
    try:
        with db.transaction() as conn:
            conn.execute(statement("CREATE TEMPORARY TABLE crm_assets_page ({s}) ON COMMIT DROP", s=shape))
            copy = statement("COPY crm_assets_page ({c}) FROM STDIN (FORMAT csv)", c=listed)
            with conn.cursor().copy(copy) as sink:
                sink.write(as_csv(rows.select(named)))
            found = conn.execute(_question(connection, obj, columns)).fetchall()
    except DataError:
        found = []
    return pa.array([number for (number,) in found], pa.int64())


def _question(connection: str, obj: Object, columns: Sequence[str]) -> sql.Composed:
    """A subquery of at most one row is looked up by index, record by record: the work depends on the page, whatever
    the size of the mirror."""
    same = [statement("m._version {op} s._version", op=sql.SQL("=" if obj.version_field else "IS NOT DISTINCT FROM"))]
    same += [
        statement("m.{c} IS NOT DISTINCT FROM {v}", c=sql.Identifier(column), v=staged(obj.by_column[column]))
        for column in columns
    ]
    return statement(
        """SELECT s._row FROM crm_assets_page s CROSS JOIN LATERAL (
               SELECT FROM {mirror} m
                WHERE m.id = s.id AND m._deleted_at IS NULL AND m._observed_at IS NOT NULL AND {same} LIMIT 1) m
            WHERE NOT EXISTS (SELECT FROM {stage} w WHERE w.id = s.id)
              AND NOT EXISTS (SELECT FROM crm_assets.floor f
                               WHERE f.connection = {connection} AND f.object = {object} AND f.id = s.id)""",
        mirror=sql.Identifier(connection, obj.table),
        stage=sql.Identifier(stage_schema(connection), obj.table),
        connection=sql.Literal(connection),
        object=sql.Literal(obj.table),
        same=sql.SQL(" AND ").join(same),
    )
