"""Lines of transactions as records of their own, each named by its transaction and its line.

Source: SuiteQL table ``transactionline``; "Working with Sublists" (merging by line). A line carries no time of change
that a query could rely on, but its transaction does; so lines are read from their transactions, all of each.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from zoneinfo import ZoneInfo

import pyarrow as pa
import pyarrow.compute as pc

from crm_assets.connectors.netsuite import suiteql
from crm_assets.connectors.netsuite.cast import Reply, page_of
from crm_assets.connectors.netsuite.client import RECORDS, Client
from crm_assets.connectors.netsuite.describe import MODIFIED, Catalog, field_of, readable
from crm_assets.connectors.netsuite.equality import same
from crm_assets.connectors.netsuite.failures import NONEXISTENT_ID
from crm_assets.connectors.netsuite.kinds import Kind, lines_of
from crm_assets.connectors.netsuite.records import AT_ONCE, Records, pages
from crm_assets.connectors.netsuite.suiteql import Query
from crm_assets.connectors.netsuite.writing import body_of, line_of, one_by_one
from crm_assets.core.errors import CrmAssetsError, ObjectUnavailable, RejectedError, SchemaChanged, UnknownOutcome
from crm_assets.core.model import Field, FieldType, Mutation, Object, Op, Outcome, Page, Result, Value, Window
from crm_assets.core.naming import columns, snake

log = logging.getLogger(__name__)

PARENT, LINE = "parent_id", "line"
_TABLE = "transactionline"
_KEY = "uniquekey"
# Of a transaction's lines, the first stands for itself, and some for its taxes.
_OWN = ("mainline = 'F'", "taxline = 'F'")
_WIRE = Kind("", _TABLE, (), columns={PARENT: "transaction", LINE: "id"})
_NAMED = Kind("", _TABLE, (), columns={PARENT: "transaction"})
"""As ``_WIRE``, once rows have the ids that lines have here."""


def describe(client: Client, catalog: Catalog, name: str, chosen: Mapping[str, str]) -> Object:
    """The table of a sublist."""
    kind, sublist = ends_of(name)
    (type_,) = kind.types
    described = catalog.properties(type_).get(sublist)
    if described is None:
        raise ObjectUnavailable(
            f"{client.config.name}: the role sees no lines {sublist!r} of {kind.name}; remove {name!r} from defs.yaml"
        )
    properties = described["properties"]["items"]["items"]["properties"]
    found = [fld for key, value in properties.items() if (fld := field_of(_WIRE, key, value)) is not None]
    columned = catalog.columned(_WIRE, [fld.name for fld in found])
    fields = [
        Field(PARENT, "", FieldType.REFERENCE, "reference", kind.name, False, True, reference_to=(kind.name,)),
        # NetSuite numbers them.
        Field(LINE, "", FieldType.INTEGER, "integer", "Line"),
        *(fld for fld in found if fld.name != LINE and fld.name in columned),
    ]
    names = columns([fld.name for fld in fields], chosen, "")
    return Object(
        name=name,
        table=snake(name),
        label=name,
        fields=tuple(replace(fld, column=names[fld.name]) for fld in fields),
        id_field="id",
        version_field=None,
        createable=True,
        updateable=True,
        deletable=True,
        parent=PARENT,
    )


class Lines:
    """Answers about lines; the transactions they belong to are found by ``records``."""

    def __init__(self, client: Client, records: Records, zone: ZoneInfo) -> None:
        self._client = client
        self._records = records
        self._zone = zone

    def read(self, obj: Object, window: Window | None, after: str | None) -> Iterator[Page]:
        """The lines of all transactions (of those that changed in the window), complete for each of them."""
        parent = _parent(obj)
        choice = self._query(obj, [])
        for reply in self._records.ids(parent, window, choice.behind(after)):
            ids = reply.ids
            for start in range(0, len(ids), AT_ONCE):
                some = ids[start : start + AT_ONCE]
                over = not reply.more and start + AT_ONCE >= len(ids)
                yield replace(self.of(obj, some), next=None if over else choice.place(some[-1]))

    def fetch(self, obj: Object, ids: Sequence[str]) -> Page:
        """By ids of lines or of transactions; the page has all lines that those have."""
        return self.of(obj, list(dict.fromkeys(record_id.partition(":")[0] for record_id in ids)))

    def of(self, obj: Object, parents: Sequence[str]) -> Page:
        """All lines of these transactions."""
        kind, _ = ends_of(obj.name)
        found: list[Page] = []
        for start in range(0, len(parents), AT_ONCE):
            numbers = [suiteql.number(one) for one in parents[start : start + AT_ONCE]]
            query = self._query(obj, numbers)
            names = ["id", "transaction", _KEY, *(_WIRE.column(f.name) for f in obj.fields)]
            try:
                for reply in pages(self._client, query, names, f"lines of {kind.name}"):
                    found.append(page_of(_NAMED, obj, _named(reply), self._zone))
            except ObjectUnavailable:
                raise
            except RejectedError as error:
                if readable(self._client, _TABLE, [_WIRE.column(f.name) for f in obj.fields]):
                    raise
                raise SchemaChanged(str(error), error.code) from error
        tables = [page.table for page in found] or [obj.page_schema().empty_table()]
        poison = tuple(one for page in found for one in page.poison)
        return Page(pa.concat_tables(tables), poison, complete_for=tuple(parents))

    def ids(self, obj: Object, window: Window | None) -> Iterator[Sequence[str]]:
        for page in self.read(obj, window, None):
            yield page.table["id"].to_pylist()

    def count(self, obj: Object, window: Window | None) -> int:
        return sum(len(ids) for ids in self.ids(obj, window))

    def find(self, obj: Object, values: Mapping[str, Value]) -> Page:
        """The lines of the transaction that have these values; lines do not say when they were made."""
        table = self.of(obj, [str(values[obj.parent_column or ""])]).table
        return Page(table.filter(pa.array([_alike(obj, values, row) for row in table.to_pylist()], pa.bool_())))

    def write(self, obj: Object, mutations: Sequence[Mutation]) -> list[Outcome]:
        return one_by_one(self._client, mutations, lambda mutation, within: self._send(obj, mutation, within))

    def _send(self, obj: Object, mutation: Mutation, within: timedelta) -> Outcome:
        """A line is written as a part of its transaction: merged with the others, by its number."""
        kind, sublist = ends_of(obj.name)
        what = f"{mutation.op.value} of a line of {kind.name}"
        if mutation.op is Op.DELETE:
            return self._take_away(kind, sublist, mutation, what, within)
        if mutation.op is Op.UPDATE:
            parent, _, number = (mutation.id or "").partition(":")
            line = body_of(obj, mutation.values)
            self._patch(kind, sublist, parent, line | {LINE: int(number)}, what, within)
            return Outcome(mutation.seq, Result.CONFIRMED, id=mutation.id)
        parent = str(mutation.values[obj.parent_column or ""])
        line = line_of(obj, mutation.values)
        before = set(self.of(obj, [parent]).table["id"].to_pylist())
        self._patch(kind, sublist, parent, line, what, within)
        try:
            alike = self.find(obj, mutation.values).table["id"].to_pylist()
        except CrmAssetsError as error:
            raise UnknownOutcome(f"{error}; the line is made, its number is not known") from error
        made = [record_id for record_id in alike if record_id not in before]
        if len(made) != 1:
            raise UnknownOutcome(
                f"{self._client.config.name}: {what}: {len(made)} new lines of it have these values, not one"
            )
        return Outcome(mutation.seq, Result.CONFIRMED, id=made[0])

    def _take_away(self, kind: Kind, sublist: str, mutation: Mutation, what: str, within: timedelta) -> Outcome:
        """A line leaves when its transaction's lines are replaced by those that stay, each named by its number alone.

        The record itself says which there are: the query's lines are not only those of the sublist.
        """
        parent, _, number = (mutation.id or "").partition(":")
        path = f"{RECORDS}/{kind.name}/{suiteql.number(parent)}"
        try:
            record = self._client.get(path, "fetch", f"lines of {kind.name}", params={"expandSubResources": "true"})
        except RejectedError as error:
            if error.code != NONEXISTENT_ID:
                raise
            return Outcome(mutation.seq, Result.GONE, id=mutation.id, reason=str(error))
        shown = record.get(sublist) or {}
        if shown.get("hasMore"):
            reason = (
                "the record shows only some of its lines, and the others would leave with it; delete it in NetSuite"
            )
            return Outcome(mutation.seq, Result.REJECTED, reason=reason)
        there = [int(line[LINE]) for line in shown.get("items", ())]
        if int(number) not in there:
            return Outcome(mutation.seq, Result.GONE, id=mutation.id)
        staying = [{LINE: one} for one in there if one != int(number)]
        self._client.write("PATCH", f"{path}?replace={sublist}", what, {sublist: {"items": staying}}, within)
        return Outcome(mutation.seq, Result.CONFIRMED, id=mutation.id)

    def made_within(self, mutations: Sequence[Mutation], outcomes: Sequence[Outcome]) -> Iterator[Outcome]:
        """Of creates that carried lines, which number each line has got. One that cannot be told is left out."""
        places = {outcome.seq: outcome.id for outcome in outcomes if outcome.result is Result.CONFIRMED}
        for mutation in mutations:
            parent = places.get(mutation.seq)
            for inner in mutation.within if parent is not None else ():
                try:
                    rows = self.of(inner.obj, [str(parent)]).table.to_pylist()
                except CrmAssetsError as error:
                    log.warning("the numbers of new lines are looked for later: %s", error)
                    continue
                for one in inner.mutations:
                    values = {**one.values, str(inner.obj.parent_column): parent}
                    row = next((row for row in rows if _alike(inner.obj, values, row)), None)
                    if row is not None:
                        rows.remove(row)
                        yield Outcome(one.seq, Result.CONFIRMED, id=str(row["id"]))

    def _patch(self, kind: Kind, sublist: str, parent: str, line: object, what: str, within: timedelta) -> None:
        body = {sublist: {"items": [line]}}
        self._client.write("PATCH", f"{RECORDS}/{kind.name}/{suiteql.number(parent)}", what, body, within)

    def _query(self, obj: Object, parents: Sequence[str]) -> Query:
        shown = suiteql.columns(
            _WIRE, replace(obj, fields=tuple(f for f in obj.fields if f.name not in (PARENT, LINE)))
        )
        own = (*_OWN, f"({obj.where})") if obj.where else _OWN
        where = (suiteql.among("transaction", parents), *own) if parents else own
        return Query(_TABLE, f"transaction, {_KEY}, {shown}", where, _KEY)


def ends_of(name: str) -> tuple[Kind, str]:
    ends = lines_of(name)
    assert ends is not None
    return ends


def _parent(obj: Object) -> Object:
    kind, _ = ends_of(obj.name)
    return Object(kind.name, snake(kind.name), (), id_field="id", version_field=MODIFIED[0])


def _named(reply: Reply) -> Reply:
    """The rows with the ids that lines have here; the number of the line stays in ``line``."""
    whole = pc.binary_join_element_wise(reply.columns["transaction"], reply.columns["id"], ":")
    return replace(reply, columns={**reply.columns, "id": whole, LINE: reply.columns["id"]})


def _alike(obj: Object, values: Mapping[str, Value], row: Mapping[str, Value]) -> bool:
    """Whether a line has these values; what was left to NetSuite may have become any."""
    return all(value is None or same(obj.by_column[column], value, row[column]) for column, value in values.items())
