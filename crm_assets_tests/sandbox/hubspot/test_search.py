"""Search: what fits, in which order, how far, and how late."""

from __future__ import annotations

import time
from typing import Any

import httpx
import pytest

from crm_assets_tests.plugins.sandbox import Sandbox, wait_until

from .conftest import MakeAccount, found, mail, rest, unique, where


@pytest.fixture(scope="module")
def deals(account: Sandbox) -> dict[str, str]:
    """Three deals of one name, by a letter of their own."""
    name = unique("Searched")
    rows = {
        "a": {"amount": "9", "closedate": "2026-01-02T03:04:05Z", "hs_priority": "low"},
        "b": {"amount": "10.50", "closedate": "2026-01-02T03:04:05.120Z", "hs_priority": "high"},
        "c": {"closedate": "2026-01-03T00:00:00Z", "description": "Ünique words; e-mail x@y.example"},
    }
    ids = {key: account.create("deals", dealname=name, **fields) for key, fields in rows.items()}
    return ids | {"name": name}


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (where("amount", "EQ", "9"), "a"),
        (where("amount", "NEQ", "9"), "b"),
        (where("amount", "GT", "9"), "b"),
        (where("amount", "LTE", "10.5"), "ab"),
        (where("amount", "BETWEEN", "9", highValue="10"), "a"),
        (where("amount", "HAS_PROPERTY"), "ab"),
        (where("amount", "NOT_HAS_PROPERTY"), "c"),
        (where("closedate", "GT", "1767323045000"), "bc"),
        (where("closedate", "GTE", "1767323045000"), "abc"),
        (where("closedate", "LT", "2026-01-02T03:04:05.120Z"), "a"),
        (where("hs_priority", "IN", values=["low", "medium"]), "a"),
        (where("hs_priority", "NOT_IN", values=["low"]), "b"),
        (where("description", "CONTAINS_TOKEN", "words"), "c"),
        (where("description", "CONTAINS_TOKEN", "ünique"), "c"),
        (where("description", "CONTAINS_TOKEN", "wor"), ""),
        (where("description", "CONTAINS_TOKEN", "wor*"), "c"),
        (where("description", "NOT_CONTAINS_TOKEN", "words"), "ab"),
        (where("description", "EQ", "ünique WORDS; e-mail x@y.example"), ""),
        (where("hs_lastmodifieddate", "GT", "0"), "abc"),
    ],
)
def test_operators(api: httpx.Client, deals: dict[str, str], one: dict[str, Any], expected: str) -> None:
    ids = found(api, "deals", where("dealname", "EQ", deals["name"].upper()), one)
    assert {key for key in "abc" if deals[key] in ids} == set(expected)
    assert len(ids) == len(expected)


def test_in_compares_with_what_is_given(api: httpx.Client, deals: dict[str, str]) -> None:
    """Stored values are put in lower case, the ones of the filter are not."""
    assert len(found(api, "deals", where("dealname", "IN", values=[deals["name"].lower()]))) == 3
    assert found(api, "deals", where("dealname", "IN", values=[deals["name"]])) == []


def test_groups_are_alternatives(api: httpx.Client, deals: dict[str, str]) -> None:
    groups = [{"filters": [where("hs_object_id", "EQ", deals[key])]} for key in "ac"]
    reply = api.post("/crm/v3/objects/deals/search", json={"filterGroups": groups, "properties": ["amount"]}).json()
    assert [one["id"] for one in reply["results"]] == [deals["a"], deals["c"]]
    assert reply["total"] == 2
    assert set(reply["results"][0]["properties"]) == {"amount", "createdate", "hs_lastmodifieddate", "hs_object_id"}


def test_order_and_pages(api: httpx.Client, deals: dict[str, str]) -> None:
    own = where("dealname", "EQ", deals["name"])
    falling = found(api, "deals", own, sorts=[{"propertyName": "closedate", "direction": "DESCENDING"}])
    assert falling == [deals[key] for key in "cba"]
    assert found(api, "deals", own, sorts=["amount"]) == [deals[key] for key in "cab"]
    body = {"filterGroups": [{"filters": [own]}], "limit": 2}
    page = api.post("/crm/v3/objects/deals/search", json=body).json()
    assert page["paging"]["next"]["after"] == "2"
    rest_ = api.post("/crm/v3/objects/deals/search", json=body | {"after": "2"}).json()
    assert "paging" not in rest_
    assert [one["id"] for one in page["results"] + rest_["results"]] == [deals[key] for key in "abc"]


