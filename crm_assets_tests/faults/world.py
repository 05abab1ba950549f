"""The world of the stateful test: both ends, the processes between them, and a model of who wrote what.

The model knows who wrote which value when, and what the writer saw. It does not know how the engine works; which ends
it allows once everything is quiet is in ``verdict``.
"""

from __future__ import annotations

import itertools
import sqlite3
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import psycopg
from psycopg import sql
from psycopg.rows import dict_row

from crm_assets.core.errors import CrmAssetsError
from crm_assets.core.model import Change, Object
from crm_assets.events import drain as events
from crm_assets.mirror import land
from crm_assets.mirror.follow import follow
from crm_assets.store import inbox
from crm_assets.store.apply import apply
from crm_assets.writeback.drain import drain
from crm_assets_tests.faults.dying import Process
from crm_assets_tests.plugins.linked import connection_spec
from crm_assets_tests.plugins.sandbox import Sandbox

FIELDS = {"title": "Title", "phone": "Phone", "department": "Department", "mailing_city": "MailingCity"}
POLICY = {"title": "hold", "phone": "crm_wins", "department": "product_wins", "mailing_city": "newest_wins"}
SETTINGS = {"Contact": {"conflict": {"Phone": "crm_wins", "Department": "product_wins", "MailingCity": "newest_wins"}}}


@dataclass
class Said:
    """One value that somebody wrote: what the field showed there before, and whether the engine was busy with it."""

    moment: int
    value: str
    saw: str | None
    busy: bool = False


@dataclass
class Record:
    """One record as the model knows it. ``lives`` are births and deaths: (moment, side, what)."""

    name: str
    row_id: uuid.UUID | None = None
    id: str | None = None
    ours: dict[str, Said] = field(default_factory=dict)
    theirs: dict[str, Said] = field(default_factory=dict)
    known: dict[str, set[str | None]] = field(default_factory=dict)
    """Per column what our writes replaced, the earlier ones included."""
    leads: Record | None = None
    """Whom it reports to, as the last one to say so meant it."""
    lives: list[tuple[int, str, str]] = field(default_factory=list)

    @property
    def untouched_death(self) -> bool:
        """Deleted, by one side or both, and never brought back."""
        return any(what == "delete" for _, _, what in self.lives) and not self._revived

    @property
    def immortal(self) -> bool:
        return not any(what == "delete" for _, _, what in self.lives)

    @property
    def _revived(self) -> bool:
        return any(what == "undelete" for _, _, what in self.lives)


