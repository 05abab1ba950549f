from __future__ import annotations

import pytest
from dlt.common.normalizers.naming.snake_case import NamingConvention
from hypothesis import example, given
from hypothesis import strategies as st

from crm_assets.core.naming import columns, snake

_NAMES = st.text("abcXYZ019_ +*@|-.é", min_size=1, max_size=80).filter(lambda name: name.strip() != "")


@given(_NAMES)
@example("Amount_USD__c")
@example("HTTPServer__c")
@example("9Lives__c")
@example("A_")
@example("x" * 70)
def test_snake_is_dlts(name: str) -> None:
    assert snake(name) == NamingConvention(max_length=63).normalize_identifier(name)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["Foo__c", "FooC"], {"FooC": "foo_c", "Foo__c": "foo_c_2"}),
        (["Id", "ID__c"], {"ID__c": "id_c"}),
        (["Row_Id"], {"Row_Id": "row_id_crm"}),
        (["ID"], {"ID": "id_crm"}),
    ],
)
def test_colliding_and_reserved_names(names: list[str], expected: dict[str, str]) -> None:
    assert columns(names, {}, "Id") == expected


def test_a_choice_once_made_stands_when_a_field_comes_that_would_be_first() -> None:
    chosen = columns(["Foo__c"], {}, "Id")
    assert columns(["FooC", "Foo__c"], chosen, "Id") == {"Foo__c": "foo_c", "FooC": "foo_c_2"}


@given(st.lists(_NAMES, unique=True, max_size=30))
def test_columns_never_collide(names: list[str]) -> None:
    found = columns(names, {}, "Id")
    assert len(set(found.values())) == len(found)
    assert all(len(column) <= 63 and column not in ("row_id", "id") for column in found.values())
