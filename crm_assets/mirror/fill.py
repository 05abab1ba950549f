"""Fill: what rows lack that are in the mirror already: columns that came new, rows that came into the choice, and the
present values of what the CRM calculates."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace

from crm_assets.connectors.base import Connector
from crm_assets.core.errors import Busy
from crm_assets.core.model import Object
from crm_assets.core.width import storable
from crm_assets.mirror.choice import catch_up
from crm_assets.store import apply_fill, fills, loads, setaside
from crm_assets.store.database import Database
from crm_assets.store.fills import Fill

SECONDS = 60.0
"""How long a run fills; the next one goes on where it stopped, so that the object is read meanwhile."""


@dataclass(frozen=True)
class Filled:
    """``rows`` got a value or came in, ``left`` rows left the choice; ``open`` is what lacks values still."""

    rows: int = 0
    left: int = 0
    open: tuple[str, ...] = ()


def fill(db: Database, connector: Connector, obj: Object, seconds: float = SECONDS) -> Filled:
    """Fill what is to be filled, for about so long. Nothing while another process reads the object.

    Raises what the connector raises; what was filled by then counts, and is not read again.
    """
    connection = connector.config.name
    if not fills.begin(db, connection, obj.table):
        return Filled()
    until, rows, left = time.monotonic() + seconds, 0, 0
    try:
        with loads.leased(db, connection, obj.table):
            for one in fills.begin(db, connection, obj.table):
                if one.columns == (fills.ROWS,):
                    came, went = catch_up(db, connector, obj)
                    fills.keep(db, connection, obj.table, one, None, came)
                    rows, left = rows + came, left + went
                else:
                    rows += _columns(db, connector, obj, one, until)
    except Busy:
        pass
    open_ = (one for one in fills.begin(db, connection, obj.table) if not one.refresh)
    return Filled(rows, left, tuple(column for one in open_ for column in one.columns))


def _columns(db: Database, connector: Connector, obj: Object, one: Fill, until: float) -> int:
    """Read the columns alone, of all records. Stops at a page behind which one can go on, when the time is over."""
    connection = connector.config.name
    columns = [column for column in one.columns if column in obj.by_column]
    if not columns:  # they went away again
        fills.keep(db, connection, obj.table, one, None, 0)
        return 0
    narrow = replace(
        obj,
        fields=tuple(
            fld for fld in obj.fields if fld.column in columns or fld.name in (obj.version_field, *obj.needed)
        ),
        external_id=None,
    )
    total = 0
    read = connector.read(narrow, None) if one.place is None else connector.read(narrow, None, after=one.place)
    for page in map(storable, read):
        if page.poison:
            with db.transaction() as conn:
                setaside.record(conn, connection, obj.table, page.poison)
        filled = apply_fill.fill(db, connection, obj, columns, page.table, one.begun_at, refresh=one.refresh)
        total += filled
        if page.next is not None:
            fills.keep(db, connection, obj.table, one, page.next, filled)
            if time.monotonic() > until:
                return total
    fills.keep(db, connection, obj.table, one, None, 0)
    return total