class World:
    """Everything there is, and everything that can happen to it."""

    def __init__(self, sandbox: Sandbox, url: str, writer: str, home: Path) -> None:
        self.sandbox, self.home = sandbox, home
        with psycopg.connect(url) as conn:
            # What waits for a lock that nobody gives back fails instead of hanging.
            conn.execute(
                sql.SQL("ALTER DATABASE {} SET statement_timeout = '15s'").format(sql.Identifier(conn.info.dbname))
            )
        self.spec = connection_spec(sandbox.url, ("Contact",), settings=SETTINGS, longest_call=1.0, call_timeout=1.5)
        self.processes = [Process(url, home, self.spec, ahead) for ahead in (0.0, 3600.0, -86_400.0)]
        self.db = self.processes[0].db
        # Prepared, `SELECT *` is refused after a column was added, by Postgres itself.
        self.product = psycopg.connect(writer, autocommit=True, row_factory=dict_row, prepare_threshold=None)
        self.holder: psycopg.Connection[Any] = psycopg.connect(writer, row_factory=dict_row)
        self.steps = self.histories = 0
        self._generations = itertools.count(1)
        self.extra: str | None = None
        """The field that the CRM's admin has added, by its API name."""
        self.begin()

    @property
    def obj(self) -> Object:
        return self.processes[0].connection.objects["contact"]

    @property
    def fields(self) -> dict[str, str]:
        """The fields that are written: column → API name."""
        return FIELDS if self.extra is None else {**FIELDS, self.extra.lower().replace("__c", "_c"): self.extra}

    def close(self) -> None:
        self.product.close()
        self.holder.close()
        for process in self.processes:
            process.close()

    def begin(self) -> None:
        """An empty world, quickly: as no user could, both ends forget everything."""
        self.records: list[Record] = []
        self.hints: list[Change] = []
        self.held: Record | None = None
        self.captured = 0
        self._moments, self._values = itertools.count(1), itertools.count(1)
        self.holder.rollback()
        self.sandbox.clear_faults()
        with sqlite3.connect(self.sandbox.data_dir / "salesforce.sqlite", timeout=60) as db:
            db.execute('DELETE FROM "Contact"')
            db.execute("DELETE FROM _erased")
        db.close()
        with self.db.transaction() as conn:
            conn.execute(
                """TRUNCATE crm_assets.outbox, crm_assets.inbox, crm_assets.tombstone, crm_assets.floor,
                            crm_assets.conflict, crm_assets.alias, crm_assets.merge, crm_assets.drift, crm_assets.load,
                            crm_assets.cursor, salesforce_stage.contact"""
            )
            conn.execute("SET LOCAL ROLE crm_assets_sync")
            conn.execute("DELETE FROM salesforce.contact")
        self.histories += 1
        self.crm_reshape("drop")
        main = self.processes[0]
        main.described()
        self._aged()
        self.sync(main, "full")

    # The product's side.

    def rows(self, query: str, *values: Any) -> list[dict[str, Any]]:
        with self.db.transaction() as conn, conn.cursor(row_factory=dict_row) as cursor:
            # Prepared, `SELECT *` is refused after a column was added, by Postgres itself.
            cursor.execute(query, values or None, prepare=False)  # type: ignore[arg-type]
            return cursor.fetchall() if cursor.description else []

    def seen(self, record: Record) -> dict[str, Any] | None:
        """The record's row as the product sees it now; learns its row_id."""
        found = self.product.execute(
            "SELECT * FROM salesforce.contact WHERE row_id = %s OR id = %s", (record.row_id, record.id)
        ).fetchall()
        if not found:
            return None
        assert len(found) == 1, f"{record.name} has {len(found)} rows"
        assert record.row_id in (None, found[0]["row_id"]), f"{record.name} changed its row_id"
        record.row_id = found[0]["row_id"]
        return found[0]

    def insert(self, leader: Record | None = None) -> None:
        record = Record(f"P{next(self._values)}", row_id=uuid.uuid4())
        value = None if leader is None else self._reference(leader)
        self.product.execute(
            "INSERT INTO salesforce.contact (row_id, last_name, reports_to_id) VALUES (%s, %s, %s)",
            (record.row_id, record.name, value),
        )
        record.leads = leader if value is not None else None
        self._born(record, "ours")
        self.captured += 1

    def _reference(self, record: Record) -> str | None:
        """How a product refers to a record: by its id, if it has one, else by its row_id."""
        row = self.seen(record)
        return None if row is None else row["id"] or str(row["row_id"])

    def refer(self, record: Record, leader: Record) -> None:
        row, value = self.seen(record), self._reference(leader)
        if row is None or value is None or value == row["reports_to_id"] or self.held is record or record is leader:
            return
        self.product.execute(
            "UPDATE salesforce.contact SET reports_to_id = %s WHERE row_id = %s", (value, record.row_id)
        )
        record.leads = leader
        self.captured += 1

    def update(self, record: Record, columns: tuple[str, ...], *, held: bool = False) -> None:
        """``held``: in a transaction that stays open."""
        row = self.seen(record)
        if row is None or self.held is record or (held and self.held is not None):
            return
        # Only what the mirror has and the CRM had when it was described last.
        columns = tuple(c for c in columns if c in FIELDS or (c in row and c in self.columns()))
        if not columns:
            return
        moment = next(self._moments)
        values = {column: f"P{next(self._values)}" for column in columns}
        sets = ", ".join(f"{column} = %({column})s" for column in values)
        conn = self.holder if held else self.product
        conn.execute(
            f"UPDATE salesforce.contact SET {sets} WHERE row_id = %(row_id)s",  # type: ignore[arg-type]
            {**values, "row_id": record.row_id},
        )
        for column, value in values.items():
            record.ours[column] = Said(moment, value, row[column])
            record.known.setdefault(column, set()).add(row[column])
        self.captured += 1
        if held:
            self.held = record

    def columns(self) -> set[str]:
        """The columns that the mirror's triggers take writes of."""
        self.processes[0].described()
        return set(self.obj.by_column)

    def end_transaction(self) -> None:
        self.holder.commit()
        self.held = None

    def delete(self, record: Record) -> None:
        if self.held is record or self.seen(record) is None:
            return
        self.product.execute("DELETE FROM salesforce.contact WHERE row_id = %s", (record.row_id,))
        record.lives.append((next(self._moments), "ours", "delete"))
        self.captured += 1

    # The CRM's side.

    def _born(self, record: Record, side: str) -> None:
        record.lives.append((next(self._moments), side, "create"))
        self.records.append(record)

    def in_crm(self, record: Record, everything: dict[str, Any] | None = None) -> dict[str, Any] | None:
        """The record as the CRM has it, deleted or not; learns its id."""
        everything = self.sandbox.records("Contact") if everything is None else everything
        if record.id is None:
            mine = [one for one in everything.values() if one["fields"]["Crm_Assets_Row_Id__c"] == str(record.row_id)]
            assert len(mine) <= 1, f"{record.name} was created {len(mine)} times"
            if not mine:
                return None
            record.id = mine[0]["id"]
        return everything.get(record.id or "")

    def crm_insert(self) -> None:
        record = Record(f"C{next(self._values)}")
        record.id = self.sandbox.create("Contact", LastName=record.name)
        self._born(record, "theirs")
        self._tell(record)

    def crm_update(self, record: Record, columns: tuple[str, ...]) -> None:
        now = self.in_crm(record)
        if now is None or now["deleted"]:
            return
        busy = self._busy(record)
        moment = next(self._moments)
        values = {column: f"C{next(self._values)}" for column in columns if column in self.fields}
        assert record.id is not None
        self.sandbox.update("Contact", record.id, **{self.fields[c]: v for c, v in values.items()})
        for column, value in values.items():
            record.theirs[column] = Said(moment, value, now["fields"][self.fields[column]], busy)
        self._tell(record)

    def crm_refer(self, record: Record, leader: Record) -> None:
        now, other = self.in_crm(record), self.in_crm(leader)
        if now is None or other is None or now["deleted"] or other["deleted"] or record is leader:
            return
        self.sandbox.update("Contact", now["id"], ReportsToId=other["id"])
        record.leads = None
        self._tell(record)

    def crm_reshape(self, action: str) -> None:
        """The CRM's admin adds a field, renames it or drops it. What was in it is nobody's last word any more."""
        if action == "add" and self.extra is None:
            self.extra = f"Extra_{next(self._generations)}__c"
            self.sandbox.schema("Contact", "add", self.extra, type="string")
        elif action != "add" and self.extra is not None:
            (column,) = set(self.fields) - set(FIELDS)
            for record in self.records:
                record.ours.pop(column, None)
                record.theirs.pop(column, None)
            if action == "drop":
                self.sandbox.schema("Contact", "drop", self.extra)
                self.extra = None
            else:
                new = f"Extra_{next(self._generations)}__c"
                self.sandbox.schema("Contact", "rename", self.extra, to=new)
                self.extra = new

    def crm_delete(self, record: Record) -> None:
        now = self.in_crm(record)
        if now is None or now["deleted"]:
            return
        self.sandbox.delete("Contact", now["id"])
        record.lives.append((next(self._moments), "theirs", "delete"))
        self._tell(record)

    def crm_undelete(self, record: Record) -> None:
        now = self.in_crm(record)
        if now is None or not now["deleted"]:
            return
        self.sandbox.undelete("Contact", now["id"])
        record.lives.append((next(self._moments), "theirs", "undelete"))
        self._tell(record)

    def crm_merge(self, winner: Record, loser: Record) -> None:
        kept, gone = self.in_crm(winner), self.in_crm(loser)
        if winner is loser or kept is None or gone is None or kept["deleted"] or gone["deleted"]:
            return
        self.sandbox.merge("Contact", kept["id"], [gone["id"]])
        loser.lives.append((next(self._moments), "theirs", "delete"))
        self._tell(winner)
        self._tell(loser)

    def _busy(self, record: Record) -> bool:
        """Whether a write of the record is on its way or not read back yet. A CRM edit in between cannot be told
        from what the CRM made of that write; that window is documented."""
        return bool(
            self.rows(
                """SELECT 1 FROM crm_assets.outbox WHERE (row_id = %s OR id = %s) AND state IN ('sending', 'unknown')
                   UNION ALL SELECT 1 FROM crm_assets.floor WHERE id = %s""",
                record.row_id,
                record.id,
                record.id,
            )
        )

    def _tell(self, record: Record) -> None:
        assert record.id is not None
        self.hints.append(Change(uuid.uuid4().hex, "Contact", record.id, "update"))

    def deliver(self, which: list[Change]) -> None:
        with self.db.transaction() as conn:
            inbox.add(conn, "salesforce", which)

    def decide(self, winner: str) -> None:
        """A person settles the oldest open conflict."""
        self.rows(
            """SELECT crm_assets.resolve(conflict_id, %s) FROM (
                   SELECT conflict_id FROM crm_assets.conflict WHERE state = 'open' ORDER BY conflict_id LIMIT 1) c""",
            winner,
        )

    # What runs between them.

    @staticmethod
    def drain(process: Process) -> None:
        process.described()
        drain(process.db, process.connection.connector, process.connection.objects)

    @staticmethod
    def read_events(process: Process) -> None:
        process.described()
        events.drain(process.db, process.connection.connector, process.connection.objects)

    def sync(self, process: Process, mode: Any = "incremental") -> None:
        """The last process lands few rows as the others would land many."""
        connection = process.connection
        few = 0 if process is self.processes[-1] else land.FEW_ROWS
        try:
            process.described()
            with patch.object(land, "FEW_ROWS", few):
                follow(process.db, process.home, connection.connector, self.spec, self.obj, mode)
        except CrmAssetsError:  # a run that failed; a later one does its work
            return

    def time_passes(self) -> None:
        """Pauses and leases end, and the vendor's longest time is over: no call is under way here."""
        self.rows("UPDATE crm_assets.cursor SET lease_until = clock_timestamp() WHERE lease_until IS NOT NULL")
        self.rows("UPDATE crm_assets.inbox SET next_try_at = clock_timestamp() WHERE state IN ('pending', 'claimed')")
        self.rows(
            """UPDATE crm_assets.outbox SET next_try_at = clock_timestamp(), sent_at = sent_at - interval '1 minute'
                WHERE state IN ('pending', 'unknown')"""
        )

    def _aged(self) -> None:
        """Ten minutes have passed since the last describe."""
        self.rows("UPDATE crm_assets.object SET described_at = described_at - interval '10 minutes'")

    def under_way(self) -> list[dict[str, Any]]:
        return self.rows(
            """SELECT seq, state, reason FROM crm_assets.outbox o
                WHERE state IN ('pending', 'sending', 'unknown')
                  -- What is behind an open conflict waits for a person, as the conflict does.
                  AND NOT (state = 'pending' AND EXISTS (
                          SELECT FROM crm_assets.outbox c
                           WHERE c.row_id = o.row_id AND c.state = 'conflict'
                             AND (c.op <> 'update' OR o.op <> 'update' OR c.new ?| crm_assets.keys(o.new))))
               UNION ALL SELECT seq, state, reason FROM crm_assets.inbox WHERE state IN ('pending', 'claimed')"""
        )

    def settle(self) -> None:
        main = self.processes[0]
        for _ in range(25):
            self.time_passes()
            self.drain(main)
            self.read_events(main)
            # As the relay does: what a process that died left in the stage.
            apply(main.db, "salesforce", self.obj)
            if not self.under_way():
                return
        raise AssertionError(f"it does not come to rest: {self.under_way()}")

    def come_to_rest(self) -> None:
        """Ordinary runs until nothing is under way. What a full read finds is settled too."""
        self.sandbox.clear_faults()
        self.end_transaction()
        self.hints.clear()
        self._aged()
        self.time_passes()
        self.sync(self.processes[0])
        self.settle()
        self.sync(self.processes[0], "full")
        self.settle()

    def decide_all(self, winner: str) -> None:
        """A person settles whatever waits for one; what that brings up anew as well."""
        for _ in range(10):
            while self.rows("SELECT 1 FROM crm_assets.conflict WHERE state = 'open'"):
                self.decide(winner)
            self.settle()
            if not self.rows("SELECT 1 FROM crm_assets.conflict WHERE state = 'open'"):
                return
        raise AssertionError("one conflict brings up the next one")


def live(sandbox: Sandbox, url: str, writer: str, home: Path) -> Iterator[World]:
    world = World(sandbox, url, writer, home)
    yield world
    world.close()
