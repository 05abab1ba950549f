"""SuiteQL over the same records: what queries find is what the truth says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox
from crm_assets_tests.sandbox.netsuite.conftest import ask, made, problem, rows

Query = Callable[..., list[dict[str, Any]]]
ISO = 'YYYY-MM-DD"T"HH24:MI:SS'


@pytest.fixture(scope="session")
def query(still_api: httpx.Client) -> Query:
    """The rows of a query about the account that nobody changes."""
    return lambda text, *params: rows(still_api, text, *params)


def test_values_are_texts_and_nulls_are_left_out(still: Sandbox, query: Query) -> None:
    truth = still.alive("contact")
    rows = query(
        f"SELECT id, entityid, title, isinactive, company, TO_CHAR(lastmodifieddate, '{ISO}') AS lm FROM contact"
        " WHERE id > ? ORDER BY id",
        "0",
    )
    assert [row["id"] for row in rows] == sorted(truth, key=int)
    for row in rows:
        own = truth[row["id"]]
        assert all(isinstance(value, str) for value in row.values())
        assert row["isinactive"] == ("T" if own["isInactive"] else "F")
        assert row["lm"] + "Z" == own["lastModifiedDate"]
        assert ("title" in row) is (own["title"] is not None) and row.get("title") == own["title"]
        assert row.get("company") == own["company"]


def test_numbers(still: Sandbox, query: Query) -> None:
    truth = still.alive("salesOrder")
    for row in query("SELECT id, total, foreigntotal, exchangerate FROM transaction WHERE type = 'SalesOrd'"):
        assert float(row["total"]) == truth[row["id"]]["total"] and row["total"] == row["foreigntotal"]
        assert not row["total"].endswith(".0")


def test_transactions_and_their_lines(still: Sandbox, query: Query) -> None:
    truth = {**still.alive("salesOrder"), **still.alive("invoice")}
    rows = query(
        "SELECT t.id, t.type, l.id AS line, l.item, l.quantity, l.rate, l.amount, l.mainline FROM transaction t"
        " JOIN transactionline l ON l.transaction = t.id WHERE t.type IN ('SalesOrd', 'CustInvc') ORDER BY t.id, l.id"
    )
    mains = [row for row in rows if row["mainline"] == "T"]
    assert Counter(row["id"] for row in mains) == Counter(list(truth))
    found = [(row["id"], int(row["line"]), row["item"], float(row["amount"])) for row in rows if row["mainline"] == "F"]
    expected = [(key, one["line"], one["item"], one["amount"]) for key, row in truth.items() for one in row["item"]]
    assert sorted(found) == sorted(expected)
    assert {row["type"] for row in rows} == {"SalesOrd", "CustInvc"}


def test_display_values(still: Sandbox, query: Query) -> None:
    customers = still.alive("customer")
    rows = query(
        "SELECT id, entity, BUILTIN.DF(entity) AS who, BUILTIN.DF(status) AS state, BUILTIN.DF(type) AS kind,"
        " BUILTIN.DF(location) AS place FROM transaction WHERE type = 'SalesOrd'"
    )
    for row in rows:
        assert row["who"] == customers[row["entity"]]["entityId"] and row["kind"] == "Sales order"
        assert row["place"] in ("Main Warehouse", "North Depot")
    assert {"Billed", "Closed"} <= {row["state"] for row in rows}


def test_groups(still: Sandbox, query: Query) -> None:
    truth = still.alive("salesOrder").values()
    rows = query(
        "SELECT status, COUNT(*) AS n, SUM(total) AS total, MIN(id), MAX(id) FROM transaction WHERE type = 'SalesOrd'"
        " GROUP BY status HAVING COUNT(*) > 0 ORDER BY status"
    )
    counts = Counter(row["orderStatus"] for row in truth)
    assert {row["status"]: int(row["n"]) for row in rows} == counts
    assert "expr4" in rows[0] and "expr5" in rows[0]
    for row in rows:
        own = sum(one["total"] for one in truth if one["orderStatus"] == row["status"])
        assert float(row["total"]) == pytest.approx(own)
    months = query(
        "SELECT TO_CHAR(TRUNC(lastmodifieddate, 'MM'), 'YYYY-MM') AS m, COUNT(*) AS n FROM transaction"
        " WHERE type = 'SalesOrd' GROUP BY TRUNC(lastmodifieddate, 'MM')"
    )
    assert {row["m"]: int(row["n"]) for row in months} == Counter(row["lastModifiedDate"][:7] for row in truth)
    (one,) = query("SELECT COUNT(DISTINCT entity) AS n FROM transaction WHERE type = ?", "SalesOrd")
    assert int(one["n"]) == len({row["entity"] for row in truth})


def test_windows_of_time(still: Sandbox, query: Query) -> None:
    truth = still.alive("customer")
    stamps = sorted(row["lastModifiedDate"] for row in truth.values())
    low, high = stamps[3], stamps[-3]
    inside = {key for key, row in truth.items() if low <= row["lastModifiedDate"] < high}
    text = (
        f"SELECT id FROM customer WHERE lastmodifieddate >= TO_TIMESTAMP(?, '{ISO}')"
        f" AND lastmodifieddate < TO_DATE(?, '{ISO}') ORDER BY lastmodifieddate, id"
    )
    rows = query(text, low[:-1], high[:-1])
    assert {row["id"] for row in rows} == inside
    assert [row["id"] for row in rows] == sorted(inside, key=lambda key: (truth[key]["lastModifiedDate"], int(key)))
    (now,) = query(f"SELECT TO_CHAR(SYSDATE, '{ISO}') AS now FROM dual")
    assert abs(datetime.fromisoformat(now["now"] + "+00:00") - datetime.now(UTC)) < timedelta(seconds=5)
    assert query("SELECT id FROM customer WHERE lastmodifieddate > SYSDATE + 1") == []


def test_key_sets(still: Sandbox, query: Query) -> None:
    """Beyond the bounds of offsets one pages by key; equal moments are told apart by id."""
    truth = still.alive("contact")
    found: list[str] = []
    stamp, last = "1900-01-01T00:00:00", "0"
    text = (
        f"SELECT id, TO_CHAR(lastmodifieddate, '{ISO}') lm FROM contact"
        f" WHERE lastmodifieddate > TO_TIMESTAMP(?, '{ISO}')"
        f" OR (lastmodifieddate = TO_TIMESTAMP(?, '{ISO}') AND id > ?)"
        " ORDER BY lastmodifieddate, id FETCH FIRST 7 ROWS ONLY"
    )
    while rows := query(text, stamp, stamp, last):
        found += [row["id"] for row in rows]
        stamp, last = rows[-1]["lm"], rows[-1]["id"]
    assert found == sorted(truth, key=lambda key: (truth[key]["lastModifiedDate"], int(key)))


def test_the_users_date_format(still: Sandbox, still_api: httpx.Client, query: Query) -> None:
    key, own = next(iter(still.alive("salesOrder").items()))
    year, month, day = own["tranDate"].split("-")
    text = "SELECT trandate FROM transaction WHERE id = ?"
    assert query(text, key) == [{"trandate": f"{month}/{day}/{year}"}]
    same = "SELECT id FROM transaction WHERE trandate = ? AND id = ?"
    assert query(same, f"{int(month)}/{int(day)}/{year}", key) == [{"id": key}]
    assert problem(ask(still_api, same, own["tranDate"], key)) == (400, "INVALID_PARAMETER")
    still.control("POST", "/preferences", {"date_format": "DD-MON-YYYY"})
    try:
        assert query(text, key)[0]["trandate"].startswith(f"{day}-")
    finally:
        still.control("POST", "/preferences", {"date_format": "MM/DD/YYYY"})


def test_expressions(query: Query) -> None:
    (row,) = query(
        "SELECT NVL(NULL, 'x') a, CASE WHEN 1 = 2 THEN 'no' ELSE 'yes' END b, 7 / 2 c, 'it''s' || ' ' || 1 d,"
        " UPPER('abc') e, COALESCE(NULL, NULL, 3) f, TO_CHAR(TO_DATE('31.1.2026', 'DD.MM.YYYY') + 1, 'DD MON YYYY') g,"
        " TO_NUMBER('12') + 1 h, SUBSTR('abcdef', 2, 3) AS \"I\", (SELECT COUNT(*) FROM currency) j, NULL k FROM dual"
    )
    assert row == {"a": "x", "b": "yes", "c": "3.5", "d": "it's 1", "e": "ABC", "f": "3", "g": "01 FEB 2026", "h": "13",
                   "i": "bcd", "j": "3"}  # fmt: skip


def test_conditions(still: Sandbox, query: Query) -> None:
    truth = still.alive("customer")

    def ids(where: str, *params: object) -> set[str]:
        return {row["id"] for row in query(f"SELECT c.id FROM customer c WHERE {where}", *params)}

    by_status = {key for key, row in truth.items() if row["entityStatus"] == "1"}
    assert ids("c.entitystatus = 1") == ids("entitystatus = '1'") == ids("entitystatus IN (?)", "1") == by_status
    assert ids("NOT (entitystatus = 1) AND entitystatus IS NOT NULL") == set(truth) - by_status
    assert ids("companyname LIKE 'M%'") == {key for key, row in truth.items() if row["companyName"].startswith("M")}
    assert ids("companyname LIKE 'm%'") == {key for key, row in truth.items() if row["companyName"].startswith("m")}
    low, high = sorted(truth, key=int)[2:5:2]
    assert ids("id BETWEEN ? AND ?", low, high) == {key for key in truth if int(low) <= int(key) <= int(high)}
    assert ids("salesrep IS NULL") == {key for key, row in truth.items() if row["salesRep"] is None}
    ordering = {row["entity"] for row in still.alive("salesOrder").values()}
    assert ids("EXISTS (SELECT 1 FROM transaction t WHERE t.entity = c.id AND t.type = 'SalesOrd')") == ordering
    assert ids("id IN (SELECT entity FROM transaction WHERE type = 'SalesOrd')") == ordering
    assert ids("companyname = ''") == set()
    left = query(
        "SELECT c.id, COUNT(t.id) AS n FROM customer c LEFT JOIN transaction t"
        " ON t.entity = c.id AND t.type = 'SalesOrd' GROUP BY c.id"
    )
    assert {row["id"] for row in left if row["n"] == "0"} == set(truth) - ordering


def test_rownum(still: Sandbox, query: Query) -> None:
    keys = sorted(still.alive("contact"), key=int)
    assert [
        row["id"] for row in query("SELECT * FROM (SELECT id FROM contact ORDER BY id DESC) WHERE ROWNUM <= 2")
    ] == (keys[::-1][:2])
    assert len(query("SELECT id FROM contact WHERE ROWNUM < 4 ORDER BY id DESC")) == 3
    assert [row["n"] for row in query("SELECT ROWNUM AS n, id FROM contact WHERE ROWNUM <= ?", 2)] == ["1", "2"]
    assert len(query("SELECT TOP 3 id FROM contact")) == 3


def test_deleted_records(account: Sandbox, api: httpx.Client) -> None:
    key = made(api.post("/record/v1/contact", json={"lastName": "Gone"}))
    assert api.delete(f"/record/v1/contact/{key}").status_code == 204
    found = rows(
        api,
        f"SELECT recordid, type, name, TO_CHAR(deleteddate, '{ISO}') AS at FROM deletedrecord WHERE recordid = ?"
        f" AND deleteddate >= TO_TIMESTAMP('2026-01-01T00:00:00', '{ISO}')",
        key,
    )
    assert [(row["recordid"], row["type"], row["name"]) for row in found] == [(key, "contact", "Gone")]
    assert found[0]["at"] + ".000Z" <= account.records("contact")[key]["modified_at"]


def test_refusals(still_api: httpx.Client) -> None:
    bare = still_api.post("/query/v1/suiteql", json={"q": "SELECT id FROM customer"})
    assert problem(bare) == (400, "INVALID_HEADER")
    for text in ("SELECT", "SELECT nope FROM customer", "SELECT id FROM nope", "SELECT id FROM customer WHERE",
                 "DELETE FROM customer", "SELECT FOO(id) FROM customer",
                 "SELECT TO_CHAR(lastmodifieddate, 'JJ') FROM customer",
                 "SELECT id FROM customer WHERE id = ?", "SELECT TO_DATE('x', 'YYYY') d FROM dual",
                 "SELECT c.id FROM customer d",
                 "SELECT TO_CHAR(id, '99') x FROM customer",
                 "SELECT id, COUNT(*) FROM customer WHERE COUNT(*) > 1"):  # fmt: skip
        reply = ask(still_api, text)
        assert problem(reply) == (400, "INVALID_PARAMETER"), text
        assert "Invalid search query" in reply.json()["o:errorDetails"][0]["detail"]
    assert problem(ask(still_api, "")) == (400, "INVALID_CONTENT")


def test_pages(still: Sandbox, still_api: httpx.Client) -> None:
    keys = sorted(still.alive("contact"), key=int)
    found: list[str] = []
    page = ask(still_api, "SELECT id FROM contact ORDER BY id", limit=10).json()
    assert page["totalResults"] == len(keys) and page["count"] == 10
    while True:
        found += [row["id"] for row in page["items"]]
        if not page["hasMore"]:
            break
        page = ask(still_api, "SELECT id FROM contact ORDER BY id", limit=10, offset=page["offset"] + 10).json()
    assert found == keys
    for wrong in ({"limit": 1001}, {"limit": 10, "offset": 15}, {"limit": 1000, "offset": 100_000}, {"limit": "x"}):
        assert problem(ask(still_api, "SELECT id FROM contact", **wrong)) == (400, "INVALID_PARAMETER")
    beyond = ask(still_api, "SELECT id FROM contact", limit=1000, offset=1000).json()
    assert beyond["items"] == [] and beyond["totalResults"] == len(keys) and not beyond["hasMore"]
