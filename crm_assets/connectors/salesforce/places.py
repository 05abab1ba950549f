"""Places: where a read that stopped goes on. Text for others, of meaning only here."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Behind:
    """Behind a record in the order (cursor, id); ``version`` is None for an object without a cursor."""

    version: datetime | None
    id: str

    def text(self, statement: str) -> str:
        version = self.version.isoformat() if self.version else None
        return json.dumps({"query": _hash(statement), "version": version, "id": self.id})


@dataclass(frozen=True, slots=True)
class InJob:
    """A page of the results of a Bulk job; ``locator`` is None for the first one."""

    job: str
    locator: str | None

    def text(self, statement: str) -> str:
        return json.dumps({"query": _hash(statement), "job": self.job, "locator": self.locator})


def parse(place: str | None, statement: str) -> Behind | InJob | None:
    """The place as it was; None if it belongs to another query than ``statement``."""
    if place is None:
        return None
    data = json.loads(place)
    if data["query"] != _hash(statement):
        return None
    if "job" in data:
        return InJob(data["job"], data["locator"])
    return Behind(datetime.fromisoformat(data["version"]) if data["version"] else None, data["id"])


def _hash(statement: str) -> str:
    return hashlib.blake2b(statement.encode(), digest_size=8).hexdigest()
