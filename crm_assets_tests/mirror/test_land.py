"""Landing, few rows and many: the same rows as a plain COPY, whatever the values; and no silent change of a type."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from psycopg import sql

from crm_assets.core.errors import CrmAssetsError
from crm_assets.core.model import Field, FieldType, Object, Page, Source, Window
from crm_assets.mirror import land as landing
from crm_assets.mirror.land import joined, land
from crm_assets.store import ddl, loads
from crm_assets.store.database import Database, statement

OBJ = Object(
    "Thing__c",
    "thing_c",
    (
        Field("Text", "text", FieldType.TEXT, "string"),
        Field("Whole", "whole", FieldType.INTEGER, "int"),
        Field("Number", "number", FieldType.NUMBER, "double"),
        Field("Flag", "flag", FieldType.BOOLEAN, "boolean"),
        Field("Day", "day", FieldType.DATE, "date"),
        Field("Hour", "hour", FieldType.TIME, "time"),
        Field("At", "at", FieldType.TIMESTAMP, "datetime"),
        Field("Parent", "parent_2", FieldType.REFERENCE, "reference"),
    ),
)
_AT = datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
_FULL: dict[str, Any] = {
    "text": "x",
    "whole": 1,
    "number": Decimal("2.5"),
    "flag": True,
    "day": date(2026, 2, 28),
    "hour": time(13, 14, 15, 123456),
    "at": _AT,
    "parent_2": "001",
}
VALUES: list[dict[str, Any]] = [
    _FULL,
    dict.fromkeys(_FULL),
    *(
        _FULL | {"text": text}
        for text in ("", "NA", "NULL", "nan", "null", "\\N", "a\nb\r\n\tc", "\"q\", 'q'", "é😀\u2028", " ")
    ),
    *(_FULL | {"whole": n} for n in (0, -(2**63), 2**63 - 1)),
    *(
        _FULL | {"number": Decimal(n)}
        for n in ("0", "2.50", "-0.000000000000000001", "12345678901234567890.123456789012345678", "3")
    ),
    *(_FULL | {"day": d} for d in (date(1, 1, 1), date(9999, 12, 31), date(1970, 1, 1))),
    *(_FULL | {"hour": h} for h in (time(0), time(23, 59, 59, 999999))),
    *(
        _FULL | {"at": t}
        for t in (
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC),
            datetime(1970, 1, 1, tzinfo=UTC),
        )
    ),
    *(_FULL | {"flag": f} for f in (False, None)),
]


@pytest.fixture(autouse=True)
def tables(db: Database) -> None:
    ddl.ensure_object(db, "crm", OBJ, write=False)


@pytest.fixture(autouse=True, params=["few rows", "many rows"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test lands its rows as few are, and with dlt as many are."""
    if request.param == "many rows":
        monkeypatch.setattr(landing, "FEW_ROWS", 0)


def _page(rows: list[dict[str, Any]], first: int = 0) -> Page:
    records = [{"id": f"{first + n:04}", "_version": _AT, "_deleted": False, **row} for n, row in enumerate(rows)]
    return Page(pa.Table.from_pylist(records, schema=OBJ.page_schema()))


def _load(db: Database) -> loads.Load:
    return loads.open_load(db, "crm", "thing_c", "full", Window(None, _AT), "test")


def _stage(db: Database, relation: str) -> list[tuple[Any, ...]]:
    columns = sql.SQL(", ").join(sql.Identifier(n) for n in OBJ.page_schema().names)
    with db.transaction() as conn:
        return conn.execute(
            statement("SELECT {c} FROM crm_stage.{t} ORDER BY id", c=columns, t=sql.Identifier(relation))
        ).fetchall()


