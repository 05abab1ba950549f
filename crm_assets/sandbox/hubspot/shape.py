"""Records as replies print them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from . import clock
from .errors import PORTAL
from .kinds import Kind
from .properties import Property
from .store import Row

Record = dict[str, Any]


class Shape:
    """Which properties of an object a reply has. Names that there are not are left out without a word."""

    def __init__(
        self, kind: Kind, live: Mapping[str, Property], asked: Iterable[str], history: Iterable[str] = ()
    ) -> None:
        self._kind = kind
        wanted = list(asked) or kind.defaults
        self._names = sorted({name for name in wanted if name in live} | set(kind.always))
        self._history = [name for name in history if name in live]
        self._url = f"https://app.hubspot.com/contacts/{PORTAL}/record/{kind.type_id}/"

    def record(self, row: Row) -> Record:
        values = row.values()
        get = values.get
        body: Record = {
            "id": str(row.id),
            "properties": {name: get(name) for name in self._names},
            "createdAt": values[self._kind.created],
            "updatedAt": values[self._kind.modified],
            "archived": row.archived is not None,
            "url": f"{self._url}{row.id}",
        }
        if row.archived is not None:
            body["archivedAt"] = clock.iso(row.archived)
        return body

    def records(self, db: sqlite3.Connection, rows: Sequence[Row]) -> list[Record]:
        """Several records, with their history if it was asked for."""
        made = [self.record(row) for row in rows]
        if self._history:
            for row, body in zip(rows, made, strict=True):
                body["propertiesWithHistory"] = self._past(db, row)
        return made

    def _past(self, db: sqlite3.Connection, row: Row) -> dict[str, list[Record]]:
        """The values of each property, the newest first."""
        values = row.values()
        past: dict[str, list[Record]] = {}
        for name in self._history:
            rows = db.execute(
                "SELECT value, until, source FROM history WHERE kind = ? AND id = ? AND name = ? ORDER BY rowid",
                (self._kind.name, row.id, name),
            ).fetchall()
            since, source, entries = values[self._kind.created], "CRM_UI", []
            for value, until, changed_by in [*rows, (values.get(name), None, "")]:
                if value is not None or rows:
                    entries.append({"value": value or "", "timestamp": since, "sourceType": source})
                if until is not None:
                    since, source = clock.iso(until), changed_by
            past[name] = entries[::-1]
        return past
