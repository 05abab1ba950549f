"""What SOQL means here."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox
from crm_assets_tests.sandbox.conftest import query

MADE = {
    "one": {"LastName": "O'Hara", "FirstName": "Scarlett", "Birthdate": "1990-01-02", "Department": "100%"},
    "two": {"LastName": "smith", "HasOptedOutOfEmail": True, "Department": "Sales"},
    "three": {"LastName": "SMITH", "FirstName": "Ann", "Birthdate": "1991-03-04"},
    "four": {"LastName": "Back\\slash", "Department": "sales"},
}


@pytest.fixture(scope="module")
def made(module_sandbox: Sandbox) -> dict[str, str]:
    """Four contacts with a title that no other one has."""
    return {key: module_sandbox.create("Contact", Title="soql", **values) for key, values in MADE.items()}


@pytest.fixture
def api(module_sandbox: Sandbox) -> Iterator[httpx.Client]:
    with module_sandbox.api() as client:
        yield client


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("LastName = 'Smith'", "two three"),
        (r"LastName = 'O\'Hara'", "one"),
        (r"LastName = 'Back\\slash'", "four"),
        ("LastName LIKE 's%'", "two three"),
        ("LastName LIKE '_mith'", "two three"),
        (r"Department LIKE '%\%'", "one"),
        ("Department = null", "three"),
        ("Department != 'sales'", "one three"),
        ("Department IN ('SALES', '100%')", "one two four"),
        ("Department NOT IN ('Sales')", "one three"),
        ("Birthdate > 1990-01-02", "three"),
        ("Birthdate >= 1990-01-02 AND Birthdate != 1991-03-04", "one"),
        ("HasOptedOutOfEmail = TRUE", "two"),
        ("NOT (HasOptedOutOfEmail = true OR FirstName = 'ann')", "one four"),
        ("(FirstName = 'Ann' OR LastName = 'smith') AND Birthdate = null", "two"),
        ("CreatedDate = TODAY", "one two three four"),
        ("CreatedDate = LAST_N_DAYS:3", "one two three four"),
        ("CreatedDate < YESTERDAY", ""),
        ("Birthdate = THIS_YEAR", ""),
        ("Name = 'Ann SMITH'", "three"),
        ("Owner.Name != null AND Owner.Id != null", "one two three four"),
    ],
)
def test_where(api: httpx.Client, made: dict[str, str], where: str, expected: str) -> None:
    found = query(api, f"SELECT Id FROM Contact WHERE Title = 'soql' AND ({where})")
    names = {value: key for key, value in made.items()}
    assert sorted(names[row["Id"]] for row in found) == sorted(expected.split())


def test_id_of_15_characters(api: httpx.Client, made: dict[str, str]) -> None:
    for given in (made["one"], made["one"][:15]):
        assert query(api, f"SELECT Id FROM Contact WHERE Id = '{given}'")[0]["Id"] == made["one"]
    other = made["one"][:15].swapcase()
    assert query(api, f"SELECT Id FROM Contact WHERE Id = '{other}'") == []


def test_order_and_nulls(api: httpx.Client, made: dict[str, str]) -> None:
    def order(by: str) -> list[str | None]:
        sql = f"SELECT Birthdate FROM Contact WHERE Title = 'soql' ORDER BY {by}"
        return [row["Birthdate"] for row in query(api, sql)]

    assert order("Birthdate") == [None, None, "1990-01-02", "1991-03-04"]
    assert order("Birthdate NULLS LAST, Id") == ["1990-01-02", "1991-03-04", None, None]
    assert order("Birthdate DESC NULLS LAST") == ["1991-03-04", "1990-01-02", None, None]
    assert order("Birthdate DESC NULLS LAST LIMIT 1 OFFSET 1") == ["1990-01-02"]


def test_counts(api: httpx.Client, made: dict[str, str]) -> None:
    reply = api.get("/query", params={"q": "SELECT COUNT() FROM Contact WHERE Title = 'soql'"}).json()
    assert reply == {"totalSize": 4, "done": True, "records": []}
    found = query(api, "SELECT COUNT(Id), COUNT(Birthdate) born FROM Contact WHERE Title = 'soql'")
    assert found == [{"attributes": {"type": "AggregateResult"}, "expr0": 4, "born": 2}]
    found = query(api, "SELECT Department, COUNT(Id) n FROM Contact WHERE Title = 'soql' GROUP BY Department")
    assert sorted(row["n"] for row in found) == [1, 1, 2]


DEALS = (("2026-01-31", 10.0), ("2026-02-01", 20.5), ("2026-02-28", None), ("2027-02-01", 40.0))


@pytest.fixture(scope="module")
def deals(module_sandbox: Sandbox) -> None:
    for day, amount in DEALS:
        module_sandbox.create(
            "Opportunity", Name="d", NextStep="grouped", StageName="Closed Won", CloseDate=day, Amount=amount
        )


@pytest.mark.parametrize(
    ("columns", "rest", "rows"),
    [
        ("CALENDAR_YEAR(CloseDate), COUNT(Id)", "GROUP BY CALENDAR_YEAR(CloseDate)", [(2026, 3), (2027, 1)]),
        ("CALENDAR_MONTH(CloseDate) m, SUM(Amount) s", "GROUP BY CALENDAR_MONTH(CloseDate)", [(1, 10.0), (2, 60.5)]),
        ("CALENDAR_MONTH(CloseDate), COUNT(Amount), AVG(Amount)",
         "GROUP BY CALENDAR_MONTH(CloseDate) HAVING COUNT(Id) > 1", [(2, 2, 30.25)]),
        ("DAY_IN_MONTH(CloseDate), COUNT(Id)",
         "GROUP BY DAY_IN_MONTH(CloseDate) HAVING DAY_IN_MONTH(CloseDate) < 29", [(1, 2), (28, 1)]),
        ("MIN(CloseDate), MAX(CloseDate), MAX(Amount)", "", [("2026-01-31", "2027-02-01", 40.0)]),
        ("IsWon, COUNT_DISTINCT(CloseDate)", "GROUP BY IsWon", [(True, 4)]),
        ("COUNT(Id)", "AND CALENDAR_YEAR(CloseDate) = 2026 AND CALENDAR_QUARTER(CloseDate) = 1", [(3,)]),
        ("CloseDate", "GROUP BY CloseDate ORDER BY COUNT(Id) DESC, CloseDate DESC LIMIT 1", [("2027-02-01",)]),
    ],
)  # fmt: skip
def test_groups(api: httpx.Client, deals: None, columns: str, rest: str, rows: list[tuple[object, ...]]) -> None:
    found = query(api, f"SELECT {columns} FROM Opportunity WHERE NextStep = 'grouped' {rest}")
    assert all(row.pop("attributes") == {"type": "AggregateResult"} for row in found)
    assert [tuple(row.values()) for row in found] == rows


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("SELECT Name, COUNT(Id) FROM Contact", "MALFORMED_QUERY"),
        ("SELECT CALENDAR_YEAR(CreatedDate) FROM Contact GROUP BY CALENDAR_MONTH(CreatedDate)", "MALFORMED_QUERY"),
        ("SELECT COUNT(Id) FROM Contact WHERE COUNT(Id) > 1", "MALFORMED_QUERY"),
        ("SELECT GUESS(Id) FROM Contact", "MALFORMED_QUERY"),
        ("SELECT SUM(LastName) FROM Contact", "INVALID_FIELD"),
        ("SELECT CALENDAR_YEAR(Name) FROM Contact GROUP BY CALENDAR_YEAR(Name)", "INVALID_FIELD"),
    ],
)
def test_groups_that_are_refused(api: httpx.Client, text: str, code: str) -> None:
    reply = api.get("/query", params={"q": text})
    assert (reply.status_code, reply.json()[0]["errorCode"]) == (400, code)


def test_stamps_compare_at_whole_seconds(api: httpx.Client, made: dict[str, str]) -> None:
    one = f"SELECT SystemModstamp FROM Contact WHERE Id = '{made['one']}'"
    text = query(api, one)[0]["SystemModstamp"]
    assert text.endswith(".000+0000")
    stamp = datetime.strptime(text, "%Y-%m-%dT%H:%M:%S.%f%z")

    def hit(operator: str, moment: datetime) -> bool:
        literal = moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"
        return bool(query(api, f"{one} AND SystemModstamp {operator} {literal}"))

    half, second = timedelta(milliseconds=500), timedelta(seconds=1)
    assert hit("=", stamp) and hit(">=", stamp) and hit("<=", stamp)
    assert not hit(">", stamp) and not hit("<", stamp)
    assert hit(">", stamp - half) and not hit(">=", stamp + half) and hit("<", stamp + half)
    assert hit("<", stamp + second) and not hit("=", stamp + half)
    # The same moment written with another offset.
    east = stamp.astimezone(UTC) + timedelta(hours=2)
    assert query(api, f"{one} AND SystemModstamp = {east.strftime('%Y-%m-%dT%H:%M:%S')}+02:00")


def test_parents_and_addresses(module_sandbox: Sandbox, api: httpx.Client) -> None:
    account = module_sandbox.create("Account", Name="Harbour", BillingCity="Leith", BillingPostalCode="EH6")
    child = module_sandbox.create("Contact", LastName="Child", AccountId=account)
    alone = module_sandbox.create("Contact", LastName="Alone")
    sql = "SELECT Id, Account.Name, Account.BillingAddress, Account.Owner.Name FROM Contact WHERE Id = '{}'"
    row = query(api, sql.format(child))[0]
    assert row["Account"]["Name"] == "Harbour"
    assert row["Account"]["attributes"]["url"].endswith(account)
    assert row["Account"]["BillingAddress"]["city"] == "Leith"
    assert row["Account"]["BillingAddress"]["street"] is None
    assert row["Account"]["Owner"]["Name"]
    assert query(api, sql.format(alone))[0]["Account"] is None


def test_fields_functions(api: httpx.Client, made: dict[str, str]) -> None:
    row = query(api, f"SELECT FIELDS(ALL) FROM Contact WHERE Id = '{made['one']}' LIMIT 1")[0]
    assert row["LastName"] == "O'Hara" and "Crm_Assets_Row_Id__c" in row
    row = query(api, f"SELECT FIELDS(STANDARD) FROM Contact WHERE Id = '{made['one']}'")[0]
    assert row["LastName"] == "O'Hara" and "Crm_Assets_Row_Id__c" not in row


@pytest.mark.parametrize(
    ("text", "code", "part"),
    [
        ("SELECT Id FROM", "MALFORMED_QUERY", "unexpected token: '<EOF>'"),
        ("SELECT Id Name FROM Contact", "MALFORMED_QUERY", "unexpected token: 'Name'"),
        ('SELECT Id FROM Contact WHERE LastName = "x"', "MALFORMED_QUERY", "unexpected token"),
        ("SELECT Nope FROM Contact", "INVALID_FIELD", "No such column 'Nope' on entity 'Contact'"),
        ("SELECT Id FROM Contact WHERE Nope = 1", "INVALID_FIELD", "No such column 'Nope'"),
        ("SELECT Boss.Name FROM Contact", "INVALID_FIELD", "Didn't understand relationship 'Boss'"),
        ("SELECT Id FROM Widget", "INVALID_TYPE", "sObject type 'Widget' is not supported"),
        ("SELECT Id FROM Contact WHERE LastName = 5", "INVALID_FIELD", "must be of type string"),
        ("SELECT Id FROM Contact WHERE CreatedDate > '2020-01-01'", "INVALID_FIELD", "dateTime and should not"),
        ("SELECT Id FROM Contact WHERE Description = 'x'", "INVALID_FIELD", "can not be filtered"),
        ("SELECT FIELDS(ALL) FROM Contact", "MALFORMED_QUERY", "LIMIT"),
    ],
)
def test_errors(api: httpx.Client, text: str, code: str, part: str) -> None:
    reply = api.get("/query", params={"q": text})
    assert reply.status_code == 400
    assert reply.json()[0]["errorCode"] == code
    assert part in reply.json()[0]["message"]


def test_a_locator_that_is_not_known(api: httpx.Client) -> None:
    reply = api.get("/query/0r8ABCDEFGHIJKLMNO-200")
    assert (reply.status_code, reply.json()[0]["errorCode"]) == (400, "INVALID_QUERY_LOCATOR")
