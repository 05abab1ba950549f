"""Records as REST shows them: references with links, nulls left out, sublists as links or in full."""

from __future__ import annotations

import sqlite3
from typing import Any

from . import display, lines
from .fields import Field, RecordType, Sublist
from .schema import Schema
from .store import Row
from .values import plain


class Shown:
    """Shows records of one account under one address."""

    def __init__(self, db: sqlite3.Connection, schema: Schema, base: str, simple_enums: bool = False) -> None:
        self._db = db
        self._schema = schema
        self._base = f"{base}/record/v1"
        self._simple = simple_enums

    def link(self, kind: str, *path: object) -> list[dict[str, str]]:
        return [{"rel": "self", "href": "/".join((self._base, kind, *map(str, path)))}]

    def stub(self, kind: RecordType, record_id: int) -> dict[str, Any]:
        """How a list names a record."""
        return {"links": self.link(kind.name, record_id), "id": str(record_id)}

    def record(self, kind: RecordType, row: Row, names: frozenset[str] = frozenset(), expand: bool = False) -> Any:
        """One record; ``names`` chooses fields and sublists, none means all."""
        body: dict[str, Any] = {"links": self.link(kind.name, row["id"])}
        for field in kind.fields:
            if (not names or field.name in names or field.name == "id") and row[field.column] is not None:
                body[field.name] = self.value(field, row[field.column])
        for sublist in kind.sublists:
            if names and sublist.name not in names:
                continue
            if expand:
                body[sublist.name] = self.sublist(kind, row["id"], sublist, expand=True)
            else:
                body[sublist.name] = {"links": self.link(kind.name, row["id"], sublist.name)}
        return body

    def sublist(self, kind: RecordType, record_id: int, sublist: Sublist, expand: bool) -> dict[str, Any]:
        found = lines.read(self._db, sublist, [record_id])[record_id]
        path = (record_id, sublist.name)
        items = [self.line(kind, record_id, sublist, one, expand) for one in found]
        if not expand:
            items = [{"links": one["links"]} for one in items]
        return {
            "links": self.link(kind.name, *path),
            "items": items,
            "count": len(items),
            "hasMore": False,
            "offset": 0,
            "totalResults": len(items),
        }

    def line(self, kind: RecordType, record_id: int, sublist: Sublist, row: Row, expand: bool) -> dict[str, Any]:
        path = (record_id, sublist.name, row[sublist.key.lower()])
        body: dict[str, Any] = {"links": self.link(kind.name, *path)}
        body |= self._values(sublist.fields, row)
        if sublist.part:
            links = {"links": self.link(kind.name, *path, sublist.part)}
            body[sublist.part] = links | (self._values(sublist.inside, row) if expand else {})
        return body

    def _values(self, fields: tuple[Field, ...], row: Row) -> dict[str, Any]:
        return {field.name: self.value(field, row[field.column]) for field in fields if row[field.column] is not None}

    def value(self, field: Field, kept: Any) -> Any:
        """One value that is not null."""
        if field.type == "ref":
            target = display.name_of(self._db, self._schema, field, kept)
            if target is None:
                return {"links": [], "id": str(kept)}
            name, text = target
            links = self.link(name, kept) if name in self._schema.types else []
            return {"links": links, "id": str(kept), "refName": text}
        if field.type == "enum":
            return kept if self._simple else {"id": kept, "refName": dict(field.choices).get(kept, kept)}
        return plain(field, kept)
