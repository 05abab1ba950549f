"""The first load: many records at once, of which nobody is told."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from itertools import islice

import orjson

from . import clock, derive
from .edges import STANDARD
from .kinds import Kind
from .schema import Schema
from .store import Props, create_indexes

_CHUNK = 5000


class Filling:
    """Puts records and associations into an empty store."""

    def __init__(self, db: sqlite3.Connection, schema: Schema) -> None:
        self._db = db
        self._schema = schema

    def records(self, kind: Kind, made: Iterable[tuple[int, Props]]) -> int:
        """Adds what the vendor works out by itself; returns how many there were."""
        unique = [one.name for one in self._schema.live(kind).values() if one.unique]
        stream, count = iter(made), 0
        while chunk := list(islice(self._complete(kind, stream), _CHUNK)):
            self._db.executemany(
                f"INSERT INTO {kind.name} (id, props, updated) VALUES (?, ?, ?)",
                [(key, orjson.dumps(props), clock.parse(props[kind.modified])) for key, props in chunk],
            )
            self._db.executemany(
                "INSERT OR IGNORE INTO holder VALUES (?, ?, ?, ?, 1)",
                [
                    (kind.name, name, props[name].lower(), key)
                    for key, props in chunk
                    for name in unique
                    if name in props
                ],
            )
            count += len(chunk)
        return count

    def _complete(self, kind: Kind, made: Iterator[tuple[int, Props]]) -> Iterator[tuple[int, Props]]:
        now = clock.iso(clock.now())
        for key, given in made:
            props = derive.defaults(kind, given) | given
            props["hs_object_id"] = str(key)
            props.setdefault("hs_object_source", "IMPORT")
            stamp = props.get(kind.modified) or props.get(kind.created) or now
            props[kind.modified] = stamp
            props.setdefault(kind.created, stamp)
            derive.calculate(self._schema, kind, props)
            yield key, props

    def associate(self, kind: Kind, to_kind: Kind, pairs: Iterable[tuple[int, int]], *, primary: bool = False) -> None:
        """Associates records in the plain sense, and as the primary ones if wanted."""
        senses = [one for one in STANDARD if (one.kind, one.to_kind) == (kind.name, to_kind.name)]
        wanted = [one for one in senses if one.label is None or (primary and one.primary)]
        stream = iter(pairs)
        while chunk := list(islice(stream, _CHUNK)):
            self._db.executemany(
                "INSERT OR IGNORE INTO edge VALUES (?, ?, ?, ?, ?)",
                [
                    side
                    for here, there in chunk
                    for one in wanted
                    for side in (
                        (kind.name, here, to_kind.name, there, one.type),
                        (to_kind.name, there, kind.name, here, one.inverse),
                    )
                ],
            )

    def finish(self) -> None:
        create_indexes(self._db)
