"""Schema drift as a decision: which column goes on, what is filled, and what is told."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from crm_assets.core import schema
from crm_assets.core.model import Field, FieldType, Object
from crm_assets.core.schema import Followed, Kind, follow, holds

TEXT, NUMBER, INTEGER, DATE = FieldType.TEXT, FieldType.NUMBER, FieldType.INTEGER, FieldType.DATE
_VENDOR = {TEXT: "string", NUMBER: "double", INTEGER: "int", DATE: "date", FieldType.REFERENCE: "reference"}


def thing(*fields: tuple[str, FieldType], **more: Any) -> Object:
    return Object("Thing", "thing", tuple(Field(n, n.lower(), k, _VENDOR[k]) for n, k in fields), **more)


def after(stored: Object, described: Object, chosen: Object | None = None, **columns: str) -> Followed:
    known = {**schema.choices(stored), **columns}
    return follow(stored, described, chosen or described, known, "2026-01-01T00:00:00+00:00")


def told(followed: Followed) -> list[tuple[str, Kind]]:
    return [(change.field, change.kind) for change in followed.changes]


def test_an_added_field_is_filled_and_a_dropped_one_keeps_its_column() -> None:
    done = after(thing(("A", TEXT), ("B", NUMBER)), thing(("A", TEXT), ("C", DATE)))
    assert told(done) == [("C", Kind.ADDED), ("B", Kind.DROPPED)] and done.fill == ("c",)
    (gone,) = done.obj.retired
    assert (gone.column, gone.field, gone.type, gone.why) == ("b", "B", NUMBER, "dropped")
    assert done.obj.by_name.keys() == {"A", "C"}


def test_a_field_that_comes_back_takes_its_column_and_is_filled() -> None:
    gone = after(thing(("A", TEXT), ("B", NUMBER)), thing(("A", TEXT))).obj
    back = after(gone, thing(("A", TEXT), ("B", NUMBER)))
    assert told(back) == [("B", Kind.RETURNED)] and back.fill == ("b",) and back.obj.retired == ()


@pytest.mark.parametrize(
    ("column", "kind", "same"),
    [
        (TEXT, NUMBER, True),
        (TEXT, FieldType.REFERENCE, True),
        (FieldType.REFERENCE, TEXT, True),
        (NUMBER, INTEGER, True),
        (INTEGER, NUMBER, False),
        (NUMBER, TEXT, False),
        (DATE, FieldType.TIMESTAMP, False),
        (FieldType.TIMESTAMP, DATE, False),
    ],
)
def test_a_column_goes_on_only_if_it_holds_every_value(column: FieldType, kind: FieldType, same: bool) -> None:
    assert holds(column, kind) is same


def test_a_type_that_the_column_cannot_hold_goes_on_in_another_one() -> None:
    done = after(thing(("A", NUMBER)), thing(("A", TEXT)), A_2="a_2")
    assert told(done) == [("A", Kind.RETYPED)] and done.fill == ("a_3",), "a_2 is another field's"
    assert (done.obj.by_name["A"].column, done.obj.by_name["A"].type) == ("a_3", TEXT)
    assert schema.choices(done.obj) == {"A": "a_3", "A (number)": "a"}
    again = after(done.obj, replace(thing(("A", NUMBER)), fields=(Field("A", "a_3", NUMBER, "double"),)))
    assert again.obj.by_name["A"].column == "a_3", "text holds the numbers, too"


def test_a_type_that_returns_takes_the_column_it_had() -> None:
    there = after(thing(("A", NUMBER)), thing(("A", DATE))).obj
    back = after(there, replace(there, fields=(Field("A", "a_2", NUMBER, "double"),), retired=()))
    assert back.obj.by_name["A"].column == "a" and back.fill == ("a",)
    assert [(one.column, one.why) for one in back.obj.retired] == [("a_2", "retyped")]


def test_a_wider_column_keeps_its_type_under_a_narrower_field() -> None:
    done = after(thing(("A", NUMBER)), thing(("A", INTEGER)))
    assert done.obj.by_name["A"].type is NUMBER and done.fill == () and told(done) == [("A", Kind.RETYPED)]


def test_the_choice_of_defs_yaml_is_no_drop() -> None:
    everything = thing(("A", TEXT), ("B", TEXT))
    fewer = after(everything, everything, thing(("A", TEXT)))
    assert told(fewer) == [("B", Kind.NOT_CHOSEN)] and fewer.obj.retired[0].why == "not chosen"
    more = after(fewer.obj, everything)
    assert told(more) == [("B", Kind.CHOSEN)] and more.fill == ("b",)
    other = after(everything, everything, replace(everything, where="A != null"))
    assert told(other) == [("*", Kind.ROWS)] and other.fill == ()


def test_rights_and_picklists_are_told_and_change_no_column() -> None:
    plain = Field("A", "a", TEXT, "picklist", picklist=("x",))
    now = replace(plain, picklist=("x", "y"), restricted=True, createable=True, updateable=True)
    done = after(Object("Thing", "thing", (plain,)), Object("Thing", "thing", (now,)))
    assert told(done) == [("A", Kind.RIGHTS), ("A", Kind.PICKLIST)] and done.fill == ()
    assert [str(one) for one in done.changes] == [
        "A: rights (read-only → writable)",
        "A: picklist (x → x, y (restricted))",
    ]


def test_the_same_describe_changes_nothing() -> None:
    stored = after(thing(("A", NUMBER), ("B", TEXT)), thing(("A", DATE))).obj
    assert follow(stored, stored, stored, schema.choices(stored), "later") == Followed(stored)
