"""The tables and columns that SuiteQL knows, and the SQL that reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .fields import Field, RecordType, Sublist
from .objects import ITEM_LINES
from .schema import Schema, quote

KINDS = {"ref": "number", "integer": "number", "number": "number", "boolean": "boolean", "date": "date",
         "date-time": "datetime"}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Column:
    """``sql`` with ``{t}`` for the table's alias; ``kind`` is text, number, boolean, date or datetime; ``sure`` tells
    that it is never null."""

    sql: str
    kind: str
    field: Field | None = None
    sure: bool = False


@dataclass(frozen=True, slots=True)
class Table:
    """``source`` is what stands in FROM."""

    name: str
    source: str
    columns: Mapping[str, Column]


def column(field: Field) -> Column:
    sure = field.name in ("id", "lastModifiedDate", "dateCreated", "createdDate")
    return Column("{t}." + quote(field.column), KINDS.get(field.type, "text"), field, sure)


def tables(schema: Schema) -> dict[str, Table]:
    """All tables by name."""
    names = dict.fromkeys(one.table for one in schema.types.values())
    found = {name: _records(name, schema.together(name)) for name in names}
    for lines in (_lines(found["transaction"], ITEM_LINES), _deleted(), Table("dual", "(SELECT 'X' AS dummy)", {
        "dummy": Column("{t}.dummy", "text")})):  # fmt: skip
        found[lines.name] = lines
    return found


def _records(name: str, types: list[RecordType]) -> Table:
    columns: dict[str, Column] = {}
    for kind in types:
        for field in kind.fields:
            own = column(field)
            known = columns.setdefault(field.name.lower(), own)
            if known.field and known.field.choices != field.choices:
                more = tuple(one for one in field.choices if one not in known.field.choices)
                merged = known.field.but(choices=known.field.choices + more)
                columns[field.name.lower()] = Column(known.sql, known.kind, merged)
    if types[0].marker:
        choices = tuple((kind.code, _spaced(kind.name)) for kind in types)
        columns[types[0].marker] = Column("{t}." + quote(types[0].marker), "text", Field("type", choices=choices))
    if name == "transaction":
        kinds = " ".join(f"WHEN '{kind.code}' THEN '{kind.name.lower()}'" for kind in types)
        columns["recordtype"] = Column(f"(CASE {{t}}.type {kinds} END)", "text")
        columns["trandisplayname"] = Column("{t}._name", "text")
        columns["foreigntotal"] = Column("{t}.total", "number")
    return Table(name, quote(name), columns)


def _lines(headers: Table, lines: Sublist) -> Table:
    """The main line stands first: line 0, with the header's values."""
    header = Field("transaction", "ref", to=("salesOrder", "invoice", "customerPayment"))
    columns = {
        "transaction": Column("{t}._parent", "number", header, sure=True),
        "id": Column("{t}.line", "number", sure=True),
        "linesequencenumber": Column("{t}.line", "number"),
        "uniquekey": Column("{t}._unique", "number", sure=True),
        "mainline": Column("(CASE {t}.line WHEN 0 THEN 'T' ELSE 'F' END)", "boolean"),
        "taxline": Column("'F'", "boolean"),
        "linelastmodifieddate": Column("{t}.linelastmodifieddate", "datetime", sure=True),
    }
    for field in lines.fields:
        columns[field.name.lower()] = column(field)
    columns |= {"netamount": columns["amount"], "foreignamount": columns["amount"], "memo": columns["description"]}
    for name in ("entity", "createdfrom", "subsidiary"):
        known = headers.columns[name]
        sql = f"(SELECT h.{name} FROM {headers.source} h WHERE h.id = {{t}}._parent)"
        columns[name] = Column(sql, known.kind, known.field)
    return Table("transactionline", quote(lines.table), columns)


def _deleted() -> Table:
    return Table(
        "deletedrecord",
        "_deleted",
        {
            "recordid": Column("{t}.id", "number", sure=True),
            "type": Column("{t}.record", "text"),
            "recordtypeid": Column("NULL", "number"),
            "scriptid": Column("upper({t}.record)", "text"),
            "deleteddate": Column("{t}.deleteddate", "datetime", sure=True),
            "deletedby": Column("NULL", "number"),
            "context": Column("'REST'", "text"),
            "name": Column("{t}.name", "text"),
        },
    )


def _spaced(name: str) -> str:
    return "".join(f" {one}" if one.isupper() else one for one in name).capitalize()
