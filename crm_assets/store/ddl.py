"""Tables of a connection: the mirror, its stage, their rights and triggers, all from the describe."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from psycopg import errors, sql
from sqlalchemy import Column, Dialect, Identity, MetaData, Table, text, types
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateTable

from crm_assets.core.model import FieldType, Object
from crm_assets.core.naming import identifier
from crm_assets.core.schema import Change
from crm_assets.store import capture, catalog, fills
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
        Column("row_id", types.Uuid(), primary_key=True, server_default=text("crm_assets.uuidv7()")),
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


def ensure_object(
    db: Database,
    connection: str,
    obj: Object,
    *,
    write: bool,
    fill: Sequence[str] = (),
    changes: Sequence[Change] = (),
    tries: int = _TRIES,
) -> None:
    """Create or extend the tables of one object and store its describe; nothing is ever dropped or retyped.

    ``fill`` are columns to be filled for the rows that are there, ``changes`` what is told of it. A lock that cannot
    be had within 200 ms is given up and tried again, because a waiting ALTER would make every later read of the table
    wait behind it; LockNotAvailable after so many tries.
    """
    for attempt in range(tries):
        try:
            with db.transaction() as conn:
                conn.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT_MS}ms'")
                conn.execute("SELECT pg_advisory_xact_lock(hashtext('crm_assets.ddl'), hashtext(%s))", (connection,))
                # Before the tables: whoever writes them holds the describe first.
                conn.execute(
                    "SELECT FROM crm_assets.object WHERE connection = %s AND object = %s FOR UPDATE",
                    (connection, obj.table),
                )
                _ensure(conn, connection, obj, write=write)
                fills.ask(conn, connection, obj.table, fill)
                _tell(conn, connection, obj.table, changes)
            return
        except errors.LockNotAvailable:
            if attempt == tries - 1:
                raise
            time.sleep(min(0.05 * 2**attempt, 1.0))


def store_describe(
    db: Database, connection: str, obj: Object, *, write: bool, fill: Sequence[str] = (), changes: Sequence[Change] = ()
) -> None:
    """Store a describe that asks nothing of the tables."""
    with db.transaction() as conn:
        catalog.save(conn, connection, obj, writable=write)
        fills.ask(conn, connection, obj.table, fill)
        _tell(conn, connection, obj.table, changes)


def _tell(conn: Conn, connection: str, table: str, changes: Sequence[Change]) -> None:
    for change in changes:
        conn.execute(
            """INSERT INTO crm_assets.schema_change (connection, object, field, kind, was, now, "column")
               VALUES (%s, %s, %s, %s, %s, %s, %s)""",
            (connection, table, change.field, change.kind, change.was, change.now, change.column),
        )


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
        if _add_columns(conn, table) and table.schema != connection:
            _reread_staged(conn, connection, obj)
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
    # A reply is looked for beside every observation, and hardly ever there.
    conn.execute(
        statement(
            "CREATE INDEX IF NOT EXISTS {i} ON {t} (id) WHERE _source = 'reply'",
            i=sql.Identifier(identifier(f"{obj.table}_replies")),
            t=sql.Identifier(stage_schema(connection), obj.table),
        )
    )
    for column in looked_up(obj):
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


def looked_up(obj: Object) -> list[str]:
    """Columns by which rows are found: of records that live within others their parent and what they refer to, and
    the references through which a formula shows another record."""
    found = {obj.by_name[own].column for f in obj.fields for own, _ in f.through if own in obj.by_name}
    if obj.parent is not None:
        found |= {obj.by_name[obj.parent].column, *(f.column for f in obj.fields if f.reference_to)}
    return sorted(found)


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


def _reread_staged(conn: Conn, connection: str, obj: Object) -> None:
    """What waits in the stage was read without the new columns, and would empty them: it is read again by id."""
    conn.execute(
        statement(
            """WITH lacking AS (
                   DELETE FROM {stage} WHERE _source <> 'reply' AND NOT _deleted RETURNING id)
               INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, reason)
               SELECT %s, 'reread:' || gen_random_uuid(), %s, id, 'reread', 'new field'
                 FROM (SELECT DISTINCT id FROM lacking) x""",
            stage=sql.Identifier(stage_schema(connection), obj.table),
        ),
        (connection, obj.table),
    )


def _add_columns(conn: Conn, table: Table) -> bool:
    """Columns that the table lacks; whether there were any."""
    assert table.schema is not None
    present = columns_of(conn, table.schema, table.name)
    missing = [column for column in table.columns if column.name not in present]
    for column in missing:
        conn.execute(
            statement(
                "ALTER TABLE {t} ADD COLUMN {c} {k}",
                t=sql.Identifier(table.schema, table.name),
                c=sql.Identifier(column.name),
                k=sql.SQL(column.type.compile(dialect=_DIALECT)),
            )
        )
    return bool(missing)
