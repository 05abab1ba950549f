"""What the wire says, as typed pages: nothing rounded, nothing guessed, poison named."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from decimal import Decimal
from typing import Any

import pytest
import simplejson

from crm_assets.connectors.salesforce.cast import page_from_csv, page_from_json, page_from_reply
from crm_assets.core.model import Field, FieldType, Object, Page

OBJ = Object(
    "Thing__c",
    "thing_c",
    (
        Field("Name", "name", FieldType.TEXT, "string"),
        Field("Amount", "amount", FieldType.NUMBER, "currency", scale=2),
        Field("Count", "count", FieldType.INTEGER, "int"),
        Field("Flag", "flag", FieldType.BOOLEAN, "boolean"),
        Field("Day", "day", FieldType.DATE, "date"),
        Field("Hour", "hour", FieldType.TIME, "time"),
        Field("SystemModstamp", "system_modstamp", FieldType.TIMESTAMP, "datetime"),
    ),
)
HEADER = "Id,Name,Amount,Count,Flag,Day,Hour,SystemModstamp,IsDeleted\n"
GOOD: dict[str, Any] = {
    "Id": "1",
    "Name": "x",
    "Amount": Decimal("1.5"),
    "Count": 3,
    "Flag": True,
    "Day": "2026-02-28",
    "Hour": "13:14:15.000Z",
    "SystemModstamp": "2026-03-02T14:05:58.000+0000",
    "IsDeleted": False,
}


def _csv(*rows: str) -> Page:
    return page_from_csv(OBJ, (HEADER + "".join(row + "\n" for row in rows)).encode())


def _row(page: Page) -> dict[str, Any]:
    rows: list[dict[str, Any]] = page.table.to_pylist()
    assert len(rows) == 1
    return rows[0]


def test_rest_and_bulk_spell_the_same_record_differently_and_mean_the_same() -> None:
    rest = page_from_json(OBJ, [GOOD])
    bulk = _csv('"1","x","1.5","3","true","2026-02-28","13:14:15.000Z","2026-03-02T14:05:58.000Z","false"')
    assert rest.table.equals(bulk.table)
    assert _row(rest) == {
        "id": "1",
        "_version": datetime(2026, 3, 2, 14, 5, 58, tzinfo=UTC),
        "_deleted": False,
        "name": "x",
        "amount": Decimal("1.5"),
        "count": 3,
        "flag": True,
        "day": date(2026, 2, 28),
        "hour": time(13, 14, 15),
        "system_modstamp": datetime(2026, 3, 2, 14, 5, 58, tzinfo=UTC),
    }


@pytest.mark.parametrize("text", ["NA", "NULL", "nan", "null", "N/A", "-", "0", "true", " padded "])
def test_text_that_looks_like_something_else_stays_text(text: str) -> None:
    assert _row(_csv(f'"1","{text}","","","","","","",""'))["name"] == text


def test_only_the_empty_value_is_null() -> None:
    row = _row(_csv('"1","","","","","","","",""'))
    assert {row[f.column] for f in OBJ.fields} == {None}


def test_line_feeds_quotes_and_delimiters_inside_a_value() -> None:
    row = _row(_csv('"1","a\nb ""c"", d; é😀","","","","","","",""'))
    assert row["name"] == 'a\nb "c", d; é😀'


@pytest.mark.parametrize("number", ["12345678901234567890.123456789012345678", "-0.000000000000000001", "1E+3"])
def test_numbers_keep_every_digit(number: str) -> None:
    assert _row(_csv(f'"1","x","{number}","","","","","",""'))["amount"] == Decimal(number)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("Name", "a\x00b", "NUL"),
        ("Name", "\ud800", "NUL"),
        ("Amount", "1" * 40, "20 digits"),
        ("Amount", Decimal("1E-30"), "18 digits"),
        ("Amount", "plenty", "no number"),
        ("Count", 2**63, "range of bigint"),
        ("Count", Decimal("1.5"), "whole number"),
        ("Flag", "maybe", "neither true nor false"),
        ("Day", "2026-02-30", "no date"),
        ("Day", "12026-01-01", "no date"),
        ("SystemModstamp", "yesterday", "no timestamp"),
    ],
)
def test_a_value_that_cannot_be_stored_sets_only_its_record_aside(field: str, value: Any, reason: str) -> None:
    page = page_from_json(OBJ, [GOOD, GOOD | {"Id": "2", field: value}, GOOD | {"Id": "3"}])
    assert page.table["id"].to_pylist() == ["1", "3"]
    (poison,) = page.poison
    assert (poison.id, poison.field) == ("2", field)
    assert reason in poison.reason
    assert str(value) not in poison.reason


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
def test_the_first_and_the_last_day(day: str) -> None:
    assert _row(page_from_json(OBJ, [GOOD | {"Day": day}]))["day"] == date.fromisoformat(day)


def test_a_result_without_a_described_column_is_refused() -> None:
    with pytest.raises(ValueError, match="lacks the columns Amount"):
        page_from_csv(OBJ, b"Id,Name\n1,x\n")


def test_a_result_without_rows_is_an_empty_page() -> None:
    assert _csv().table.num_rows == 0
    assert _csv().table.schema.names == OBJ.page_schema().names


def _reply(*records: dict[str, Any], following: str | None = None) -> bytes:
    frame: dict[str, Any] = {"totalSize": len(records), "done": following is None}
    if following is not None:
        frame["nextRecordsUrl"] = following
    typed = [{"attributes": {"type": "Thing__c", "url": "/x"}, **record} for record in records]
    return simplejson.dumps({**frame, "records": typed}, use_decimal=True).encode()


@pytest.mark.parametrize("following", [None, "/services/data/v67.0/query/01g-2000"])
def test_a_reply_read_as_a_whole_is_what_its_records_are_one_by_one(following: str | None) -> None:
    records = [
        GOOD,
        dict.fromkeys(GOOD) | {"Id": "2"},
        GOOD | {"Id": "3", "Name": 'é "q"\n😀\u2028', "Amount": Decimal("-12345678901234567890.000000000000000001")},
        GOOD | {"Id": "4", "Name": "", "Amount": 7, "Count": 0, "Flag": False, "IsDeleted": True},
    ]
    page = page_from_reply(OBJ, _reply(*records, following=following))
    assert page is not None and page.next == following
    assert page.table.equals(page_from_json(OBJ, records).table)


def test_a_reply_without_records_is_an_empty_page() -> None:
    page = page_from_reply(OBJ, _reply())
    assert page is not None and page.table.num_rows == 0 and page.next is None


@pytest.mark.parametrize(
    "bad",
    [
        {"Name": "a\x00b"},
        {"Name": {"street": "x"}},
        {"Name": 5},
        {"Count": Decimal("2.5")},
        {"Amount": Decimal("0.1234567890123456789")},
        {"SystemModstamp": "yesterday"},
    ],
)
def test_a_reply_with_an_odd_value_is_left_to_be_read_record_by_record(bad: dict[str, Any]) -> None:
    assert page_from_reply(OBJ, _reply(GOOD, GOOD | {"Id": "2"} | bad)) is None


def test_a_reply_that_is_cut_off_or_does_not_say_how_it_goes_on_is_not_taken_for_the_last() -> None:
    whole = _reply(GOOD, following="/next")
    for body in (whole[:-2], whole.replace(b"nextRecordsUrl", b"somethingElse"), b"", b"{}", b"[]"):
        assert page_from_reply(OBJ, body) is None
