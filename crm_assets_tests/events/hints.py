"""Looking at, and into, the inbox and the mirror of ``desk``."""

from __future__ import annotations

import random

from psycopg import sql

from crm_assets.core.model import Change
from crm_assets.store import inbox
from crm_assets.store.database import Database

LONG_AGO = "clock_timestamp() - interval '1 second'"


def hint(db: Database, *ids: str, obj: str = "Contact") -> None:
    with db.transaction() as conn:
        inbox.add(conn, "desk", [Change(f"{random.random()}", obj, i, "updated") for i in ids])


def names(db: Database, table: str = "contact") -> dict[str, str | None]:
    with db.transaction() as conn:
        return dict(
            conn.execute(
                sql.SQL("SELECT id, name FROM {} ORDER BY id").format(sql.Identifier("desk", table))
            ).fetchall()
        )


def states(db: Database) -> dict[str, int]:
    with db.transaction() as conn:
        return inbox.counts(conn, "desk")


def make_due(db: Database) -> None:
    """Let the time pass that hints wait for: their next try, or the end of a lease."""
    with db.transaction() as conn:
        conn.execute(f"UPDATE crm_assets.inbox SET next_try_at = {LONG_AGO} WHERE state IN ('pending', 'claimed')")


def reasons(db: Database) -> set[str]:
    with db.transaction() as conn:
        return {row[0] for row in conn.execute("SELECT DISTINCT reason FROM crm_assets.inbox WHERE reason <> ''")}
