"""References of writes: row_ids that a product put in place of ids, and records that the CRM has merged away.

Parents go first. A write waits for the id of the row it refers to and says so; where creates wait for each other in
a circle, one of them leaves its reference to an update that follows; the child of a refused parent is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

from psycopg import sql
from psycopg.types.json import Jsonb

from crm_assets.core.model import Object, Op
from crm_assets.core.values import as_row_id
from crm_assets.store.database import Conn, statement
from crm_assets.store.write import Write


@dataclass(frozen=True, slots=True)
class _Parent:
    """The row that a row_id names: its id if it has one by now, else what became of its create."""

    table: str
    id: str | None
    state: str | None
    reason: str | None
    new: Mapping[str, Any]


def resolve(conn: Conn, connection: str, obj: Object, writes: Sequence[Write], known: str | None = None) -> list[Write]:
    """The writes that can be sent now, with ids in their references. The others have been told why not. ``known`` is a
    column whose reference needs none: the record is created together with the one it names."""
    columns = {fld.column: fld for fld in obj.fields if fld.reference_to and fld.column != known}
    if not any(not columns.keys().isdisjoint(w.new) for w in writes):
        return list(writes)
    kept = _survivors(conn, connection, {w.new[c] for w in writes for c in columns if isinstance(w.new.get(c), str)})
    result = []
    for write in writes:
        found: dict[str, str] = {}
        later: dict[str, str] = {}
        waits: tuple[str, UUID] | None = None
        refused: str | None = None
        for column, row_id, value in _given(write.new, columns):
            targets = columns[column].reference_to
            if row_id is None:
                survivors = [kept[target, value] for target in targets if (target, value) in kept]
                if survivors:
                    found[column] = survivors[0]
                continue
            parent = _parent(conn, connection, targets, row_id)
            if parent is not None and parent.id is not None:
                found[column] = parent.id
            elif parent is not None and parent.state == "rejected":
                refused = f"{column}: the create of {parent.table} {row_id} was rejected ({parent.reason})"
            elif parent is not None and parent.state == "discarded":
                refused = f"{column}: {parent.table} {row_id} never reached the CRM"
            elif (
                parent is not None
                and write.op is Op.CREATE
                and not columns[column].required
                and columns[column].updateable
                and _leads_back(conn, connection, parent, row_id, write.row_id)
            ):
                later[column] = value
            else:
                waits = column, row_id
        if refused is not None:
            _refuse(conn, connection, write, refused)
        elif waits is not None:
            conn.execute(
                """UPDATE crm_assets.outbox SET waiting_for = %s, waits_on = %s,
                          next_try_at = clock_timestamp() + interval '1 second' WHERE seq = %s""",
                (f"{waits[0]} {waits[1]}", waits[1], write.seq),
            )
        else:
            if later:
                _send_later(conn, write, later)
            new = {c: v for c, v in write.new.items() if c not in later} | found
            result.append(replace(write, new=new) if found or later else write)
    return result


def wake(conn: Conn, connection: str, row_ids: Sequence[UUID]) -> None:
    """What became of these rows' creates is known: who waits for them is due at once."""
    woken = conn.execute(
        """UPDATE crm_assets.outbox SET next_try_at = clock_timestamp()
            WHERE seq IN (SELECT seq FROM crm_assets.outbox
                           WHERE waits_on = ANY (%s) AND state = 'pending'
                           ORDER BY seq FOR NO KEY UPDATE SKIP LOCKED)""",
        (list(row_ids),),
    ).rowcount
    if woken:
        conn.execute("SELECT pg_notify('crm_assets_outbox', %s)", (connection,))


def _given(new: Mapping[str, Any], columns: Collection[str]) -> Iterator[tuple[str, UUID | None, str]]:
    for column in columns:
        value = new.get(column)
        if isinstance(value, str):
            yield column, as_row_id(value), value


def _survivors(conn: Conn, connection: str, ids: Collection[str]) -> dict[tuple[str, str], str]:
    """By (API name, id) of records that were merged away, the id of the one that was kept."""
    if not ids:
        return {}
    return {
        (name, record_id): survivor_id
        for name, record_id, survivor_id in conn.execute(
            """SELECT o.name, a.id, a.survivor_id
                 FROM crm_assets.alias a JOIN crm_assets.object o ON o.connection = a.connection AND o.object = a.object
                WHERE a.connection = %s AND a.id = ANY (%s) AND a.survivor_id IS NOT NULL""",
            (connection, list(ids)),
        )
    }