def test_every_value_arrives_as_a_plain_copy_would_bring_it(db: Database, home: Path) -> None:
    page = _page(VALUES)
    assert land(db, home, _load(db), OBJ, joined(OBJ, iter([page])), Source.LIST) == len(VALUES)
    names = OBJ.page_schema().names
    with db.transaction() as conn:
        conn.execute("CREATE TABLE crm_stage.plain (LIKE crm_stage.thing_c)")
        conn.execute("ALTER TABLE crm_stage.plain ALTER _seq DROP NOT NULL, ALTER _source DROP NOT NULL")
        conn.execute("ALTER TABLE crm_stage.plain ALTER _observed_at DROP NOT NULL")
        copy = statement("COPY crm_stage.plain ({c}) FROM STDIN", c=sql.SQL(", ").join(map(sql.Identifier, names)))
        with conn.cursor().copy(copy) as sink:
            for row in page.table.to_pylist():
                sink.write_row([row[name] for name in names])
    landed, plain = _stage(db, "thing_c"), _stage(db, "plain")
    assert landed == plain
    assert len(landed) == len(VALUES)


@pytest.mark.parametrize(
    ("column", "values"),
    [
        ("whole", pa.array([2.5], pa.float64())),
        ("number", pa.array([1.1], pa.float64())),
        ("number", pa.array([3], pa.int64())),
        ("whole", pa.array([7], pa.uint32())),
        ("number", pa.array([1.5], pa.float32())),
        ("text", pa.array(["view"], pa.string_view())),
        ("text", pa.array([True], pa.bool_())),
        ("text", pa.array([12], pa.int64())),
        ("at", pa.array([0], pa.int64())),
        ("whole", pa.array([_AT], pa.timestamp("us", "UTC"))),
        ("flag", pa.array([1], pa.int64())),
    ],
)
def test_a_page_of_another_type_is_cast_or_refused_and_never_reinterpreted(
    db: Database, home: Path, column: str, values: Any
) -> None:
    """Binary COPY would take the eight bytes of a float for a bigint, and report success."""
    index = OBJ.page_schema().names.index(column)
    wrong = Page(_page([_FULL]).table.set_column(index, column, values))
    given = values[0].as_py()
    try:
        land(db, home, _load(db), OBJ, joined(OBJ, iter([_page([_FULL], 1), wrong])), Source.LIST)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError, CrmAssetsError):
        return
    stored = dict(zip(OBJ.page_schema().names, _stage(db, "thing_c")[0], strict=True))[column]
    if column == "text":
        assert stored in ("view", "true", "12")
    elif column == "at":
        assert stored == datetime(1970, 1, 1, tzinfo=UTC)
    elif isinstance(given, datetime):
        assert stored == int(given.timestamp() * 1_000_000)
    elif column == "flag":
        assert stored is True
    else:
        assert float(stored) == pytest.approx(given)


def test_a_page_with_other_columns_lands_nothing(db: Database, home: Path) -> None:
    page = _page([_FULL])
    other = Page(page.table.rename_columns([*page.table.column_names[:-1], "unknown"]))
    with pytest.raises(CrmAssetsError, match="other columns"):
        land(db, home, _load(db), OBJ, joined(OBJ, iter([other])), Source.LIST)
    assert _stage(db, "thing_c") == []


def test_a_stage_column_of_another_type_is_noticed_before_anything_is_copied(db: Database, home: Path) -> None:
    with db.transaction() as conn:
        conn.execute("ALTER TABLE crm_stage.thing_c ALTER whole TYPE double precision")
    with pytest.raises(CrmAssetsError, match=r"whole is double precision where the describe says bigint"):
        land(db, home, _load(db), OBJ, joined(OBJ, iter([_page([_FULL])])), Source.LIST)


def test_many_small_pages_land_whole(db: Database, home: Path) -> None:
    pages = [_page([_FULL] * 7, start) for start in range(0, 700, 7)]
    assert land(db, home, _load(db), OBJ, joined(OBJ, iter(pages)), Source.LIST) == 700
    assert len(_stage(db, "thing_c")) == 700


def test_landing_leaves_the_tables_and_the_disk_as_they_were(db: Database, home: Path) -> None:
    with db.transaction() as conn:
        before = ddl.columns_of(conn, "crm_stage", "thing_c")
    land(db, home, _load(db), OBJ, joined(OBJ, iter([_page([_FULL])])), Source.LIST)
    with db.transaction() as conn:
        assert ddl.columns_of(conn, "crm_stage", "thing_c") == before
    assert list((home / "dlt").glob("*")) == []


def test_no_pages_is_no_load(db: Database, home: Path) -> None:
    assert land(db, home, _load(db), OBJ, joined(OBJ, iter([])), Source.LIST) == 0
