"""The stored describe: what each object looks like, so that nothing has to ask the CRM to know it.

The table ``crm_assets.object`` is the truth. A JSON snapshot of it under the home directory serves Dagster's
definitions, which load without any connection.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import fields as dataclass_fields
from pathlib import Path
from typing import Any

from psycopg.types.json import Jsonb

from crm_assets.core.model import Field, FieldType, Object
from crm_assets.store.database import Conn, Database

_FIELD_NAMES = tuple(f.name for f in dataclass_fields(Field))
_OBJECT_NAMES = tuple(f.name for f in dataclass_fields(Object) if f.name != "fields")


def object_to_json(obj: Object) -> dict[str, Any]:
    """A describe as JSON; ``object_from_json`` gives back an equal one."""
    return {name: getattr(obj, name) for name in _OBJECT_NAMES} | {
        "fields": [{name: getattr(fld, name) for name in _FIELD_NAMES} for fld in obj.fields]
    }


def object_from_json(data: Mapping[str, Any]) -> Object:
    known = {name: data[name] for name in _OBJECT_NAMES if name in data}
    return Object(fields=tuple(_field(item) for item in data["fields"]), **known)


def _field(data: Mapping[str, Any]) -> Field:
    known = {name: data[name] for name in _FIELD_NAMES if name in data}
    known["type"] = FieldType(known["type"])
    for name in ("picklist", "reference_to"):
        known[name] = tuple(known.get(name, ()))
    return Field(**known)


def save(conn: Conn, connection: str, obj: Object, *, writable: bool) -> None:
    """Store a describe. The columns chosen for its fields are kept for ever, also for fields that went away."""
    conn.execute(
        """INSERT INTO crm_assets.object AS o (connection, object, name, writable, described, columns)
           VALUES (%s, %s, %s, %s, %s, %s)
           ON CONFLICT (connection, object) DO UPDATE
               SET name = excluded.name, writable = excluded.writable, described = excluded.described,
                   columns = o.columns || excluded.columns, described_at = clock_timestamp()""",
        (
            connection,
            obj.table,
            obj.name,
            writable,
            Jsonb(object_to_json(obj)),
            Jsonb({fld.name: fld.column for fld in obj.fields}),
        ),
    )


def load(db: Database, connection: str) -> dict[str, Object]:
    """All described objects of a connection by table name."""
    with db.transaction() as conn:
        rows = conn.execute(
            "SELECT object, described FROM crm_assets.object WHERE connection = %s ORDER BY object",
            (connection,),
        ).fetchall()
    return {table: object_from_json(described) for table, described in rows}


def writable(db: Database, connection: str) -> set[str]:
    """Table names of the objects that the product may write."""
    with db.transaction() as conn:
        rows = conn.execute(
            "SELECT object FROM crm_assets.object WHERE connection = %s AND writable", (connection,)
        ).fetchall()
    return {row[0] for row in rows}


def columns(db: Database, connection: str, object_name: str) -> dict[str, str]:
    """Columns chosen earlier for the fields of an object (API name → column); empty before its first describe."""
    with db.transaction() as conn:
        row = conn.execute(
            "SELECT columns FROM crm_assets.object WHERE connection = %s AND name = %s",
            (connection, object_name),
        ).fetchone()
    return dict(row[0]) if row else {}


def _snapshot_path(home: Path, connection: str) -> Path:
    return home / "describe" / f"{connection}.json"


def write_snapshot(home: Path, connection: str, objects: Mapping[str, Object]) -> None:
    """Write the describes for the definitions; a reader sees the old file or the new one, never half."""
    path = _snapshot_path(home, connection)
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.{os.getpid()}")
    half.write_text(
        json.dumps({table: object_to_json(obj) for table, obj in objects.items()}, indent=1), encoding="utf-8"
    )
    half.replace(path)


def read_snapshot(home: Path, connection: str) -> dict[str, Object]:
    """The describes as last written; empty when there are none yet or the file is unreadable (it is only a copy)."""
    try:
        data = json.loads(_snapshot_path(home, connection).read_text(encoding="utf-8"))
        return {table: object_from_json(item) for table, item in data.items()}
    except (OSError, ValueError, KeyError, TypeError):
        return {}
