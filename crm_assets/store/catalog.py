"""The stored describe: what each object looks like, so that nothing has to ask the CRM to know it.

The table ``crm_assets.object`` is the truth. A JSON snapshot of it under the home directory serves Dagster's
definitions, which load without any connection.
"""

from __future__ import annotations

import hashlib
import json
from functools import lru_cache
from typing import Any

from psycopg.types.json import Jsonb

from crm_assets.core import schema
from crm_assets.core.model import Object
from crm_assets.store.database import Conn, Database
from crm_assets.store.snapshot import object_from_json, object_to_json, read_snapshot, write_snapshot

__all__ = [
    "columns",
    "doubt",
    "doubted",
    "fingerprint",
    "is_current",
    "load",
    "object_from_json",
    "object_to_json",
    "read_snapshot",
    "save",
    "writable",
    "write_snapshot",
]


def save(conn: Conn, connection: str, obj: Object, *, writable: bool) -> None:
    """Store a describe. The columns chosen for its fields are kept for ever, also for fields that went away."""
    conn.execute(
        """INSERT INTO crm_assets.object AS o
                  (connection, object, name, writable, described, columns, fingerprint, calculated, follows, rolls_up)
           VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s)
           ON CONFLICT (connection, object) DO UPDATE
               SET name = excluded.name, writable = excluded.writable, described = excluded.described,
                   columns = o.columns || excluded.columns, fingerprint = excluded.fingerprint,
                   calculated = excluded.calculated, follows = excluded.follows, rolls_up = excluded.rolls_up,
                   described_at = clock_timestamp()""",
        (
            connection,
            obj.table,
            obj.name,
            writable,
            Jsonb(object_to_json(obj)),
            Jsonb(schema.choices(obj)),
            fingerprint(obj),
            list(obj.calculated),
            Jsonb(_follows(obj)),
            any(fld.rolls_up for fld in obj.fields),
        ),
    )


def _follows(obj: Object) -> list[dict[str, Any]]:
    """What the object's formulas show of others: own reference column, the objects it may lead to, their field; and
    whether the object's versions are times."""
    pairs = dict.fromkeys(pair for fld in obj.fields for pair in fld.through)
    return [
        {"column": link.column, "objects": link.reference_to, "field": field, "dated": not obj.version_text}
        for own, field in pairs
        if (link := obj.by_name.get(own)) is not None
    ]


@lru_cache(maxsize=256)
def fingerprint(obj: Object) -> str:
    """Tells two describes of an object apart."""
    text = json.dumps(object_to_json(obj), sort_keys=True)
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def is_current(conn: Conn, connection: str, obj: Object) -> bool:
    """Whether this is the object's describe, and stays it until the transaction ends. True of one never stored."""
    row = conn.execute(
        "SELECT fingerprint = %s FROM crm_assets.object WHERE connection = %s AND object = %s FOR SHARE",
        (fingerprint(obj), connection, obj.table),
    ).fetchone()
    return row is None or bool(row[0])


def doubt(db: Database, connection: str, table: str) -> None:
    """The CRM refused what the describe says: whoever reads the object next describes it anew."""
    with db.transaction() as conn:
        conn.execute(
            "UPDATE crm_assets.object SET described_at = '-infinity' WHERE connection = %s AND object = %s",
            (connection, table),
        )


def doubted(db: Database, connection: str) -> set[str]:
    """API names of the objects whose describe was doubted and not taken anew since."""
    with db.transaction() as conn:
        rows = conn.execute(
            "SELECT name FROM crm_assets.object WHERE connection = %s AND described_at = '-infinity'", (connection,)
        ).fetchall()
    return {row[0] for row in rows}


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


def children(conn: Conn, connection: str, name: str) -> list[Object]:
    """Objects whose records live within others and refer to records of the object ``name``."""
    rows = conn.execute(
        """SELECT described FROM crm_assets.object
            WHERE connection = %s AND described ->> 'parent' IS NOT NULL
              AND EXISTS (SELECT FROM jsonb_array_elements(described -> 'fields') f WHERE f -> 'reference_to' ? %s)""",
        (connection, name),
    ).fetchall()
    return [object_from_json(described) for (described,) in rows]


def columns(db: Database, connection: str, object_name: str) -> dict[str, str]:
    """Columns chosen earlier for the fields of an object (API name → column); empty before its first describe."""
    with db.transaction() as conn:
        row = conn.execute(
            "SELECT columns FROM crm_assets.object WHERE connection = %s AND name = %s",
            (connection, object_name),
        ).fetchone()
    return dict(row[0]) if row else {}
