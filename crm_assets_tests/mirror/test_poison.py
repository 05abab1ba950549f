"""Values that no database, or not every one, can hold: from the CRM's wire to the mirror, by REST and by Bulk."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from crm_assets_tests.plugins.linked import Link, MakeLink

_REST, _BULK = 10**9, 0

_STORED: dict[str, tuple[str, Any]] = {
    "empty text": ("Description", ""),
    "ten megabytes": ("Description", "x" * 10_000_000),
    "quotes, lines, NULL": ("Description", "\"NULL\", \\N\r\n\t'NA'"),
    "the first day": ("Birthdate", "0001-01-01"),
    "the last day": ("Birthdate", "9999-12-31"),
    "twenty digits": ("Big__c", "12345678901234567890.123456789012345678"),
    "an exponent": ("Big__c", "1.5E+3"),
    "an id of 15 characters": ("AccountId", "001000000000001"),
}
_SET_ASIDE: dict[str, tuple[str, Any, str]] = {
    "NUL": ("Description", "a\x00b", "NUL"),
    "forty digits": ("Big__c", "9" * 40, "20 digits"),
    "infinite": ("Big__c", "Infinity", "digits before the point|no number"),
    "not a number": ("Big__c", "NaN", "digits|no number"),
    "a day that is none": ("Birthdate", "2026-02-30", "no date"),
    "a year beyond": ("Birthdate", "12026-01-01", "no date"),
}


def _plant(link: Link, values: dict[str, tuple[str, Any]]) -> dict[str, str]:
    """Put values into the CRM past its own checks. Returns the record of each."""
    ids = sorted(link.sandbox.alive("Contact"))
    chosen = dict(zip(values, ids, strict=False))
    (file,) = link.sandbox.data_dir.rglob("salesforce.sqlite")
    with sqlite3.connect(file, timeout=30) as crm:
        for name, (field, value) in values.items():
            crm.execute(f'UPDATE Contact SET "{field}" = ? WHERE Id = ?', (value, chosen[name]))
    crm.close()
    return chosen


@pytest.mark.parametrize("threshold", [_REST, _BULK], ids=["rest", "bulk"])
def test_each_value_arrives_or_is_set_aside_alone(make_link: MakeLink, threshold: int) -> None:
    link = make_link(objects=("Contact",))
    link.connector.config.options["bulk_threshold"] = threshold  # type: ignore[index]
    link.sandbox.schema("Contact", "add", "Big__c", type="double")
    link.age()
    good = _plant(link, _STORED | {name: one[:2] for name, one in _SET_ASIDE.items()})
    report = link.follow("contact")
    bad = {good[name] for name in _SET_ASIDE}
    assert not report.partial and report.set_aside == len(bad)
    mirrored = {row[0] for row in link.rows("SELECT id FROM salesforce.contact")}
    assert mirrored == set(link.sandbox.alive("Contact")) - bad, "the rest of the page lands"

    kept = dict(link.rows("SELECT id, reason FROM crm_assets.drift WHERE kind = 'set_aside' AND state = 'open'"))
    assert kept.keys() == bad
    for name, (field, value, reason) in _SET_ASIDE.items():
        said = kept[good[name]]
        assert any(part in said for part in reason.split("|")), (name, said)
        assert str(value) not in said, "no value in a message"
        assert link.value("SELECT field FROM crm_assets.drift WHERE id = %s", good[name]) == field

    def shown(column: str, name: str) -> Any:
        return link.value(f"SELECT {column} FROM salesforce.contact WHERE id = %s", good[name])

    # Salesforce keeps no empty text; where one came all the same, Bulk cannot tell it from null.
    assert shown("description", "empty text") in ("", None)
    assert len(shown("description", "ten megabytes")) == 10_000_000
    assert shown("description", "quotes, lines, NULL") == _STORED["quotes, lines, NULL"][1]
    assert shown("birthdate::text", "the first day") == "0001-01-01"
    assert shown("birthdate::text", "the last day") == "9999-12-31"
    assert shown("big_c::text", "an exponent") == "1500"
    assert shown("account_id", "an id of 15 characters") == "001000000000001"


def test_a_record_that_was_corrected_is_no_longer_set_aside(make_link: MakeLink) -> None:
    link = make_link(objects=("Contact",))
    some = _plant(link, {"NUL": ("Description", "a\x00b")})["NUL"]
    link.follow("contact")
    assert link.value("SELECT count(*) FROM crm_assets.drift WHERE state = 'open'") == 1
    link.sandbox.update("Contact", some, Description="clean")
    link.follow("contact", "full")
    assert link.value("SELECT description FROM salesforce.contact WHERE id = %s", some) == "clean"
    assert link.value("SELECT count(*) FROM crm_assets.drift WHERE state = 'open'") == 0


def test_eight_hundred_fields_and_names_that_collide(make_link: MakeLink) -> None:
    link = make_link(objects=("Lead",))
    link.connector.config.options["bulk_threshold"] = _BULK  # type: ignore[index]
    names = [f"Wide_{n}__c" for n in range(760)] + ["Foo__c", "FooC", "Foo_C__c", "Row_Id__c", "RowId"]
    for name in names:
        link.sandbox.schema("Lead", "add", name, type="string")
    some, wide, *_ = sorted(link.sandbox.alive("Lead"))
    link.sandbox.update("Lead", some, **{name: name.lower() for name in names[460:]})
    link.sandbox.update("Lead", wide, **dict.fromkeys(names, "fifteen letters"))
    link.age()
    report = link.follow("lead")
    assert not report.partial and report.set_aside == 1
    assert link.rows("SELECT id, kind FROM crm_assets.drift") == [(wide, "set_aside")]
    obj = link.object("lead")
    assert len(obj.fields) >= 800 and len({fld.column for fld in obj.fields}) == len(obj.fields)
    columns = {name: obj.by_name[name].column for name in names[-5:]}
    assert columns["Foo__c"] == "foo_c_2" and columns["FooC"] == "foo_c" and columns["RowId"] == "row_id_crm"
    row = link.rows(f"SELECT {', '.join(columns.values())}, wide_759_c FROM salesforce.lead WHERE id = %s", some)
    assert row == [(*(name.lower() for name in columns), "wide_759__c")]
    link.connector.config.options["bulk_threshold"] = _REST  # type: ignore[index]
    assert not link.follow("lead", "full").partial
