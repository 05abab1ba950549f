"""Tables of a connection: the mirror, its stage, their rights and triggers, all from the describe."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from psycopg import errors, sql
from sqlalchemy import Column, Dialect, Identity, MetaData, Table, text, types
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from crm_assets.core.model import FieldType, Object
from crm_assets.core.naming import identifier
from crm_assets.store import capture, catalog
from crm_assets.store.database import Conn, Database, statement

_DIALECT: Dialect = postgresql.dialect()  # type: ignore[no-untyped-call]

_TYPES: dict[FieldType, Callable[[], types.TypeEngine[Any]]] = {
    FieldType.TEXT: lambda: types.Text(),
    FieldType.REFERENCE: lambda: types.Text(),
    FieldType.BOOLEAN: lambda: types.Boolean(),
    FieldType.INTEGER: lambda: types.BigInteger(),
    FieldType.NUMBER: lambda: types.Numeric(),
    FieldType.DATE: lambda: types.Date(),
    FieldType.TIME: lambda: types.Time(),
    FieldType.TIMESTAMP: lambda: types.DateTime(timezone=True),
}

_LOCK_TIMEOUT_MS = 200
_TRIES = 25


def stage_schema(connection: str) -> str:
    return f"{connection}_stage"


def column_type(field_type: FieldType) -> str:
    """The Postgres type of a mirror column, as Postgres itself spells it."""
    return str(_TYPES[field_type]().compile(dialect=_DIALECT)).lower()


def mirror_table(connection: str, obj: Object) -> Table:
    """The mirror as SQLAlchemy sees it; products may use it too."""
    return Table(
        obj.table,
        MetaData(),
        Column("row_id", types.Uuid(), primary_key=True, server_default=text("uuidv7()")),
        Column("id", types.Text(), unique=True),
        *(Column(f.column, _TYPES[f.type]()) for f in obj.fields),
        Column("_version", _TYPES[obj.version_type]()),
        Column("_observed_at", types.DateTime(timezone=True)),
        Column("_deleted_at", types.DateTime(timezone=True)),
        schema=connection,
    )


def stage_table(connection: str, obj: Object) -> Table:
    """The stage: observations on their way into the mirror, all of one shape."""
    return Table(
        obj.table,
        MetaData(),
        Column("_seq", types.BigInteger(), Identity(always=True), primary_key=True),
        Column("_load", types.BigInteger()),
        Column("_source", types.Text(), nullable=False),
        Column("_observed_at", types.DateTime(timezone=True), nullable=False),
        Column("_outbox", types.BigInteger()),
        Column("_met_at", types.DateTime(timezone=True)),
        Column("id", types.Text()),
        Column("_version", _TYPES[obj.version_type]()),
        Column("_deleted", types.Boolean(), nullable=False),
        *(Column(f.column, _TYPES[f.type]()) for f in obj.fields),
        schema=stage_schema(connection),
    )


def ensure_object(db: Database, connection: str, obj: Object, *, write: bool) -> None:
    """Create or extend the tables of one object and store its describe; nothing is ever dropped or retyped.

    A lock that cannot be had within 200 ms is given up and tried again, because a waiting ALTER would make every
    later read of the table wait behind it.
    """
    for attempt in range(_TRIES):
        try:
            with db.transaction() as conn:
                conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_MS}ms'")
                conn.execute("SELECT pg_advisory_xact_lock(hashtext('crm_assets.ddl'), hashtext(%s))", (connection,))
                _ensure(conn, connection, obj, write=write)
            return
        except errors.LockNotAvailable:
            if attempt == _TRIES - 1:
                raise
            time.sleep(min(0.05 * 2**attempt, 1.0))


def _ensure(conn: Conn, connection: str, obj: Object, *, write: bool) -> None:
    schema, stage = sql.Identifier(connection), sql.Identifier(stage_schema(connection))
    for name in (schema, stage):
        conn.execute(statement("CREATE SCHEMA IF NOT EXISTS {name}", name=name))
    conn.execute(
        statement("GRANT USAGE ON SCHEMA {s} TO crm_assets_reader, crm_assets_writer, crm_assets_sync", s=schema)
    )
    conn.execute(statement("GRANT USAGE ON SCHEMA {s} TO crm_assets_sync", s=stage))
    for table in (mirror_table(connection, obj), stage_table(connection, obj)):
        conn.execute(str(CreateTable(table, if_not_exists=True).compile(dialect=_DIALECT)))
        _add_columns(conn, table)
    mirror = sql.Identifier(connection, obj.table)
    conn.execute(
        statement(
            "CREATE INDEX IF NOT EXISTS {i} ON {t} (row_id) WHERE id IS NULL",
            i=sql.Identifier(identifier(f"{obj.table}_unborn")),
            t=mirror,
        )
    )
    conn.execute(
        statement(
            "CREATE INDEX IF NOT EXISTS {i} ON {t} (id)",
            i=sql.Identifier(identifier(f"{obj.table}_id")),
            t=sql.Identifier(stage_schema(connection), obj.table),
        )
    )
    if obj.parent is not None:
        # Children are looked up by their parent, and by the records that they refer to.
        for column in sorted({obj.by_name[obj.parent].column, *(f.column for f in obj.fields if f.reference_to)}):
            conn.execute(
                statement(
                    "CREATE INDEX IF NOT EXISTS {i} ON {t} ({c})",
                    i=sql.Identifier(identifier(f"{obj.table}_{column}")),
                    t=mirror,
                    c=sql.Identifier(column),
                )
            )
    # The sync role's own rights are what apply needs, not what an owner has: it cannot drop or alter anything.
    conn.execute(statement("GRANT SELECT ON {t} TO crm_assets_reader", t=mirror))
    conn.execute(
        statement("GRANT SELECT, INSERT, UPDATE, DELETE ON {t} TO crm_assets_writer, crm_assets_sync", t=mirror)
    )
    conn.execute(
        statement(
            "GRANT SELECT, INSERT, UPDATE, DELETE ON {t} TO crm_assets_sync",
            t=sql.Identifier(stage_schema(connection), obj.table),
        )
    )
    catalog.save(conn, connection, obj, writable=write)
    columns = {
        name: kind for name, kind in columns_of(conn, connection, obj.table).items() if name not in _CONTROL_COLUMNS
    }
    capture.install(conn, connection, obj, columns, writable=write)


_CONTROL_COLUMNS = frozenset({"row_id", "id", "_version", "_observed_at", "_deleted_at"})


def columns_of(conn: Conn, schema: str, table: str) -> dict[str, str]:
    """Columns of a table as it is now, in order, with their types."""
    rows = conn.execute(
        """SELECT a.attname, format_type(a.atttypid, a.atttypmod) FROM pg_attribute a
            WHERE a.attrelid = format('%%I.%%I', %s::text, %s::text)::regclass AND a.attnum > 0 AND NOT a.attisdropped
            ORDER BY a.attnum""",
        (schema, table),
    ).fetchall()
    return dict(rows)


def _add_columns(conn: Conn, table: Table) -> None:
    assert table.schema is not None
    present = columns_of(conn, table.schema, table.name)
    for column in table.columns:
        if column.name not in present:
            conn.execute(
                statement(
                    "ALTER TABLE {t} ADD COLUMN {c} {k}",
                    t=sql.Identifier(table.schema, table.name),
                    c=sql.Identifier(column.name),
                    k=sql.SQL(column.type.compile(dialect=_DIALECT)),
                )
            )
