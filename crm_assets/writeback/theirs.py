"""Reading what the CRM has, beside what we are about to write."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from crm_assets.connectors.base import Connector
from crm_assets.core.errors import CrmAssetsError
from crm_assets.core.model import Object, Page, Source, Value
from crm_assets.store import children, setaside, stage
from crm_assets.store.database import Database
from crm_assets.store.write import Write
from crm_assets.writeback import waves
from crm_assets.writeback.waves import Crew


@dataclass(frozen=True)
class Record:
    """One record as the CRM has it now."""

    id: str
    version: str | None
    deleted: bool
    values: Mapping[str, Value] = field(repr=False)


def concerned(writes: Iterable[Write]) -> set[str]:
    """The columns by which writes are compared with the CRM's records."""
    return {column for write in writes for values in (write.base, write.new) for column in values}


@dataclass(frozen=True)
class Seen:
    """What a read by id found. Ids that are in neither are not known to the CRM any more."""

    records: Mapping[str, Record]
    unreadable: frozenset[str]
    """Records that exist but hold a value that cannot be stored; they are set aside."""


def by_id(
    db: Database, connector: Connector, obj: Object, ids: Sequence[str], columns: Collection[str], crew: Crew
) -> Seen:
    """Records by id, with the values of ``columns``; what was seen is an observation too and goes to the stage."""

    def read(some: Sequence[str]) -> Page:
        observed_at = db.now()
        with crew.calling:
            page = connector.fetch(obj, some)
        with db.transaction() as conn:
            stage.put(conn, connector.config.name, obj, page, Source.ID, observed_at)
            children.stage_gone(conn, connector.config.name, obj, page, observed_at)
            setaside.record(conn, connector.config.name, obj.table, page.poison)
        return page

    seen: dict[str, Record] = {}
    unreadable: set[str] = set()
    for _, page in crew.side_by_side(read, waves.parts(sorted(set(ids)), connector.max_fetch)):
        if isinstance(page, CrmAssetsError):
            raise page
        seen |= {record.id: record for record in records(obj, page, columns)}
        unreadable |= {poison.id for poison in page.poison}
    return Seen(seen, frozenset(unreadable))


def by_row_id(db: Database, connector: Connector, obj: Object, row_ids: Sequence[str]) -> dict[str, Record]:
    """Records by the row_id in their external-id field, deleted ones included where the CRM shows them."""
    column = obj.external_id_column
    assert column is not None
    seen: dict[str, Record] = {}
    for start in range(0, len(row_ids), connector.max_fetch):
        page = connector.lookup(obj, list(row_ids[start : start + connector.max_fetch]))
        for record in records(obj, page, (column,)):
            key = str(record.values.get(column))
            # A deleted record and a live one may both carry the value; the live one is the record.
            if key not in seen or seen[key].deleted:
                seen[key] = record
    return seen


def records(obj: Object, page: Page, columns: Collection[str] | None = None) -> list[Record]:
    """The records of a page, with all their values or those of ``columns``: making them is most of what it costs."""
    names = [f.column for f in obj.fields if columns is None or f.column in columns]
    table = page.table.select(["id", "_version", "_deleted", *names])
    return [
        Record(
            id=record_id,
            version=None if version is None else str(version),
            deleted=bool(deleted),
            values=dict(zip(names, values, strict=True)),
        )
        for record_id, version, deleted, *values in zip(*(c.to_pylist() for c in table.columns), strict=True)
    ]
