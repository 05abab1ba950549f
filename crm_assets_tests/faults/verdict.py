"""What must hold once the world of the stateful test is quiet.

Both ends are equal, or the difference is told: an open conflict, a rejected or an unknown write. Nobody's last word is
lost unless the policy, a person or the CRM gave it up. No record is made twice, none returns from the dead, and
nothing is written without a cause.
"""

from __future__ import annotations

import uuid
from typing import Any

from crm_assets.core.model import Change
from crm_assets.reconcile.compare import reconcile
from crm_assets_tests.faults.world import POLICY, Record, World

Row = dict[str, Any]


def quiet(world: World, winner: str) -> None:
    """Judge when it is quiet, and once more when a person has settled every conflict for ``winner``."""
    world.come_to_rest()
    _Verdict(world).judge()
    world.decide_all(winner)
    _Verdict(world).equal()
    main = world.processes[0]
    found = reconcile(main.db, main.connection.connector, world.obj)
    # A create that was rejected keeps its row; it is the only difference that may be left, and it is told.
    unborn = world.rows("SELECT count(*) FROM salesforce.contact WHERE id IS NULL")[0]["count"]
    assert not found.repaired and (found.missing, found.extra, found.differing) == (0, unborn, 0), found
    assert found.complete or unborn, found
    _no_echo(world)


def _no_echo(world: World) -> None:
    """Another round of everything writes nothing, anywhere."""
    main = world.processes[0]
    made = world.rows("SELECT count(*) FROM crm_assets.outbox WHERE split_of IS NULL")[0]["count"]
    assert made == world.captured, f"{made} outbox rows for {world.captured} writes of the product"
    everything = "SELECT row_id, xmin::text FROM salesforce.contact ORDER BY row_id"
    before = (world.rows(everything), world.sandbox.records("Contact"))
    world.deliver([Change(uuid.uuid4().hex, "Contact", r.id, "update") for r in world.records if r.id is not None])
    world.read_events(main)
    world.drain(main)
    assert (world.rows(everything), world.sandbox.records("Contact")) == before, "something was written without a cause"


class _Verdict:
    """Both ends as they are at one moment."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.crm = world.sandbox.records("Contact")
        self.rows = {row["row_id"]: row for row in world.rows("SELECT * FROM salesforce.contact")}
        self.by_id = {row["id"]: row for row in self.rows.values() if row["id"] is not None}
        self.outboxes: dict[Any, list[Row]] = {}
        for write in world.rows("SELECT * FROM crm_assets.outbox ORDER BY seq"):
            self.outboxes.setdefault(write["row_id"], []).append(write)

    def judge(self) -> None:
        assert len({one["fields"]["LastName"] for one in self.crm.values()}) == len(self.crm), "created twice"
        known: set[Any] = set()
        for record in self.world.records:
            one, row, outbox = self._ends(record)
            if row is not None:
                known.add(row["row_id"])
            self._life(record, one, row, outbox)
            if one is None or one["deleted"] or row is None:
                continue
            for column, name in self.world.fields.items():
                self._field(record, column, one["fields"][name], row[column], outbox)
            self._reference(record, one["fields"]["ReportsToId"], row["reports_to_id"], outbox)
        assert known == set(self.rows), "a row that nobody made"

    def equal(self) -> None:
        """Nothing is open any more: what both ends have is the same, field by field."""
        for record in self.world.records:
            one, row, _ = self._ends(record)
            if one is None or one["deleted"] or row is None:
                continue
            for column, name in {**self.world.fields, "reports_to_id": "ReportsToId"}.items():
                there, here = one["fields"][name], row[column]
                assert there == here, f"{record.name}.{column}: CRM {there}, mirror {here}, and nothing is open"

    def _ends(self, record: Record) -> tuple[Row | None, Row | None, list[Row]]:
        one = self.world.in_crm(record, self.crm)
        row = self.rows.get(record.row_id) or self.by_id.get(record.id)
        return one, row, self.outboxes.get(record.row_id, [])

    def _told(self, record: Record, column: str) -> bool:
        return bool(
            self.world.rows(
                "SELECT 1 FROM crm_assets.conflict WHERE row_id = %s AND field = %s AND state = 'open'",
                record.row_id,
                column,
            )
        )

    def _life(self, record: Record, one: Row | None, row: Row | None, outbox: list[Row]) -> None:
        there, here = one is not None and not one["deleted"], row is not None
        if there != here:
            waiting = [o for o in outbox if o["state"] in ("conflict", "rejected", "unknown")]
            assert waiting, f"{record.name} is {'only' if there else 'not'} in the CRM, and nothing says why"
        elif record.untouched_death:
            fought = self.world.rows("SELECT 1 FROM crm_assets.conflict WHERE row_id = %s", record.row_id)
            # A person, a policy or the CRM itself did not let the delete be.
            gave_in = any(o["op"] == "delete" and o["state"] in ("discarded", "rejected") for o in outbox)
            assert not there or fought or gave_in, f"{record.name} was deleted and is back"
        elif record.immortal:
            assert there, f"{record.name} is gone, and nobody deleted it"

    def _field(self, record: Record, column: str, there: str | None, here: str | None, outbox: list[Row]) -> None:
        ours, theirs = record.ours.get(column), record.theirs.get(column)
        what = f"{record.name}.{column}: CRM {there}, mirror {here}, ours {ours}, theirs {theirs}"
        if there != here:
            told = self._told(record, column) and ours is not None and here == ours.value
            assert told, f"they differ, and no conflict says so: {what}"
            return
        if ours is None and theirs is None:
            return
        gave_up = _gave_up(outbox, column)
        assert there in {ours and ours.value, theirs and theirs.value} or gave_up, f"neither side's last value: {what}"
        if ours is not None and there != ours.value:
            later = theirs is not None and theirs.moment > ours.moment
            assert later or gave_up, f"our update was lost: {what}"
        if theirs is not None and there != theirs.value:
            ruled = self.world.rows(
                "SELECT 1 FROM crm_assets.conflict WHERE row_id = %s AND field = %s AND theirs = to_jsonb(%s::text)",
                record.row_id,
                column,
                theirs.value,
            )
            knew = theirs.value in record.known.get(column, ())
            free = theirs.busy or POLICY.get(column) == "product_wins"
            assert knew or free or ruled, f"their update was overwritten unseen: {what}"

    def _reference(self, record: Record, there: str | None, here: str | None, outbox: list[Row]) -> None:
        """A row_id that the product put there has become the other record's id, on both ends."""
        what = f"{record.name} reports to {there} in the CRM and to {here} in the mirror"
        if there != here:
            assert self._told(record, "reports_to_id"), f"{what}, and no conflict says so"
        elif record.leads is not None and record.leads.immortal and record.immortal:
            gave_up = _gave_up(outbox, "reports_to_id")
            assert there == record.leads.id or gave_up, f"{what}, and not to {record.leads.name}"


def _gave_up(outbox: list[Row], column: str) -> bool:
    """Whether a write of the field was given up: by a person, a policy or the CRM, or by the product, which deleted
    the record before it was sent. It may be an earlier one that had taken in the later."""
    return any(
        column in (o["new"] or {})
        and (o["state"] in ("discarded", "rejected") or o["reason"] == "the record was deleted by the product")
        for o in outbox
    )
