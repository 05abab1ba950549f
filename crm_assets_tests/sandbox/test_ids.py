"""Record ids."""

from __future__ import annotations

from datetime import date

import pytest

from crm_assets.sandbox.salesforce import ids
from crm_assets.sandbox.salesforce.relative import span


@pytest.mark.parametrize(
    "known", ["0015g0AAAAAAAABA45", "0055g0AAAAAAAB0A4P", "001dL00000Qx7TaQAJ", "00Q5g0AAAAAAAABE45"]
)
def test_suffix(known: str) -> None:
    assert ids.full(known[:15]) == known == ids.full(known)


@pytest.mark.parametrize("wrong", ["", "001", "0015g0AAAAAAAAB!", "0015g0AAAAAAAABA4", "0015g0AAAAAAAABA4!", "x" * 19])
def test_not_an_id(wrong: str) -> None:
    assert ids.full(wrong) is None


def test_case_is_repaired_by_the_suffix() -> None:
    assert ids.full("0015G0aaaaaaaabA45".swapcase()[:15] + "A45") == "0015g0AAAAAAAABA45"


def test_made_ids_rise() -> None:
    made = [ids.make("003", number) for number in (1, 61, 62, 3843, 3844, 10**12)]
    assert made == sorted(made) and all(ids.full(one) == one for one in made)


@pytest.mark.parametrize(
    ("name", "n", "first", "end"),
    [
        ("TODAY", None, date(2026, 3, 4), date(2026, 3, 5)),
        ("LAST_N_DAYS", 3, date(2026, 3, 1), date(2026, 3, 5)),
        ("NEXT_N_DAYS", 2, date(2026, 3, 5), date(2026, 3, 7)),
        ("THIS_WEEK", None, date(2026, 3, 1), date(2026, 3, 8)),
        ("LAST_MONTH", None, date(2026, 2, 1), date(2026, 3, 1)),
        ("THIS_QUARTER", None, date(2026, 1, 1), date(2026, 4, 1)),
        ("NEXT_YEAR", None, date(2027, 1, 1), date(2028, 1, 1)),
        ("LAST_N_MONTHS", 2, date(2026, 1, 1), date(2026, 3, 1)),
    ],
)
def test_relative_dates(name: str, n: int | None, first: date, end: date) -> None:
    assert span(name, n, date(2026, 3, 4)) == (first, end)


def test_no_such_relative_date() -> None:
    assert span("SOON", None, date(2026, 3, 4)) is None
