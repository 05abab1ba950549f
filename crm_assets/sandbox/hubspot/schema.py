"""The properties and pipelines of the account as they are now, kept in the store beside the records."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

from .errors import ApiError
from .kinds import KINDS, Kind, find
from .properties import Property

Pipelines = dict[str, dict[str, Any]]


def unknown_type(name: str) -> ApiError:
    return ApiError(400, f"Unable to infer object type from: {name}", "VALIDATION_ERROR")


class Schema:
    """Finds properties by object and name. A change makes new dictionaries; readers keep theirs."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db
        db.execute("CREATE TABLE IF NOT EXISTS property (kind TEXT, name TEXT, body TEXT, PRIMARY KEY (kind, name))")
        db.execute("CREATE TABLE IF NOT EXISTS pipeline (kind TEXT, id TEXT, body TEXT, PRIMARY KEY (kind, id))")
        self._known: dict[str, dict[str, Property]] = {kind.name: {} for kind in KINDS}
        self._live: dict[str, dict[str, Property]] = {kind.name: {} for kind in KINDS}
        self._pipelines: dict[str, Pipelines] = {"deals": {}, "tickets": {}}
        db.execute("CREATE TABLE IF NOT EXISTS custom (name TEXT PRIMARY KEY, kind TEXT, body TEXT)")
        self._custom: dict[str, tuple[Kind, dict[str, Any]]] = {}
        self.load()

    def load(self) -> None:
        """Reads what the store holds: at the start, and after a change that was undone."""
        rows = self._db.execute("SELECT kind, body FROM property ORDER BY rowid").fetchall()
        self._custom = {
            name: (_custom_kind(json.loads(kind)), json.loads(body))
            for name, kind, body in self._db.execute("SELECT name, kind, body FROM custom ORDER BY rowid")
        }
        for kind in self.kinds:
            self._set(kind, [Property.from_json(json.loads(body)) for name, body in rows if name == kind.name])
        found: dict[str, Pipelines] = {"deals": {}, "tickets": {}}
        for name, key, body in self._db.execute("SELECT kind, id, body FROM pipeline ORDER BY rowid"):
            found[name][key] = json.loads(body)
        self._pipelines = found

    @property
    def empty(self) -> bool:
        return not any(self._known.values())

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """All objects, the account's own behind those of every account."""
        return (*KINDS, *(kind for kind, _ in self._custom.values()))

    def find(self, name: str) -> Kind | None:
        """An object by its names or its type id."""
        own = (kind for kind, _ in self._custom.values() if name.lower() in (kind.name, kind.singular, kind.type_id))
        return find(name) or next(own, None)

    def custom(self) -> list[tuple[Kind, dict[str, Any]]]:
        """The account's own objects, each with the rest of its schema."""
        return list(self._custom.values())

    def save_custom(self, kind: Kind, body: dict[str, Any]) -> None:
        self._db.execute("INSERT INTO custom VALUES (?, ?, ?)", (kind.name, json.dumps(asdict(kind)), json.dumps(body)))
        self._custom = self._custom | {kind.name: (kind, body)}
        self._set(kind, [])

    def kind(self, name: str) -> Kind:
        """The object of a path; a refusal if there is none."""
        kind = self.find(name)
        if kind is None:
            raise unknown_type(name)
        return kind

    def live(self, kind: Kind) -> Mapping[str, Property]:
        """The properties that are not archived."""
        return self._live[kind.name]

    def known(self, kind: Kind) -> Mapping[str, Property]:
        """All properties, archived ones too."""
        return self._known[kind.name]

    def save(self, kind: Kind, *changed: Property) -> None:
        """Keeps new or changed properties."""
        self._db.executemany(
            "INSERT INTO property VALUES (?, ?, ?) ON CONFLICT (kind, name) DO UPDATE SET body = excluded.body",
            [(kind.name, one.name, json.dumps(one.to_json())) for one in changed],
        )
        self._set(kind, (self._known[kind.name] | {one.name: one for one in changed}).values())

    def forget(self, kind: Kind, name: str) -> None:
        """Takes a property away for good, which only a renaming does."""
        self._db.execute("DELETE FROM property WHERE kind = ? AND name = ?", (kind.name, name))
        self._set(kind, [one for one in self._known[kind.name].values() if one.name != name])

    def _set(self, kind: Kind, properties: Iterable[Property]) -> None:
        known = {one.name: one for one in properties}
        self._known = self._known | {kind.name: known}
        self._live = self._live | {kind.name: {name: one for name, one in known.items() if one.archived is None}}

    def pipelines(self, kind: str) -> Pipelines:
        """The pipelines of deals or tickets, by id, in the form of the pipelines API."""
        return self._pipelines.get(kind, {})

    def save_pipeline(self, kind: str, body: dict[str, Any]) -> None:
        self._db.execute(
            "INSERT INTO pipeline VALUES (?, ?, ?) ON CONFLICT (kind, id) DO UPDATE SET body = excluded.body",
            (kind, body["id"], json.dumps(body)),
        )
        self._pipelines = self._pipelines | {kind: self._pipelines[kind] | {body["id"]: body}}

    def drop_pipeline(self, kind: str, key: str) -> None:
        self._db.execute("DELETE FROM pipeline WHERE kind = ? AND id = ?", (kind, key))
        left = {name: body for name, body in self._pipelines[kind].items() if name != key}
        self._pipelines = self._pipelines | {kind: left}

    def stage(self, kind: str, pipeline: str | None, stage: str | None) -> dict[str, Any] | None:
        """A stage of a pipeline; None if there is none."""
        body = self.pipelines(kind).get(pipeline or "", {})
        return next((one for one in body.get("stages", []) if one["id"] == stage), None)


def _custom_kind(body: Mapping[str, Any]) -> Kind:
    facts: dict[str, Any] = {name: tuple(value) if isinstance(value, list) else value for name, value in body.items()}
    return Kind(**facts)
