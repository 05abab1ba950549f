"""Followers: objects with fields that the CRM calculates from other records. When one of those records changes, the
values follow and no version moves, so that the followers are read again by id.

Asked set by set, in the transaction that knows of the change, as hints like any other. Who follows in great numbers is
not read one by one: its calculated columns are read for all its records.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from psycopg import sql
from psycopg.types.json import Jsonb

from crm_assets.core.model import Object
from crm_assets.store import fills, inbox
from crm_assets.store.database import Conn, statement

MOST = 2_000
"""Records of one object that one set of changes has read again by id."""


@dataclass(frozen=True, slots=True)
class Changed:
    """One record as it was written: the columns that changed, with what they were and what they are. ``op`` as in
    ``crm_assets.change``; all columns of a new or a deleted record."""

    id: str
    op: str
    old: dict[str, Any]
    new: dict[str, Any]


@dataclass(frozen=True, slots=True)
class _Follower:
    table: str
    name: str
    calculated: list[str]
    follows: list[dict[str, Any]]
    rolls_up: bool


class Followers:
    """Who follows the records of one object, as the transaction at hand knows it. ``begun`` is where its part of
    ``crm_assets.change`` begins: the object's apply lock is held, so that nobody else adds to it."""

    def __init__(self, conn: Conn, connection: str, obj: Object) -> None:
        self._conn, self._connection, self._obj = conn, connection, obj
        refers_to = {name for fld in obj.fields for name in fld.reference_to}
        known = conn.execute(
            """SELECT object, name, calculated, follows, rolls_up FROM crm_assets.object
                WHERE connection = %s AND (rolls_up OR follows <> '[]') ORDER BY object""",
            (connection,),
        ).fetchall()
        self._all = [
            one
            for one in (_Follower(*row) for row in known)
            if any(obj.name in link["objects"] for link in one.follows) or (one.rolls_up and one.name in refers_to)
        ]
        self._begun = 0
        if self._all:
            row = conn.execute("SELECT coalesce(max(change_id), 0) FROM crm_assets.change").fetchone()
            assert row is not None
            self._begun = row[0]

    def __bool__(self) -> bool:
        return bool(self._all)

    def ask_since(self) -> int:
        """Ask for what follows the changes that this transaction has noted. Returns how many reads were asked for."""
        return self._ask(
            statement(
                """SELECT id, op, coalesce(old, '{{}}') AS old, coalesce(new, '{{}}') AS new, version
                     FROM crm_assets.change
                    WHERE change_id > {begun} AND connection = {connection} AND object = {object} AND id IS NOT NULL""",
                begun=sql.Literal(self._begun),
                connection=sql.Literal(self._connection),
                object=sql.Literal(self._obj.table),
            ),
            {},
        )

    def ask_whole(self) -> None:
        """A first load tells of no single change. Who follows, and was read before, is read again as far as it is
        calculated."""
        read = self._conn.execute(
            """SELECT object FROM crm_assets.cursor
                WHERE connection = %s AND object = ANY (%s) AND object <> %s AND cursor IS NOT NULL ORDER BY object""",
            (self._connection, [one.table for one in self._all], self._obj.table),
        ).fetchall()
        for one in self._all:
            if (one.table,) in read:
                fills.refresh(self._conn, self._connection, one.table, one.calculated)

    def ask(self, changes: Sequence[Changed]) -> int:
        """Ask for what follows these changes, which the CRM has taken from us."""
        if not changes:
            return 0
        return self._ask(
            sql.SQL(
                """SELECT *, NULL::text AS version
                     FROM unnest(%(ids)s::text[], %(ops)s::text[], %(olds)s::jsonb[], %(news)s::jsonb[])
                       AS c (id, op, old, new)"""
            ),
            {
                "ids": [one.id for one in changes],
                "ops": [one.op for one in changes],
                "olds": [Jsonb(one.old) for one in changes],
                "news": [Jsonb(one.new) for one in changes],
            },
        )

    def _ask(self, changed: sql.Composable, parameters: dict[str, Any]) -> int:
        asked = 0
        for follower in self._all:
            parts = [*self._below(follower), *self._above(follower)]
            row = self._conn.execute(
                statement(
                    """WITH changed AS MATERIALIZED ({changed}),
                            found AS MATERIALIZED (
                                SELECT DISTINCT id FROM ({parts}) x WHERE id IS NOT NULL LIMIT %(most)s + 1),
                            asked AS (
                                INSERT INTO crm_assets.inbox (connection, event_id, object, record_id, change, reason)
                                SELECT {connection}, 'reread:' || gen_random_uuid(), {follower}, id, 'reread', {reason}
                                  FROM found
                                 WHERE (SELECT count(*) FROM found) <= %(most)s
                                   AND id NOT IN (SELECT record_id FROM crm_assets.inbox
                                                   WHERE connection = {connection} AND object = {follower}
                                                     AND state = 'pending')
                                RETURNING 1)
                       SELECT (SELECT count(*) FROM found), (SELECT count(*) FROM asked)""",
                    changed=changed,
                    parts=sql.SQL(" UNION ALL ").join(parts),
                    connection=sql.Literal(self._connection),
                    follower=sql.Literal(follower.table),
                    reason=sql.Literal(f"calculated from {self._obj.name}"),
                ),
                {**parameters, "most": MOST},
            ).fetchone()
            assert row is not None
            if row[0] > MOST:
                fills.refresh(self._conn, self._connection, follower.table, follower.calculated)
            elif row[1]:
                inbox.notify(self._conn, self._connection)
            asked += row[1]
        return asked

    def _below(self, follower: _Follower) -> list[sql.Composable]:
        """Records whose formulas show a field of a changed one. One that is new here may have changed after they were
        read; not if they changed later themselves."""
        parts: list[sql.Composable] = []
        for link in follower.follows:
            if self._obj.name not in link["objects"]:
                continue
            fld = self._obj.by_name.get(link["field"])
            # A field that is not mirrored may have changed with any other.
            dated = link["dated"] and not self._obj.version_text
            unseen = "NOT coalesce(m._version > c.version::timestamptz, false)" if dated else "true"
            shown = sql.SQL("true") if fld is None else statement("c.new ? {k}", k=sql.Literal(fld.column))
            parts.append(
                statement(
                    """SELECT m.id FROM changed c JOIN {mirror} m ON m.{link} = c.id
                        WHERE CASE c.op WHEN 'create' THEN {unseen} WHEN 'update' THEN {shown} ELSE true END
                          AND m._deleted_at IS NULL""",
                    mirror=sql.Identifier(self._connection, follower.table),
                    link=sql.Identifier(link["column"]),
                    shown=shown,
                    unseen=sql.SQL(unseen),
                )
            )
        return parts

    def _above(self, follower: _Follower) -> list[sql.Composable]:
        """Records that a changed one refers to or did, if they sum up. Who counts what, describe does not tell."""
        if not follower.rolls_up:
            return []
        return [
            statement(
                """SELECT p.id FROM {summing} p WHERE p._deleted_at IS NULL AND p.id IN (
                       SELECT c.new ->> {k} FROM changed c UNION ALL SELECT c.old ->> {k} FROM changed c
                       UNION ALL SELECT m.{link} FROM changed c JOIN {mirror} m ON m.id = c.id)""",
                summing=sql.Identifier(self._connection, follower.table),
                mirror=sql.Identifier(self._connection, self._obj.table),
                link=sql.Identifier(fld.column),
                k=sql.Literal(fld.column),
            )
            for fld in self._obj.fields
            if follower.name in fld.reference_to
        ]
