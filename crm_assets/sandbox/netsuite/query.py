"""The SuiteQL resource."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from crm_assets.sandbox.http import Reply

from . import functions
from .compile import Compiled, Compiler
from .errors import content, header
from .preferences import Preferences
from .store import Store
from .suiteql import invalid, parse
from .tables import Table, tables
from .wire import Call, Page, Router, reply


class SuiteQL:
    """Answers ``/query/v1/suiteql``."""

    def __init__(self, store: Store, preferences: Preferences) -> None:
        self._store = store
        self._preferences = preferences
        self._compiled = lru_cache(maxsize=500)(self._compile)
        self._known = lru_cache(maxsize=2)(self._tables)

    def routes(self, router: Router) -> None:
        router.add("POST", "query/v1/suiteql", "suiteql", self.query)

    def _tables(self, _: int) -> dict[str, Table]:
        return tables(self._store.schema)

    def _compile(self, text: str, version: int, date_format: str) -> Compiled:
        return Compiler(self._store.schema, self._known(version), date_format).compile(parse(text))

    def query(self, call: Call) -> Reply:
        """One page. A page is a query of its own: what is written between two of them moves their rows."""
        if "transient" not in call.prefers:
            raise header("The Prefer header with the value transient is required.", "Prefer")
        most = self._preferences.result_rows
        body, page = call.record(), Page.of(call.query, most)
        text = body.get("q")
        if not isinstance(text, str) or not text.strip():
            raise content("Invalid content in the request body: the property q is required.", "q")
        compiled = self._compiled(text.strip(), self._store.schema.version, self._preferences.date_format)
        given = [None if one == "" else one for one in _parameters(body.get("params") or [])]
        if len(given) != compiled.parameters:
            raise invalid(f"{compiled.parameters} parameters are needed, {len(given)} are given")
        try:
            with self._store.snapshot() as db:
                rows, total = _read(db, compiled, given, page, most)
        except (sqlite3.OperationalError, sqlite3.DataError) as failed:
            # What the compiler lets through and SQLite does not is the query's mistake, too.
            raise invalid(functions.failure() or str(failed)) from None
        items = [_item(compiled.names, row) for row in rows]
        return Reply(
            200,
            json.dumps(page.envelope(call, items, total), ensure_ascii=False, separators=(",", ":")).encode(),
            dict(reply("collection", None).headers),
        )


def _read(
    db: sqlite3.Connection, compiled: Compiled, given: Sequence[Any], page: Page, most: int
) -> tuple[list[Any], int]:
    """The rows of a page, and how many the whole result has, counted no further than a result goes."""
    first, second = (f"?{len(given) + i}" for i in (1, 2))
    sql = f"SELECT * FROM ({compiled.sql})" if compiled.limited else compiled.sql
    rows = db.execute(f"{sql} LIMIT {first} OFFSET {second}", (*given, page.limit, page.offset)).fetchall()
    if (rows and len(rows) < page.limit) or (not page.offset and not rows):
        return rows, page.offset + len(rows)
    counted = f"SELECT count(*) FROM (SELECT 1 FROM ({compiled.counted}) LIMIT {most})"
    return rows, db.execute(counted, tuple(given)).fetchone()[0]


def _parameters(given: Any) -> list[Any]:
    if not isinstance(given, list) or not all(isinstance(one, str | int | float | None) for one in given):
        raise content("Invalid content in the request body: params is a list of values.", "params")
    return given


def _item(names: Sequence[str], row: Sequence[Any]) -> dict[str, Any]:
    """A row: every value a text, nulls left out."""
    item: dict[str, Any] = {"links": []}
    for name, value in zip(names, row, strict=True):
        if value is not None:
            item[name] = value if type(value) is str else _number(value)
    return item


def _number(value: int | float) -> str:
    return str(value) if isinstance(value, int) else f"{value:.15g}"
