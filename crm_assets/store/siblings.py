"""Writes of records that live within the same one, and have no name of their own: the lines of an order.

Some vendors take a line away by naming those that stay. While such a call is under way, nothing else may be written
within the same record: a line that is added meanwhile would be undone, and two calls would each bring back what the
other took away.
"""

from __future__ import annotations

from collections.abc import Sequence

from crm_assets.core.model import Object, Op
from crm_assets.store.database import Conn
from crm_assets.store.write import Write


def apart(conn: Conn, connection: str, obj: Object, writes: Sequence[Write]) -> list[Write]:
    """Of the writes that could be sent now, those that may go out together; the others wait for them."""
    if obj.parent is None or obj.natural_key or not obj.deletable or not writes:
        return list(writes)
    # Claims of this object take turns from here, so that each sees what the one before has taken.
    conn.execute("SELECT pg_advisory_xact_lock(hashtextextended(%s, 0))", (f"siblings:{connection}.{obj.table}",))
    under_way: dict[str, bool] = {}
    for parent, deletes in conn.execute(
        """SELECT coalesce(split_part(id, ':', 1), new ->> %s), bool_or(op = 'delete')
             FROM crm_assets.unarrived
            WHERE connection = %s AND object = %s AND state IN ('sending', 'unknown') GROUP BY 1""",
        (obj.parent_column, connection, obj.table),
    ):
        under_way[parent] = deletes
    result = []
    for write in sorted(writes, key=lambda w: w.seq):
        parent = write.id.partition(":")[0] if write.id else str(write.new.get(str(obj.parent_column)))
        deletes = write.op is Op.DELETE
        if parent in under_way and (deletes or under_way[parent]):
            continue
        under_way[parent] = deletes
        result.append(write)
    return result
