"""Every field of every record, in parts: a comparison that stops goes on behind its last finished part."""

from __future__ import annotations

from datetime import datetime, timedelta

from crm_assets.connectors.base import Connector
from crm_assets.core.compare import by_ids
from crm_assets.core.model import Object, Page, Window
from crm_assets.core.width import storable
from crm_assets.reconcile import sides
from crm_assets.store import fills
from crm_assets.store.database import Database

_PART = 100_000
"""Records of one part."""
_RESUMED_WITHIN = timedelta(hours=24)
_SUSPECTED = 1_000
"""Records of a part that differ only in what the CRM calculates and are read one by one all the same; where more do,
as after a formula over the date, the columns are read for all records, by whoever reads the object next."""


def suspects(db: Database, connector: Connector, obj: Object) -> tuple[set[str], int]:
    """Ids of all records that are not the same on both ends, and how many records the CRM has.

    Suspects of a part are remembered before the next part begins; those of earlier tries are among them.
    """
    connection = connector.config.name
    parts = _parts(db, connector, obj)
    seen = 0
    for window in parts:
        found, rows = _of_part(db, connector, obj, window)
        seen += rows
        if window is None:
            return found, seen
        _remember(db, connection, obj.table, window.high, found)
    resumed = parts[0] is not None and parts[0].low is not None
    return _remembered(db, connection, obj.table), connector.count(obj) if resumed else seen


def _of_part(db: Database, connector: Connector, obj: Object, window: Window | None) -> tuple[set[str], int]:
    import pyarrow.compute as pc

    connection = connector.config.name
    remote: set[str] = set()
    found: set[str] = set()
    recalculated: set[str] = set()
    for page in map(storable, connector.read(obj, window)):
        alive = page.table.filter(pc.invert(page.table["_deleted"]))
        remote.update(alive["id"].to_pylist())
        remote.update(poison.id for poison in page.poison)
        for record_id, columns in sides.differing(db, connection, obj, Page(alive)).items():
            (recalculated if set(columns) <= set(obj.calculated) else found).add(record_id)
    if len(recalculated) > _SUSPECTED:
        with db.transaction() as conn:
            fills.refresh(conn, connection, obj.table, obj.calculated)
    else:
        found |= recalculated
    here = sides.local_ids(db, connection, obj) if window is None else sides.ids_within(db, connection, obj, window)
    return found | {finding.id for finding in by_ids(remote, here)}, len(remote)


def _parts(db: Database, connector: Connector, obj: Object) -> list[Window | None]:
    """The whole in parts of about equal size, less what an earlier try has finished."""
    connection = connector.config.name
    if obj.version_field is None or obj.version_text:
        return [None]
    low = _position(db, connection, obj.table)
    high = connector.bound(obj, None).high.replace(microsecond=0) + timedelta(seconds=1)
    rest = Window(low, high)
    rows = sides.counts(db, connection, obj, rest, [])[0]
    if low is None and rows <= _PART:
        return [None]
    bounds = sides.boundaries(db, connection, obj, rest, -(-rows // _PART))
    return [Window(start, end) for start, end in zip([low, *bounds], [*bounds, high], strict=True)]


def _position(db: Database, connection: str, table: str) -> datetime | None:
    """How far an unfinished comparison has come; an old one begins anew."""
    with db.transaction() as conn:
        row = conn.execute(
            """UPDATE crm_assets.cursor
                  SET compare_began = CASE WHEN compare_began > clock_timestamp() - %(within)s THEN compare_began
                          ELSE clock_timestamp() END,
                      compared_to = CASE
                          WHEN compare_began > clock_timestamp() - %(within)s THEN compared_to END,
                      compare_suspects = CASE
                          WHEN compare_began > clock_timestamp() - %(within)s THEN compare_suspects ELSE '{}' END
                WHERE connection = %(c)s AND object = %(o)s RETURNING compared_to""",
            {"within": _RESUMED_WITHIN, "c": connection, "o": table},
        ).fetchone()
    return row[0] if row else None


def _remember(db: Database, connection: str, table: str, to: datetime, found: set[str]) -> None:
    with db.transaction() as conn:
        conn.execute(
            """UPDATE crm_assets.cursor SET compared_to = %s, compare_suspects = compare_suspects || %s
                WHERE connection = %s AND object = %s""",
            (to, sorted(found), connection, table),
        )


def _remembered(db: Database, connection: str, table: str) -> set[str]:
    with db.transaction() as conn:
        row = conn.execute(
            "SELECT compare_suspects FROM crm_assets.cursor WHERE connection = %s AND object = %s", (connection, table)
        ).fetchone()
    return set(row[0]) if row else set()


def finished(db: Database, connection: str, table: str, as_of: datetime) -> None:
    """The comparison that began before ``as_of`` is over, its suspects are dealt with."""
    with db.transaction() as conn:
        conn.execute(
            """UPDATE crm_assets.cursor
                  SET compared_at = %s, compared_to = NULL, compare_began = NULL, compare_suspects = '{}'
                WHERE connection = %s AND object = %s""",
            (as_of, connection, table),
        )


def due(db: Database, connection: str, table: str, every: timedelta) -> bool:
    """Whether the last comparison of fields is older than ``every``, or there was none."""
    with db.transaction() as conn:
        row = conn.execute(
            """SELECT compared_at > clock_timestamp() - %s FROM crm_assets.cursor
                WHERE connection = %s AND object = %s""",
            (every, connection, table),
        ).fetchone()
    return not (row and row[0])