def _parent(conn: Conn, connection: str, targets: Sequence[str], row_id: UUID) -> _Parent | None:
    """Found in the first of the target objects that knows the row_id at all; None if none does (yet)."""
    for (table,) in conn.execute(
        "SELECT object FROM crm_assets.object WHERE connection = %s AND name = ANY (%s)", (connection, list(targets))
    ).fetchall():
        row = conn.execute(
            statement(
                """SELECT coalesce(a.survivor_id, m.id, c.confirmed, t.id), c.state, c.reason, c.new,
                          a.row_id IS NOT NULL OR m.row_id IS NOT NULL OR c.seq IS NOT NULL OR t.row_id IS NOT NULL
                     FROM (SELECT) AS one
                     LEFT JOIN crm_assets.alias a
                       ON a.connection = %(c)s AND a.object = %(o)s AND a.row_id = %(row_id)s
                     LEFT JOIN {mirror} m ON m.row_id = %(row_id)s
                     LEFT JOIN crm_assets.tombstone t
                       ON t.connection = %(c)s AND t.object = %(o)s AND t.row_id = %(row_id)s
                     LEFT JOIN LATERAL (
                       -- Confirmed but not applied yet: the outbox already knows the id.
                       SELECT x.seq, x.state, x.reason, x.new, CASE x.state WHEN 'confirmed' THEN x.id END AS confirmed
                         FROM crm_assets.outbox x
                        WHERE x.connection = %(c)s AND x.object = %(o)s AND x.row_id = %(row_id)s AND x.op = 'create'
                        ORDER BY x.place DESC, x.seq DESC LIMIT 1) c ON true""",
                mirror=sql.Identifier(connection, table),
            ),
            {"c": connection, "o": table, "row_id": row_id},
        ).fetchone()
        if row is not None and row[4]:
            return _Parent(table, row[0], row[1], row[2], row[3] or {})
    return None


def _leads_back(conn: Conn, connection: str, parent: _Parent, parent_id: UUID, start: UUID) -> bool:
    """Whether the parent's create waits, directly or through others, for the row that refers to it."""
    referring: dict[str, dict[str, list[str]]] = {}
    for table, column, targets in conn.execute(
        """SELECT o.object, f ->> 'column', f -> 'reference_to'
             FROM crm_assets.object o CROSS JOIN LATERAL jsonb_array_elements(o.described -> 'fields') f
            WHERE o.connection = %s AND jsonb_array_length(f -> 'reference_to') > 0""",
        (connection,),
    ).fetchall():
        referring.setdefault(table, {})[column] = targets
    seen: set[UUID] = set()
    open_ = [(parent, parent_id)]
    while open_:
        one, one_id = open_.pop()
        if one_id == start:
            return True
        if one_id in seen or one.id is not None or one.state != "pending":
            continue
        seen.add(one_id)
        columns = referring.get(one.table, {})
        for column, row_id, _ in _given(one.new, columns):
            further = None if row_id is None else _parent(conn, connection, columns[column], row_id)
            if row_id is not None and further is not None:
                open_.append((further, row_id))
    return False


def _send_later(conn: Conn, write: Write, columns: Mapping[str, str]) -> None:
    """The part of a create that has to wait for a row that itself waits for this one: an update right behind it."""
    conn.execute(
        """INSERT INTO crm_assets.outbox
               (connection, object, op, row_id, base, new, reason, actor, txid, created_at, split_of)
           SELECT connection, object, 'update', row_id, %s, %s, 'follows the create: the rows refer to each other',
                  actor, txid, created_at, place
             FROM crm_assets.outbox WHERE seq = %s""",
        (Jsonb(dict.fromkeys(columns)), Jsonb(dict(columns)), write.seq),
    )
    # At once: the circle is open now, and the others of it need not leave anything out.
    conn.execute("UPDATE crm_assets.outbox SET new = new - %s::text[] WHERE seq = %s", (list(columns), write.seq))


def _refuse(conn: Conn, connection: str, write: Write, reason: str) -> None:
    conn.execute("UPDATE crm_assets.outbox SET state = 'rejected', reason = %s WHERE seq = %s", (reason, write.seq))
    conn.execute("SELECT crm_assets.reply(%s)", (write.seq,))
    wake(conn, connection, [write.row_id])
