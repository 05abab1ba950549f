"""First load: records of an object that was never read to its end go straight into the mirror.

A page is one COPY and one transaction, under the same lock as ``apply``. It is optimistic: records of which nothing
is known here are simply copied. Whatever needs a decision (deleted records, creates of ours, ids that are in the
mirror or were deleted) goes to the stage instead, where ``apply`` finds it when the load has landed. So both ways end
in the same state, and a killed load leaves rows that the next one meets as known ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, LiteralString

import pyarrow as pa
import pyarrow.compute as pc
from adbc_driver_postgresql import dbapi
from psycopg import sql

from crm_assets.core.errors import FatalError, RetriableError
from crm_assets.core.model import Object, Source
from crm_assets.store.database import SYNC_ROLE, Database, statement
from crm_assets.store.ddl import stage_schema
from crm_assets.store.loads import Load

_LOCK_TIMEOUT = "300ms"
"""A record's id may be in a transaction of the product that is still open; such a record is left to ``apply``."""

_COLLISIONS = ("22", "23", "40", "55")
"""Classes of SQLSTATE that a row can cause: data, constraints, deadlocks, locks."""


class _Collision(Exception):
    """A record of the page is not new here."""


class FirstLoad:
    """Takes the pages of one load. ADBC encodes Arrow for binary COPY; like apply it acts as the sync role."""

    def __init__(self, db: Database, load: Load, obj: Object, source: Source) -> None:
        self._db, self._load, self._obj, self._source = db, load, obj, source
        self._adbc: Any = None

    def __enter__(self) -> FirstLoad:
        self._adbc = dbapi.connect(self._db.url)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._adbc.close()

    def put(self, page: pa.Table) -> int:
        """Store a page of ``Object.page_schema()``. Returns how many of its records are in the mirror now; the
        others wait in the stage for the load to land.

        RetriableError if the load was given up meanwhile or the database went away. The page is then not stored.
        """
        chosen = self._unremarkable(page)
        if not self._written(page, chosen):
            chosen = pc.and_(chosen, pc.invert(self._known(page)))
            if not self._written(page, chosen):
                chosen = pa.array([False] * page.num_rows)
                if not self._written(page, chosen):
                    raise FatalError(f"{self._what}: a page can be stored neither in the mirror nor in the stage")
        return int(pc.sum(chosen).as_py() or 0)

    def _unremarkable(self, page: pa.Table) -> pa.Array:
        """Alive, and not carrying a row_id of ours."""
        chosen = pc.invert(page["_deleted"])
        column = self._obj.external_id_column
        return chosen if column is None else pc.and_(chosen, pc.is_null(page[column]))

    def _known(self, page: pa.Table) -> pa.Array:
        """Which records are in the mirror, were deleted from it, or are in the page more than once."""
        counted = pc.value_counts(page["id"].combine_chunks())
        repeated = counted.field("values").filter(pc.greater(counted.field("counts"), 1))
        with self._db.transaction() as conn:
            found = conn.execute(
                statement(
                    """SELECT id FROM {mirror} WHERE id = ANY (%(ids)s)
                       UNION SELECT id FROM crm_assets.tombstone
                        WHERE connection = {connection} AND object = {object} AND id = ANY (%(ids)s)""",
                    **self._names,
                ),
                {"ids": page["id"].to_pylist()},
            ).fetchall()
        known = pa.concat_arrays([pa.array([row[0] for row in found], pa.string()), repeated])
        return pc.is_in(page["id"], value_set=known)

    def _written(self, page: pa.Table, chosen: pa.Array) -> bool:
        try:
            self._write(page, chosen)
        except _Collision:
            return False
        except dbapi.Error as error:
            if (error.sqlstate or "")[:2] not in _COLLISIONS:
                raise self._translated(error) from None
            return False
        return True

    def _write(self, page: pa.Table, chosen: pa.Array) -> None:
        rest = page.filter(pc.invert(chosen))
        # Mostly there is nothing to choose from, and nothing to copy.
        straight = page.filter(chosen) if rest.num_rows else page
        with self._transaction() as cursor:
            if straight.num_rows:
                if self._obj.external_id is None and self._any(cursor, "SELECT 1 FROM {mirror} WHERE id IS NULL"):
                    # Any of these records may be the CRM's side of a create of ours.
                    raise _Collision
                self._ingest(cursor, self._load.connection, straight.drop_columns("_deleted"))
                if self._any(
                    cursor,
                    """SELECT 1 FROM crm_assets.tombstone t JOIN {mirror} m ON m.id = t.id
                        WHERE t.connection = {connection} AND t.object = {object} AND m._observed_at = {observed}""",
                ):
                    raise _Collision
                self._run(
                    cursor,
                    """UPDATE crm_assets.drift d SET state = 'closed', closed_at = clock_timestamp()
                        WHERE d.connection = {connection} AND d.object = {object} AND d.state = 'open'
                          AND d.kind IN ('set_aside', 'delete_blocked')
                          AND EXISTS (SELECT FROM {mirror} m WHERE m.id = d.id AND m._observed_at = {observed})""",
                )
            if rest.num_rows:
                count = rest.num_rows
                rest = rest.append_column("_load", pa.repeat(pa.scalar(self._load.load_id, pa.int64()), count))
                rest = rest.append_column("_source", pa.repeat(pa.scalar(self._source.value), count))
                self._ingest(cursor, stage_schema(self._load.connection), rest)

    @contextmanager
    def _transaction(self) -> Iterator[Any]:
        """A transaction that holds the object's apply lock, while the load is still ours to bring in."""
        try:
            with self._adbc.cursor() as cursor:
                self._run(cursor, "SET LOCAL ROLE {role}")
                # Passes of apply are short; the ones that come while this page is stored find the lock taken.
                self._run(cursor, "SELECT pg_advisory_xact_lock(hashtext('crm_assets.apply'), hashtext({name}))::text")
                self._run(cursor, "SET LOCAL lock_timeout = {timeout}")
                if not self._any(
                    cursor, "SELECT 1 FROM crm_assets.load WHERE load_id = {load} AND state = 'landing' FOR SHARE"
                ):
                    raise RetriableError(f"{self._what}: load {self._load.load_id} was given up meanwhile")
                yield cursor
            self._adbc.commit()
        except BaseException:
            self._rollback()
            raise

    def _rollback(self) -> None:
        try:
            self._adbc.rollback()
        except dbapi.Error as error:
            raise self._translated(error) from None

    def _ingest(self, cursor: Any, schema: str, rows: pa.Table) -> None:
        observed = pa.repeat(pa.scalar(self._load.observed_at, pa.timestamp("us", "UTC")), rows.num_rows)
        rows = rows.append_column("_observed_at", observed)
        cursor.adbc_ingest(self._load.table, rows, mode="append", db_schema_name=schema)

    def _any(self, cursor: Any, query: LiteralString) -> bool:
        cursor.execute(self._text(query))
        return cursor.fetchone() is not None

    def _run(self, cursor: Any, query: LiteralString) -> None:
        cursor.execute(self._text(query))

    def _text(self, query: LiteralString) -> str:
        return statement(query, **self._names).as_string()

    @property
    def _names(self) -> dict[str, sql.Composable]:
        load = self._load
        return {
            "mirror": sql.Identifier(load.connection, load.table),
            "connection": sql.Literal(load.connection),
            "object": sql.Literal(load.table),
            "name": sql.Literal(f"{load.connection}.{load.table}"),
            "role": sql.Identifier(SYNC_ROLE),
            "load": sql.Literal(load.load_id),
            "observed": sql.Literal(load.observed_at),
            "timeout": sql.Literal(_LOCK_TIMEOUT),
        }

    def _translated(self, error: Any) -> Exception:
        """Without the server's words: they may hold a record's values."""
        state = error.sqlstate
        if state[:2] in ("08", "57") if state else isinstance(error, dbapi.OperationalError):
            return RetriableError(f"{self._what}: the connection to Postgres was lost")
        kind = f"SQLSTATE {state}" if state else type(error).__name__
        return FatalError(f"{self._what}: Postgres cannot store a page ({kind}); run `crm-assets describe`")

    @property
    def _what(self) -> str:
        return f"{self._load.connection}.{self._load.table}"
