"""The org's records: a table for each object."""

from __future__ import annotations

import sqlite3
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from crm_assets.sandbox import store

from . import clock, ids
from .schema import Schema

Row = dict[str, Any]


@dataclass(slots=True)
class Change:
    """Something that happened to a record.

    ``values`` are the fields that changed, or all of a new or returned record; ``before`` what they were. ``fate`` is
    the fault ordered for the events that tell of it.
    """

    object: str
    record_id: str
    change: str
    at: str
    values: Row = field(default_factory=dict)
    before: Row = field(default_factory=dict)
    fate: str | None = None

    def event(self) -> dict[str, str]:
        return {
            "id": str(uuid.uuid4()),
            "object": self.object,
            "record_id": self.record_id,
            "change": self.change,
            "at": self.at,
        }


class Tx(store.Tx):
    """An open write of the org."""

    @property
    def stamp(self) -> str:
        return clock.stored(self.moment)

    @property
    def at(self) -> str:
        return clock.exact(self.moment)

    def new_id(self, prefix: str) -> str:
        return ids.make(prefix, self.number())

    def note(
        self, object_name: str, record_id: str, change: str, values: Row | None = None, before: Row | None = None
    ) -> None:
        self.changes.append(Change(object_name, record_id, change, self.at, values or {}, before or {}))


class Store(store.Store[Tx]):
    """The tables, and the schema that says what is in them."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.schema = Schema(self._writer)
        self._writer.execute("CREATE TABLE IF NOT EXISTS _erased (object TEXT, id TEXT, at TEXT)")

    def _tx(self, moment: datetime, number: Callable[[], int]) -> Tx:
        return Tx(self._writer, moment, number)

    @property
    def empty(self) -> bool:
        return not self.schema.objects

    @contextmanager
    def setup(self) -> Iterator[sqlite3.Connection]:
        """A change of tables, or a first load: nobody is told, no stamp moves."""
        with super().setup() as db:
            before = self.schema.objects
            try:
                yield db
            except BaseException:
                self.schema.objects = before
                raise

    def covered(self) -> datetime:
        """In whole seconds, as the vendor keeps time."""
        return super().covered().replace(microsecond=0)


def ago(moment: datetime, **span: float) -> str:
    """The stored form of an earlier moment."""
    return clock.stored(moment - timedelta(**span))
