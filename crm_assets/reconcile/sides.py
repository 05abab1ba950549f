"""The two sides of a comparison, as Postgres sees them: the mirror, and a page of the CRM in a temporary table."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime, timedelta
from itertools import chain

from psycopg import sql

from crm_assets.core.model import Object, Page, Window
from crm_assets.store.database import Database, statement
from crm_assets.store.ddl import column_type

_SECOND = timedelta(seconds=1)


def local_ids(db: Database, connection: str, obj: Object, among: Sequence[str] | None = None) -> set[str]:
    """Ids of the mirror's live rows that the CRM knows (all, or those ``among`` the given ones)."""
    with db.transaction() as conn:
        rows = conn.execute(
            statement(
                """SELECT id FROM {m} WHERE id IS NOT NULL AND _deleted_at IS NULL
                      AND (%(among)s::text[] IS NULL OR id = ANY (%(among)s::text[]))""",
                m=sql.Identifier(connection, obj.table),
            ),
            {"among": None if among is None else list(among)},
        ).fetchall()
    return {row[0] for row in rows}


def rows(db: Database, connection: str, obj: Object) -> int:
    """How many live rows of the mirror the CRM knows."""
    with db.transaction() as conn:
        row = conn.execute(
            statement(f"SELECT count(*) FROM {{m}} WHERE {_ALIVE}", m=sql.Identifier(connection, obj.table))
        ).fetchone()
    assert row is not None
    return int(row[0])


_ALIVE = "id IS NOT NULL AND _deleted_at IS NULL"
_WITHIN = "(_version IS NULL AND %(low)s::timestamptz IS NULL OR _version >= %(low)s OR %(low)s::timestamptz IS NULL)"
"""The mirror's rows of a window; those without a version belong to the one without a beginning."""


def ids_within(db: Database, connection: str, obj: Object, window: Window) -> set[str]:
    """Ids of the mirror's live rows whose version lies in the window."""
    with db.transaction() as conn:
        rows = conn.execute(
            statement(
                f"""SELECT id FROM {{m}} WHERE {_ALIVE} AND {_WITHIN}
                       AND (_version IS NULL OR _version < %(high)s)""",
                m=sql.Identifier(connection, obj.table),
            ),
            {"low": window.low, "high": window.high},
        ).fetchall()
    return {row[0] for row in rows}


def counts(
    db: Database,
    connection: str,
    obj: Object,
    window: Window,
    bounds: Sequence[datetime],
    aside: Collection[str] = (),
) -> list[int]:
    """How many live rows the mirror has in each part of the window, in one pass over it; ``bounds`` are between.
    Rows whose ids are ``aside`` do not count."""
    with db.transaction() as conn:
        found: dict[int, int] = dict(
            conn.execute(
                statement(
                    f"""SELECT CASE WHEN _version IS NULL OR cardinality(%(bounds)s::timestamptz[]) = 0 THEN 0
                                    ELSE width_bucket(_version, %(bounds)s::timestamptz[]) END AS part, count(*)
                          FROM {{m}} WHERE {_ALIVE} AND {_WITHIN} AND (_version IS NULL OR _version < %(high)s)
                           AND id <> ALL (%(aside)s)
                         GROUP BY part""",
                    m=sql.Identifier(connection, obj.table),
                ),
                {"low": window.low, "high": window.high, "bounds": list(bounds), "aside": list(aside)},
            ).fetchall()
        )
    return [found.get(part, 0) for part in range(len(bounds) + 1)]


def boundaries(db: Database, connection: str, obj: Object, window: Window, parts: int) -> list[datetime]:
    """Whole seconds that cut the window into parts with about equally many rows. Many rows with one version are cut
    off from the rest; nothing cuts a single second."""
    with db.transaction() as conn:
        row = conn.execute(
            statement(
                f"""SELECT percentile_disc(%(shares)s::float8[]) WITHIN GROUP (ORDER BY _version)
                      FROM {{m}} WHERE {_ALIVE} AND {_WITHIN} AND _version < %(high)s""",
                m=sql.Identifier(connection, obj.table),
            ),
            {"low": window.low, "high": window.high, "shares": [n / parts for n in range(1, parts)]},
        ).fetchone()
    found = {at.replace(microsecond=0) for at in (row[0] if row and row[0] else []) if at is not None}
    found |= {at + _SECOND for at in found if at == window.low}
    return sorted(at for at in found if at < window.high and (window.low is None or at > window.low))


def versions(db: Database, connection: str, obj: Object, ids: Sequence[str]) -> dict[str, str]:
    """The versions of the mirror's live rows as text that sorts as they do (empty for one without), by id."""
    with db.transaction() as conn:
        rows = conn.execute(
            statement(
                f"SELECT id, coalesce({{v}}, '') FROM {{m}} WHERE {_ALIVE} AND id = ANY (%s)",
                m=sql.Identifier(connection, obj.table),
                v=sql.SQL("_version" if obj.version_text else "to_char(_version, 'YYYY-MM-DD\"T\"HH24:MI:SS.US')"),
            ),
            (list(ids),),
        ).fetchall()
    return dict(rows)


def differing(db: Database, connection: str, obj: Object, page: Page) -> dict[str, tuple[str, ...]]:
    """Columns in which records of the page differ from their mirror rows, by id. Postgres compares typed values:
    no rounding and no formatting of ours stands between the two sides."""
    if page.table.num_rows == 0:
        return {}
    columns = [fld.column for fld in obj.fields]
    definition = sql.SQL(", ").join(
        sql.SQL("{} {}").format(sql.Identifier(fld.column), sql.SQL(column_type(fld.type))) for fld in obj.fields
    )
    checks = sql.SQL(", ").join(
        statement("CASE WHEN m.{c} IS DISTINCT FROM r.{c} THEN {n} END", c=sql.Identifier(c), n=sql.Literal(c))
        for c in columns
    )
    with db.transaction() as conn:
        conn.execute(statement("CREATE TEMPORARY TABLE crm_assets_remote (id text, {d}) ON COMMIT DROP", d=definition))
        copy = statement(
            "COPY crm_assets_remote ({c}) FROM STDIN",
            c=sql.SQL(", ").join(sql.Identifier(c) for c in chain(["id"], columns)),
        )
        with conn.cursor().copy(copy) as sink:
            for row in zip(*(page.table[c].to_pylist() for c in ["id", *columns]), strict=True):
                sink.write_row(row)
        conn.execute("ANALYZE crm_assets_remote")
        rows = conn.execute(
            statement(
                """SELECT id, columns FROM (
                       SELECT r.id, array_remove(ARRAY[{checks}]::text[], NULL) AS columns
                         FROM crm_assets_remote r JOIN {m} m ON m.id = r.id WHERE m._deleted_at IS NULL) x
                    WHERE columns <> '{{}}'""",
                checks=checks,
                m=sql.Identifier(connection, obj.table),
            )
        ).fetchall()
    return {record_id: tuple(names) for record_id, names in rows}
