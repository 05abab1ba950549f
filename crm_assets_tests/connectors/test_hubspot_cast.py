"""HubSpot's lists, read many replies at once, are what their records are one by one."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pyarrow as pa
import pytest

from crm_assets.connectors.hubspot.cast import page_of, page_of_lists
from crm_assets.connectors.hubspot.listing import Reply, _mark, together
from crm_assets.core.errors import RetriableError
from crm_assets.core.model import Field, FieldType, Object

OBJ = Object(
    "contacts",
    "contacts",
    (
        Field("email", "email", FieldType.TEXT, "string"),
        Field("income", "income", FieldType.NUMBER, "number"),
        Field("lastmodifieddate", "lastmodifieddate", FieldType.TIMESTAMP, "datetime"),
    ),
    id_field="hs_object_id",
    version_field="lastmodifieddate",
)
AT = "2026-03-02T14:05:58.123Z"


def _record(identity: str, archived: bool = False, **properties: Any) -> dict[str, Any]:
    shown = {"email": None, "income": None, "lastmodifieddate": AT, "hs_object_id": identity, **properties}
    return {"id": identity, "properties": shown, "createdAt": AT, "updatedAt": AT, "archived": archived}


RECORDS = [
    _record("1", email='é "q"\n, {"paging":{"next":{"after":"no"}}}', income="1.50"),
    _record("2", email="", income=""),
    _record("3", lastmodifieddate=None),
    _record("4", archived=True, hs_merged_object_ids="7;4;8"),
]


def _body(*records: dict[str, Any], after: str | None = None, **style: Any) -> bytes:
    paging = {} if after is None else {"paging": {"next": {"after": after, "link": "x"}}}
    return json.dumps({"results": list(records), **paging}, **style).encode()


@pytest.mark.parametrize("style", [{}, {"indent": 1}, {"ensure_ascii": False}])
def test_many_replies_at_once(style: dict[str, Any]) -> None:
    page = page_of_lists(OBJ, [_body(*RECORDS[:1], after="2", **style), _body(**style), _body(*RECORDS[1:], **style)])
    plain = page_of(OBJ, RECORDS)
    assert page is not None
    assert page.table.equals(plain.table) and page.merged == plain.merged == (("7", "4"), ("8", "4"))


@pytest.mark.parametrize(
    "odd", [_body(_record("1", email="a\0b")), _body(_record("1", email=5)), b'{"status": "x"}', _body(RECORDS[0])[:-3]]
)
def test_an_odd_reply_is_left_to_be_read_record_by_record(odd: bytes) -> None:
    assert page_of_lists(OBJ, [_body(RECORDS[0]), odd]) is None


def test_poison_takes_only_its_own_record() -> None:
    page = page_of_lists(OBJ, [_body(RECORDS[0], _record("9", income="much"))])
    assert page is not None and [p.id for p in page.poison] == ["9"] and page.table["id"].to_pylist() == ["1"]


@pytest.mark.parametrize("style", [{}, {"indent": 1}])
def test_the_mark_is_the_replys_own_and_not_what_a_record_holds(style: dict[str, Any]) -> None:
    assert _mark(_body(RECORDS[0], **style)) is None
    assert _mark(_body(RECORDS[0], after="42", **style)) == "42"


def test_what_came_before_a_fault_is_handed_out_before_it() -> None:
    def replies() -> Iterator[Reply]:
        for number in range(120):
            yield Reply(b"", str(number))
        raise RetriableError("lost")

    sizes: list[int] = []
    with pytest.raises(RetriableError):
        for group in together(replies()):
            sizes.append(len(group))
    assert sizes == [50, 50, 20]


def test_the_types_are_the_described_ones() -> None:
    page = page_of_lists(OBJ, [_body(*RECORDS)])
    assert page is not None and page.table.schema.equals(OBJ.page_schema()) and page.table.schema[0].type == pa.string()