def test_query(api: httpx.Client, deals: dict[str, str]) -> None:
    reply = api.post("/crm/v3/objects/deals/search", json={"query": deals["name"].lower()}).json()
    assert reply["total"] == 3


@pytest.mark.parametrize(
    "body",
    [
        {"limit": 201},
        {"limit": 200, "after": "9900"},
        {"after": "10000"},
        {"sorts": ["amount", "closedate"]},
        {"sorts": ["nothing"]},
        {"filterGroups": [{"filters": [where("nothing", "EQ", "1")]}]},
        {"filterGroups": [{"filters": [where("amount", "LIKE", "1")]}]},
        {"filterGroups": [{"filters": [where("amount", "EQ", "one")]}]},
        {"filterGroups": [{"filters": [where("amount", "IN")]}]},
        {"filterGroups": [{"filters": [where("amount", "EQ", "1")] * 7}]},
        {"filterGroups": [{"filters": [where("amount", "EQ", "1")]}] * 6},
        {"filterGroups": [{"filters": [where("amount", "EQ", "1")] * 5}] * 4},
    ],
)
def test_refused(api: httpx.Client, body: dict[str, Any]) -> None:
    reply = api.post("/crm/v3/objects/deals/search", json=body)
    assert (reply.status_code, reply.json()["category"]) == (400, "VALIDATION_ERROR")


def test_archived_records_are_never_found(account: Sandbox, api: httpx.Client) -> None:
    address = mail("archived")
    made = account.create("contacts", email=address)
    assert found(api, "contacts", where("email", "EQ", address)) == [made]
    account.delete("contacts", made)
    assert found(api, "contacts", where("email", "EQ", address)) == []


def test_the_index_lags(make_account: MakeAccount) -> None:
    """Its results and totals are those of a moment ago: true, but old."""
    account = make_account()
    with rest(account) as api:
        account.limits(search_1s=1000, index_lag_ms=0)
        old, doomed = account.create("contacts", email="old@a.test"), account.create("contacts", email="doomed@a.test")
        account.limits(index_lag_ms=3_600_000)
        account.update("contacts", old, firstname="One")
        account.update("contacts", old, firstname="Two")
        account.delete("contacts", doomed)
        new = account.create("contacts", email="new@a.test")
        assert api.get(f"/crm/v3/objects/contacts/{old}").json()["properties"]["firstname"] == "Two"
        tests = where("email", "CONTAINS_TOKEN", "*@a.test")
        assert found(api, "contacts", tests) == [old, doomed]
        assert found(api, "contacts", where("firstname", "EQ", "Two")) == []
        assert found(api, "contacts", where("hs_object_id", "EQ", new)) == []
        account.limits(index_lag_ms=0)
        assert found(api, "contacts", tests) == [old, new]
        assert found(api, "contacts", where("firstname", "EQ", "Two")) == [old]

        account.limits(index_lag_ms=400)
        started = time.monotonic()
        account.update("contacts", old, firstname="Three")
        wait_until(lambda: found(api, "contacts", where("firstname", "EQ", "Three")) == [old], every=0.02)
        assert time.monotonic() - started >= 0.35


def test_many_with_one_stamp(make_account: MakeAccount) -> None:
    """A batch shares its stamp, and a search by it finds no more than ten thousand, whatever there is."""
    account = make_account()
    account.limits(calls_10s=1000, search_1s=1000, index_lag_ms=0)
    with rest(account) as api:
        inputs = [{"properties": {"lastname": f"Many {i}"}} for i in range(100)]
        made = api.post("/crm/v3/objects/contacts/batch/create", json={"inputs": inputs}).json()["results"]
        stamps = {one["updatedAt"] for one in made}
        assert len(stamps) == 1
        same = where("lastmodifieddate", "EQ", stamps.pop())
        ids = sorted(int(one["id"]) for one in made)
        assert found(api, "contacts", same, where("hs_object_id", "GT", str(ids[59])), sorts=["hs_object_id"]) == [
            str(one) for one in ids[60:]
        ]
