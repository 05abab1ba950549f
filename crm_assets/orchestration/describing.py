"""Keeping up with the CRM's schema: a mirror's run notices new fields and has them filled for all rows."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

from crm_assets.connections import ObjectSpec
from crm_assets.orchestration.opening import the_object

if TYPE_CHECKING:
    from crm_assets.core.model import Object
    from crm_assets.runtime import Connection
    from crm_assets.store.database import Database

log = logging.getLogger(__name__)

BELIEVED = timedelta(minutes=10)
"""How long a stored describe is taken for granted: asking is a call per object, and runs may come every minute."""


def current(connection: Connection, name: str, *, anew: bool = False) -> Object:
    """The object as the CRM describes it, asked at most every ten minutes or if defs.yaml asks for something else;
    ``anew`` asks in any case. What came new is stored, gets its columns, and the next read is a full one."""
    from crm_assets.core.errors import RetriableError

    table = connection.spec.table(name)
    choice = connection.spec.objects[name]
    stored = the_object(connection, table)
    if not anew and _believed(connection.db, connection.name, table) and _chosen_so(stored, choice):
        return stored
    try:
        return _taken_over(connection, name, stored)
    except RetriableError as error:
        if anew:
            raise
        # The read that follows meets the same trouble and reports it, with how far it came.
        log.warning("%s.%s: not described anew: %s", connection.name, table, error)
        return stored


def reads_anew(stored: Object, now: Object) -> bool:
    """Whether rows that have not changed in the CRM lack something: a field, or records outside the old ``where``."""
    return bool(now.by_name.keys() - stored.by_name.keys()) or now.where != stored.where


def keeping_types(stored: Object, now: Object) -> Object:
    """``now``, but each known field as wide as its column was made: a column is never retyped under a product."""
    kept = (stored.by_name.get(fld.name, fld) for fld in now.fields)
    fields = tuple(fld if fld.type is before.type else before for fld, before in zip(now.fields, kept, strict=True))
    return replace(now, fields=fields)


def _taken_over(connection: Connection, name: str, stored: Object) -> Object:
    from crm_assets.mirror.describing import choose
    from crm_assets.settings import Settings
    from crm_assets.store import catalog, ddl

    db, choice = connection.db, connection.spec.objects[name]
    described = connection.connector.describe(name, catalog.columns(db, connection.name, name))
    now = keeping_types(stored, choose(described, choice))
    if now == stored and (stored.table in catalog.writable(db, connection.name)) is choice.write:
        with db.transaction() as conn:
            catalog.save(conn, connection.name, now, writable=choice.write)
        return now
    if reads_anew(stored, now):
        # Before the columns: if this process dies in between, one full read is more than needed, and none is missing.
        with db.transaction() as conn:
            conn.execute(
                "UPDATE crm_assets.cursor SET cursor = NULL WHERE connection = %s AND object = %s",
                (connection.name, stored.table),
            )
    ddl.ensure_object(db, connection.name, now, write=choice.write)
    catalog.write_snapshot(Settings().home, connection.name, catalog.load(db, connection.name))
    log.info("%s.%s: described anew", connection.name, stored.table)
    return now


def _believed(db: Database, connection: str, table: str) -> bool:
    with db.transaction() as conn:
        row = conn.execute(
            """SELECT described_at > clock_timestamp() - %s FROM crm_assets.object
                WHERE connection = %s AND object = %s""",
            (BELIEVED, connection, table),
        ).fetchone()
    return bool(row and row[0])


def _chosen_so(stored: Object, choice: ObjectSpec) -> bool:
    if (stored.where, stored.external_id) != (choice.where, choice.external_id):
        return False
    return choice.fields == "*" or set(choice.fields) <= {*stored.by_name, stored.id_field}
