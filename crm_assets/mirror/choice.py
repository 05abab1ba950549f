"""Choice: which records of an object are mirrored. Another ``where`` reads what came into it, and only that."""

from __future__ import annotations

from dataclasses import replace

from psycopg import sql

from crm_assets.connectors.base import Connector
from crm_assets.core.model import Object, Source, Window
from crm_assets.core.width import storable
from crm_assets.store import setaside, stage
from crm_assets.store.apply import apply
from crm_assets.store.database import Database, statement


def catch_up(db: Database, connector: Connector, obj: Object) -> tuple[int, int]:
    """Compare the ids of the choice with the mirror's: read by id what came in, and what may have left. What the
    choice does not show any more leaves the mirror like a deleted record. Returns how many came and went."""
    listed = {record_id for ids in connector.ids(obj) for record_id in ids}
    here = mirrored(db, connector.config.name, obj)
    for some in _portions(sorted(listed - here) + sorted(here - listed), connector.max_fetch):
        read_by_id(db, connector, obj, some)
        apply(db, connector.config.name, obj)
    after = mirrored(db, connector.config.name, obj)
    return len(after - here), len(here - after)


def let_go(db: Database, connector: Connector, obj: Object, window: Window) -> int:
    """Records that changed in the window and are not within ``where`` any more: a read within it cannot show them.

    They are read by id and leave the mirror like deleted ones. Returns how many did. Costs two lists of ids.
    """
    changed = {i for ids in connector.ids(replace(obj, where=None), window) for i in ids}
    outside = changed - {i for ids in connector.ids(obj, window) for i in ids}
    here = mirrored(db, connector.config.name, obj, sorted(outside))
    for some in _portions(sorted(here), connector.max_fetch):
        read_by_id(db, connector, obj, some)
    if here:
        apply(db, connector.config.name, obj)
    return len(here - mirrored(db, connector.config.name, obj, sorted(here)))


def mirrored(db: Database, connection: str, obj: Object, among: list[str] | None = None) -> set[str]:
    """Ids of the mirror's live rows (all, or those ``among`` the given ones)."""
    with db.transaction() as conn:
        rows = conn.execute(
            statement(
                """SELECT id FROM {m} WHERE id IS NOT NULL AND _deleted_at IS NULL
                      AND (%(among)s::text[] IS NULL OR id = ANY (%(among)s::text[]))""",
                m=sql.Identifier(connection, obj.table),
            ),
            {"among": among},
        )
        return {row[0] for row in rows}


def read_by_id(db: Database, connector: Connector, obj: Object, ids: list[str]) -> None:
    """Stage what the CRM shows of these records now; what it does not show is gone."""
    connection, observed_at = connector.config.name, db.now()
    page = storable(connector.fetch(obj, ids))
    present = set(page.table["id"].to_pylist()) | {poison.id for poison in page.poison}
    with db.transaction() as conn:
        setaside.record(conn, connection, obj.table, page.poison)
        stage.put(conn, connection, obj, page, Source.ID, observed_at)
        absent = [(record_id, None) for record_id in ids if record_id not in present]
        stage.put_deleted(conn, connection, obj, absent, Source.ID, observed_at)


def _portions(ids: list[str], size: int) -> list[list[str]]:
    return [ids[at : at + size] for at in range(0, len(ids), size)]
