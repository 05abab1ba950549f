"""Reconciliation: counts, then ids, then every field, of one object on both ends.

While it runs both ends go on changing. So a difference is only a suspicion: the record is read by id, goes through
``apply`` like any other observation, and is compared once more. What then still differs is drift that stays; what
differed and is repaired now is written down too, with its likely cause.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from crm_assets.connectors.base import Connector
from crm_assets.core.compare import Cause, Evidence, Finding, Kind, by_fields, by_ids, count, explain
from crm_assets.core.model import Object, Page, Source
from crm_assets.core.width import storable
from crm_assets.reconcile import fields, known, ledger, narrow, sides
from crm_assets.reconcile.sides import differing, local_ids, versions
from crm_assets.store import children, inbox, loads, setaside, stage
from crm_assets.store.apply import apply
from crm_assets.store.database import Database


class Depth(StrEnum):
    COUNTS = "counts"
    """Counts per window of what the reads have passed, ids where they differ. Costs three calls if all is well."""
    FIELDS = "fields"
    """Every field of every record; finds what changed without its version. Costs a full read. Records that live
    within others are always compared so: counting them costs the same read."""


class Repair(StrEnum):
    AUTO = "auto"
    ASK = "ask"
    """Nothing is repaired before a person approves it (``crm_assets.approve``)."""
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class Limits:
    """From how many repairs at once a person is asked, when both are passed."""

    rows: int = 20_000
    share: float = 0.2


@dataclass(frozen=True)
class Reconciled:
    """The verdict on one object. Counts are records; ``findings`` are what differs still, ``mended`` what did.

    ``unsettled`` records are under way in one direction or the other and count for neither side. ``guard``: the
    question to a person without whose answer nothing more is repaired.
    """

    connection: str
    object: str
    as_of: datetime
    complete: bool
    depth: Depth
    remote_rows: int
    local_rows: int
    missing: int = 0
    extra: int = 0
    differing: int = 0
    duplicates: int = 0
    repaired: int = 0
    unsettled: int = 0
    set_aside: int = 0
    findings: tuple[Finding, ...] = field(default=(), repr=False)
    mended: tuple[Finding, ...] = field(default=(), repr=False)
    guard: int | None = None
    api_calls: int = 0

    @property
    def different(self) -> int:
        """Records with a finding."""
        return len({finding.id for finding in self.findings})


def reconcile(
    db: Database,
    connector: Connector,
    obj: Object,
    depth: Depth = Depth.FIELDS,
    repair: Repair = Repair.AUTO,
    limits: Limits = Limits(),
) -> Reconciled:
    """Compare, repair through ``apply``, compare what was repaired again, and remember the verdict.

    Raises what the connector raises; the verdict then stays what it was, and a comparison of fields goes on behind
    the last finished part next time.
    """
    calls = connector.gate.calls
    connection = connector.config.name
    as_of = db.now()
    if obj.parent is not None:
        depth = Depth.FIELDS
    apply(db, connection, obj)
    suspected, remote_rows, passed = _suspects(db, connector, obj, depth)
    suspected |= ledger.open_ids(db, connection, obj.table) | known.stuck(db, connection, obj)
    local_rows = sides.rows(db, connection, obj)
    guard = None
    mend = repair is Repair.AUTO and not (len(suspected) > limits.rows and len(suspected) > limits.share * local_rows)
    suspicions = _Recheck(db, connector, obj, mend).run(sorted(suspected))
    if mend:
        local_rows = sides.rows(db, connection, obj)
    elif suspicions.left and repair is not Repair.REPORT:
        guard = ledger.ask(db, connection, obj.table, len({f.id for f in suspicions.left}), local_rows)
    out = known.under_way(db, connection, obj)
    findings = suspicions.left + known.not_created(db, connection, obj) + known.duplicates(db, connection, obj)
    left = {finding.id for finding in findings}
    result = Reconciled(
        connection,
        obj.table,
        as_of,
        complete=not findings,
        depth=depth,
        remote_rows=remote_rows,
        local_rows=local_rows,
        missing=count(findings, Kind.MISSING, Kind.ASSOCIATION_MISSING),
        extra=count(findings, Kind.EXTRA, Kind.ASSOCIATION_EXTRA),
        differing=count(findings, Kind.DIFFERS, Kind.STALE, Kind.WRONG_REFERENCE),
        duplicates=count(findings, Kind.DUPLICATE),
        repaired=len(suspicions.mended_ids - left - out),
        unsettled=len(out),
        set_aside=suspicions.aside,
        findings=tuple(findings),
        mended=tuple(f for f in suspicions.mended if f.id not in left | out),
        guard=guard,
        api_calls=connector.gate.calls - calls,
    )
    ledger.store(
        db,
        result.connection,
        result.object,
        as_of,
        result.complete,
        passed if result.complete else None,
        result.findings,
        result.mended,
    )
    if depth is Depth.FIELDS:
        fields.finished(db, connection, obj.table, as_of)
    return result


def _suspects(db: Database, connector: Connector, obj: Object, depth: Depth) -> tuple[set[str], int, datetime | None]:
    """Ids that may differ, how many records the CRM has, and the version below which all of them were looked at."""
    connection = connector.config.name
    versioned = obj.version_field is not None and not obj.version_text
    cursor = loads.read_cursor(db, connection, obj.table)
    # What the reads have not reached yet is not lost.
    passed = datetime.fromisoformat(cursor).replace(microsecond=0) if versioned and cursor is not None else None
    if depth is Depth.FIELDS:
        return *fields.suspects(db, connector, obj), passed
    if not versioned:
        return *narrow.unversioned_suspects(db, connector, obj), None
    high = connector.bound(obj, None).high.replace(microsecond=0)
    if passed is not None:
        high = min(high, passed)
    return *narrow.suspects(db, connector, obj, high, ledger.equal_to(db, connection, obj.table)), high


@dataclass
class _Recheck:
    """Suspects read by id, one call's worth at a time."""

    db: Database
    connector: Connector
    obj: Object
    mend: bool
    left: list[Finding] = field(default_factory=list)
    mended: list[Finding] = field(default_factory=list)
    mended_ids: set[str] = field(default_factory=set)
    aside: int = 0

    def run(self, suspects: Sequence[str]) -> _Recheck:
        for start in range(0, len(suspects), self.connector.max_fetch):
            self._some(suspects[start : start + self.connector.max_fetch])
        return self

    def _some(self, wanted: Sequence[str]) -> None:
        connection = self.connector.config.name
        observed_at = self.db.now()
        page = storable(self.connector.fetch(self.obj, wanted))
        alive = live(page)
        poisoned = {poison.id for poison in page.poison}
        found = [one for one in self._explained(wanted, page, alive) if one.id not in poisoned]
        if not self.mend:
            self.left += found
            return
        present = set(page.table["id"].to_pylist())
        with self.db.transaction() as conn:
            stage.put(conn, connection, self.obj, page, Source.ID, observed_at)
            children.stage_gone(conn, connection, self.obj, page, observed_at)
            gone = [(record_id, None) for record_id in wanted if record_id not in present | poisoned]
            stage.put_deleted(conn, connection, self.obj, gone, Source.ID, observed_at)
            self.aside += setaside.record(conn, connection, self.obj.table, page.poison)
        apply(self.db, connection, self.obj)
        out = known.under_way(self.db, connection, self.obj)
        here = local_ids(self.db, connection, self.obj, wanted)
        # A parent is read whole; its other children are under no suspicion.
        there = set(alive.table["id"].to_pylist()).intersection(wanted)
        # What is set aside is known to be missing, and why; it is drift of its own kind.
        still = by_ids(there, here, out | poisoned)
        still += by_fields(differing(self.db, connection, self.obj, alive), out)
        explained = {(one.id, one.field): one for one in found}
        self.left += [explained.get((one.id, one.field), one) for one in still]
        self.mended_ids |= {one.id for one in found}
        self.mended += [one for one in found if _is_drift(one)]

    def _explained(self, wanted: Sequence[str], page: Page, alive: Page) -> list[Finding]:
        """What differs now, before anything is repaired, with its likely cause."""
        connection = self.connector.config.name
        out = known.under_way(self.db, connection, self.obj)
        unlike = differing(self.db, connection, self.obj, alive)
        here = versions(self.db, connection, self.obj, wanted)
        there = dict(zip(alive.table["id"].to_pylist(), _texts(alive), strict=True))
        writes = known.unarrived(self.db, connection, self.obj, wanted)
        late = known.filled_lately(self.db, connection, self.obj)
        cursor = loads.read_cursor(self.db, connection, self.obj.table)
        with self.db.transaction() as conn:
            pushed = inbox.events_arrive(conn, connection)
        found: list[Finding] = []
        for record_id in wanted:
            on_both = record_id in here and record_id in there
            if record_id in out or (record_id not in here and record_id not in there):
                continue
            if on_both and record_id not in unlike and here[record_id] == there[record_id]:
                continue
            write = writes.get(record_id, known.Unarrived())
            evidence = Evidence(
                there.get(record_id),
                here.get(record_id),
                None if cursor is None else _text(datetime.fromisoformat(cursor)),
                pushed,
                write.unsent,
                write.rejected,
                late,
                edge=bool(self.obj.natural_key),
            )
            found += explain(record_id, unlike.get(record_id, ()), self.obj.by_column, evidence)
        return found


def _is_drift(finding: Finding) -> bool:
    """A record that the next read would have brought anyway is none."""
    return finding.kind not in (Kind.MISSING, Kind.STALE) or finding.cause is not Cause.UNEXPLAINED


def _texts(page: Page) -> list[str]:
    return [_text(v) if isinstance(v, datetime) else str(v or "") for v in page.table["_version"].to_pylist()]


def _text(at: datetime) -> str:
    """As ``sides.versions`` writes it."""
    return at.strftime("%Y-%m-%dT%H:%M:%S.%f")


def live(page: Page) -> Page:
    """Without the deleted records that the CRM still shows: they are no records."""
    import pyarrow.compute as pc

    return Page(page.table.filter(pc.invert(page.table["_deleted"])), page.poison, page.next)
