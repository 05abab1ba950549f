"""Reconciliation: counts, then ids, then every field, of one object on both ends.

While it runs both ends go on changing. So a difference is only a suspicion: the record is read by id, goes through
``apply`` like any other observation, and is compared once more. What then still differs is drift.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from crm_assets.connectors.base import Connector
from crm_assets.core.compare import Finding, Kind, by_fields, by_ids, count
from crm_assets.core.model import Object, Page, Source
from crm_assets.reconcile import ledger
from crm_assets.reconcile.sides import differing, local_ids, under_way
from crm_assets.store import children, setaside, stage
from crm_assets.store.apply import apply
from crm_assets.store.database import Database


@dataclass(frozen=True)
class Reconciled:
    """The verdict on one object. Counts are records; ``findings`` are what could not be repaired.

    ``unsettled`` records are under way in one direction or the other and count for neither side.
    """

    connection: str
    object: str
    as_of: datetime
    complete: bool
    remote_rows: int
    local_rows: int
    missing: int = 0
    extra: int = 0
    differing: int = 0
    repaired: int = 0
    unsettled: int = 0
    set_aside: int = 0
    findings: tuple[Finding, ...] = field(default=(), repr=False)
    api_calls: int = 0


def reconcile(db: Database, connector: Connector, obj: Object) -> Reconciled:
    """Compare, repair through ``apply``, compare what was repaired again, and remember the verdict.

    Raises what the connector raises; the verdict then stays what it was.
    """
    calls = connector.gate.calls
    connection = connector.config.name
    as_of = db.now()
    apply(db, connection, obj)
    remote_rows = connector.count(obj)
    suspects = _compare(db, connector, obj)
    findings, aside = _recheck(db, connector, obj, sorted({finding.id for finding in suspects}))
    ids = local_ids(db, connection, obj)
    result = Reconciled(
        connection,
        obj.table,
        as_of,
        complete=not findings,
        remote_rows=remote_rows,
        local_rows=len(ids),
        missing=count(findings, Kind.MISSING),
        extra=count(findings, Kind.EXTRA),
        differing=count(findings, Kind.DIFFERS),
        repaired=len({f.id for f in suspects} - {f.id for f in findings} - under_way(db, connection, obj)),
        unsettled=len(under_way(db, connection, obj)),
        set_aside=aside,
        findings=tuple(findings),
        api_calls=connector.gate.calls - calls,
    )
    ledger.store(db, result.connection, result.object, result.as_of, result.complete, result.findings)
    return result


def _compare(db: Database, connector: Connector, obj: Object) -> list[Finding]:
    """Every record of the CRM against the mirror. Deleted ones that the CRM still shows are not records."""
    connection = connector.config.name
    remote: set[str] = set()
    unlike: dict[str, tuple[str, ...]] = {}
    for page in connector.read(obj, None):
        live = _live(page)
        remote.update(live.table["id"].to_pylist())
        remote.update(poison.id for poison in page.poison)
        unlike |= differing(db, connection, obj, live)
    out = under_way(db, connection, obj)
    return by_ids(remote, local_ids(db, connection, obj), out) + by_fields(unlike, out)


def _recheck(db: Database, connector: Connector, obj: Object, suspects: Sequence[str]) -> tuple[list[Finding], int]:
    """Read the suspects by id, apply, and compare again. Returns what is left, and how many were set aside."""
    connection = connector.config.name
    left: list[Finding] = []
    aside = 0
    for start in range(0, len(suspects), connector.max_fetch):
        wanted = suspects[start : start + connector.max_fetch]
        observed_at = db.now()
        page = connector.fetch(obj, wanted)
        live = _live(page)
        known = set(page.table["id"].to_pylist())
        poisoned = {poison.id for poison in page.poison}
        with db.transaction() as conn:
            stage.put(conn, connection, obj, page, Source.ID, observed_at)
            children.stage_gone(conn, connection, obj, page, observed_at)
            gone = [(record_id, None) for record_id in wanted if record_id not in known | poisoned]
            stage.put_deleted(conn, connection, obj, gone, Source.ID, observed_at)
            aside += setaside.record(conn, connection, obj.table, page.poison)
        apply(db, connection, obj)
        out = under_way(db, connection, obj)
        here = local_ids(db, connection, obj, wanted)
        # A parent is read whole; its other children are under no suspicion.
        there = set(live.table["id"].to_pylist()).intersection(wanted)
        # What is set aside is known to be missing, and why; it is drift of its own kind.
        left += by_ids(there, here, out | poisoned) + by_fields(differing(db, connection, obj, live), out)
    return left, aside


def _live(page: Page) -> Page:
    import pyarrow.compute as pc

    return Page(page.table.filter(pc.invert(page.table["_deleted"])), page.poison, page.next)
