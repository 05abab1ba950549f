"""The connector against the sandbox, over real HTTP."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pytest

from crm_assets.connectors import registry
from crm_assets.connectors.base import ConnectionConfig, Connector
from crm_assets.core.errors import (
    ConfigurationError,
    ObjectUnavailable,
    QuotaExhausted,
    RetriableError,
)
from crm_assets.core.model import Limit, Mutation, Object, Op, Result, Window
from crm_assets_tests.plugins.linked import CREDENTIALS
from crm_assets_tests.plugins.sandbox import MakeSandbox, Sandbox, wait_until

EXTERNAL = "Crm_Assets_Row_Id__c"


class CountingGate:
    """Counts and remembers; never refuses."""

    def __init__(self) -> None:
        self.calls = 0
        self.limits: dict[str, Limit] = {}

    @contextmanager
    def call(self, api: str) -> Iterator[None]:
        self.calls += 1
        yield

    def observe(self, limits: Sequence[Limit]) -> None:
        self.limits |= {limit.name: limit for limit in limits}


Connect = Callable[..., Connector]


@pytest.fixture
def connect(monkeypatch: pytest.MonkeyPatch) -> Iterator[Connect]:
    made: list[Connector] = []
    for variable in CREDENTIALS.values():
        monkeypatch.setenv(variable, "sandbox")

    def make(sandbox: Sandbox, **options: Any) -> Connector:
        config = ConnectionConfig(
            "salesforce",
            "salesforce",
            sandbox.url,
            CREDENTIALS,
            options=options,
            call_timeout=timedelta(seconds=1),
        )
        made.append(registry.make(config, CountingGate()))
        return made[-1]

    yield make
    for connector in made:
        connector.close()


def _contact(connector: Connector) -> Object:
    return replace(connector.describe("Contact"), external_id=EXTERNAL)


def _everything(connector: Connector, obj: Object, window: Window | None = None) -> pa.Table:
    return pa.concat_tables([page.table for page in connector.read(obj, window)]).sort_by("id")


def _create(seq: int, **values: Any) -> Mutation:
    return Mutation(seq, Op.CREATE, uuid.uuid4(), None, values)


def test_rest_and_bulk_give_the_same_table(make_sandbox: MakeSandbox, connect: Connect) -> None:
    sandbox = make_sandbox(rows=9_000)
    rest, bulk = connect(sandbox, bulk_threshold=10**9), connect(sandbox, bulk_threshold=0)
    for name in ("Account", "Contact", "Lead", "Opportunity", "User", "Product2"):
        obj = rest.describe(name)
        by_rest, by_bulk = _everything(rest, obj), _everything(bulk, obj)
        assert by_rest.num_rows == len(sandbox.records(name))
        assert by_rest.equals(by_bulk)


def test_limits_are_read_from_the_header(sandbox: Sandbox, connect: Connect) -> None:
    connector = connect(sandbox)
    connector.count(connector.describe("Contact"))
    gate = connector.gate
    assert isinstance(gate, CountingGate)
    assert gate.limits["daily_calls"].limit == 24_000
    assert gate.limits["daily_calls"].used >= 2


def test_a_wrong_secret_names_the_variables(
    sandbox: Sandbox, connect: Connect, monkeypatch: pytest.MonkeyPatch
) -> None:
    connector = connect(sandbox)
    monkeypatch.setenv("SALESFORCE_CLIENT_SECRET", "wrong")
    with pytest.raises(ConfigurationError, match="SALESFORCE_CLIENT_SECRET"):
        connector.describe("Contact")


def test_a_missing_variable_is_named(sandbox: Sandbox, connect: Connect, monkeypatch: pytest.MonkeyPatch) -> None:
    connector = connect(sandbox)
    monkeypatch.delenv("SALESFORCE_CLIENT_ID")
    with pytest.raises(ConfigurationError, match=r"SALESFORCE_CLIENT_ID \(credentials.client_id"):
        connector.describe("Contact")


def test_an_unknown_object_is_unavailable(sandbox: Sandbox, connect: Connect) -> None:
    with pytest.raises(ObjectUnavailable, match="Contakt"):
        connect(sandbox).describe("Contakt")


def test_a_token_that_expires_in_the_middle_is_renewed(make_sandbox: MakeSandbox, connect: Connect) -> None:
    sandbox = make_sandbox(rows=9_000)
    connector = connect(sandbox, bulk_threshold=10**9)
    obj = connector.describe("Lead")
    sandbox.faults({"kind": "expired_token", "path": "/query", "nth": 3})
    assert _everything(connector, obj).num_rows == len(sandbox.records("Lead"))


@pytest.mark.parametrize("kind", ["500", "503", "truncate", "429"])
def test_reads_survive_a_passing_fault(sandbox: Sandbox, connect: Connect, kind: str) -> None:
    connector = connect(sandbox)
    obj = connector.describe("Contact")
    sandbox.faults({"kind": kind, "path": "/queryAll", "nth": 2})
    if kind == "429":
        with pytest.raises(QuotaExhausted):
            _everything(connector, obj)
    assert _everything(connector, obj).num_rows == len(sandbox.records("Contact"))


def test_a_server_that_is_gone_is_retriable(sandbox: Sandbox, connect: Connect) -> None:
    connector = connect(sandbox)
    obj = connector.describe("Contact")
    sandbox.kill()
    with pytest.raises(RetriableError):
        connector.count(obj)


def test_a_window_is_half_open(sandbox: Sandbox, connect: Connect) -> None:
    connector = connect(sandbox)
    obj = connector.describe("Contact")
    stamps = sorted({r["SystemModstamp"] for r in sandbox.alive("Contact").values()})
    low, high = datetime.fromisoformat(stamps[1]), datetime.fromisoformat(stamps[-1])
    expected = {
        key for key, r in sandbox.alive("Contact").items() if low <= datetime.fromisoformat(r["SystemModstamp"]) < high
    }
    found = _everything(connector, obj, Window(low, high))["id"].to_pylist()
    assert set(found) == expected and len(found) == len(expected)


def test_records_that_share_one_second_over_many_pages(make_sandbox: MakeSandbox, connect: Connect) -> None:
    """A mass update gives thousands of records one timestamp; each comes exactly once."""
    sandbox = make_sandbox(rows=100)
    connector = connect(sandbox, bulk_threshold=10**9)
    obj = _contact(connector)
    for start in range(0, 2_400, 200):
        outcomes = connector.write(obj, [_create(i, last_name=f"N{i}") for i in range(start, start + 200)])
        assert {o.result for o in outcomes} == {Result.CONFIRMED}
    found = _everything(connector, obj)["id"].to_pylist()
    assert len(found) == len(set(found)) == len(sandbox.records("Contact"))


def test_deleted_records_are_shown_and_listed(sandbox: Sandbox, connect: Connect) -> None:
    connector = connect(sandbox)
    obj = connector.describe("Contact")
    victim, lifted = list(sandbox.alive("Contact"))[:2]
    before = datetime.now(UTC) - timedelta(minutes=2)
    for record_id in (victim, lifted):
        sandbox.delete("Contact", record_id)
    sandbox.undelete("Contact", lifted)
    table = connector.fetch(obj, [victim, lifted, "003000000000001AAA"]).table
    assert dict(zip(table["id"].to_pylist(), table["_deleted"].to_pylist(), strict=True)) == {
        victim: True,
        lifted: False,
    }
    listed = wait_until(lambda: [d.id for d in connector.deletes(obj, Window(before, datetime.now(UTC)))])
    assert victim in listed


def test_the_bound_is_quiet_until_something_changes(sandbox: Sandbox, connect: Connect) -> None:
    connector = connect(sandbox)
    obj = connector.describe("Contact")
    first = connector.bound(obj, datetime.now(UTC) - timedelta(minutes=3))
    assert first.high <= datetime.now(UTC)
    sandbox.update("Contact", next(iter(sandbox.alive("Contact"))), Phone="1")
    assert wait_until(lambda: not connector.bound(obj, datetime.now(UTC) - timedelta(minutes=3)).quiet)


def test_the_bound_stops_before_an_open_transaction(sandbox: Sandbox, connect: Connect) -> None:
    """A record committed late carries an earlier timestamp; the safe bound stays below it until it is visible."""
    connector = connect(sandbox)
    obj = connector.describe("Contact")
    record_id = next(iter(sandbox.alive("Contact")))
    wait_until(lambda: connector.bound(obj, None).high >= datetime.now(UTC) - timedelta(seconds=2))
    sandbox.faults({"kind": "late_commit", "path": "Contact"})
    began = datetime.now(UTC)
    sandbox.update("Contact", record_id, Phone="late")
    high = connector.bound(obj, None).high
    hidden = connector.fetch(obj, [record_id]).table["phone"][0].as_py()
    assert hidden != "late"
    assert high <= began
    wait_until(lambda: connector.fetch(obj, [record_id]).table["phone"][0].as_py() == "late", 15)


def test_many_ids_are_fetched_in_as_many_queries_as_a_url_allows(make_sandbox: MakeSandbox, connect: Connect) -> None:
    sandbox = make_sandbox(rows=6_000)
    connector = connect(sandbox)
    obj = connector.describe("Lead")
    ids = list(sandbox.alive("Lead"))[:1_500]
    assert sorted(connector.fetch(obj, ids).table["id"].to_pylist()) == sorted(ids)


def test_all_ids_by_keyset(make_sandbox: MakeSandbox, connect: Connect) -> None:
    sandbox = make_sandbox(rows=9_000)
    connector = connect(sandbox)
    obj = connector.describe("Lead")
    found = [record_id for page in connector.ids(obj) for record_id in page]
    assert sorted(found) == sorted(sandbox.alive("Lead")) and connector.count(obj) == len(found)


def test_each_record_of_a_write_has_its_own_outcome(sandbox: Sandbox, connect: Connect) -> None:
    connector = connect(sandbox)
    obj = _contact(connector)
    good, bad = _create(1, last_name="Good", birthdate=date(1999, 1, 2)), _create(2, first_name="No last name")
    first, second = connector.write(obj, [good, bad])
    assert first.result is Result.CONFIRMED and first.id is not None
    assert second.result is Result.REJECTED and "LastName" in second.reason and second.fields == ("LastName",)
    fields = sandbox.alive("Contact")[first.id]
    assert (fields["LastName"], fields["Birthdate"], fields[EXTERNAL]) == ("Good", "1999-01-02", str(good.row_id))
    (found,) = connector.lookup(obj, [str(good.row_id), str(bad.row_id)]).table["id"].to_pylist()
    assert found == first.id


def test_a_create_that_is_sent_twice_arrives_once(sandbox: Sandbox, connect: Connect) -> None:
    connector = connect(sandbox)
    obj = _contact(connector)
    before = len(sandbox.alive("Contact"))
    create = _create(1, last_name="Once")
    (first,), (again,) = connector.write(obj, [create]), connector.write(obj, [create])
    assert first.id == again.id and len(sandbox.alive("Contact")) == before + 1


def test_updates_deletes_and_what_is_gone(sandbox: Sandbox, connect: Connect) -> None:
    connector = connect(sandbox)
    obj = _contact(connector)
    record_id = next(iter(sandbox.alive("Contact")))
    row_id = uuid.uuid4()
    (done,) = connector.write(obj, [Mutation(1, Op.UPDATE, row_id, record_id, {"phone": None, "email": "a@b.example"})])
    assert done.result is Result.CONFIRMED
    fields = sandbox.alive("Contact")[record_id]
    assert (fields["Phone"], fields["Email"]) == (None, "a@b.example")
    delete = Mutation(2, Op.DELETE, row_id, record_id)
    assert [o.result for o in connector.write(obj, [delete])] == [Result.CONFIRMED]
    assert [o.result for o in connector.write(obj, [delete])] == [Result.GONE]
    assert [o.result for o in connector.write(obj, [Mutation(3, Op.UPDATE, row_id, record_id, {"phone": "1"})])] == [
        Result.GONE
    ]


def test_numbers_travel_exactly(sandbox: Sandbox, connect: Connect) -> None:
    connector = connect(sandbox)
    obj = connector.describe("Account")
    record_id = next(iter(sandbox.alive("Account")))
    amount = Decimal("123456789012345.67")
    connector.write(obj, [Mutation(1, Op.UPDATE, uuid.uuid4(), record_id, {"annual_revenue": amount})])
    stored = connector.fetch(obj, [record_id]).table["annual_revenue"][0].as_py()
    fld = obj.by_column["annual_revenue"]
    assert connector.same(fld, amount, stored)


@pytest.mark.parametrize(
    ("kind", "done"), [("timeout_before", False), ("timeout_after", True), ("truncate", True), ("500", False)]
)
def test_a_write_without_a_whole_reply_is_unknown(sandbox: Sandbox, connect: Connect, kind: str, done: bool) -> None:
    connector = connect(sandbox)
    obj = _contact(connector)
    sandbox.faults({"kind": kind, "path": "/composite/sobjects", "method": "PATCH"})
    create = _create(1, last_name="Maybe")
    (outcome,) = connector.write(obj, [create])
    assert outcome.result is Result.UNKNOWN
    if kind != "500":
        assert (connector.lookup(obj, [str(create.row_id)]).table.num_rows == 1) is done


def test_half_a_batch_that_met_locked_rows_may_be_sent_again(sandbox: Sandbox, connect: Connect) -> None:
    connector = connect(sandbox)
    obj = _contact(connector)
    sandbox.faults({"kind": "partial_batch", "path": "/composite/sobjects"})
    outcomes = connector.write(obj, [_create(i, last_name=f"P{i}") for i in range(4)])
    assert sorted(o.result for o in outcomes) == [Result.CONFIRMED] * 2 + [Result.RETRY] * 2


def test_the_end_of_the_quota_is_told_before_anything_is_done(sandbox: Sandbox, connect: Connect) -> None:
    connector = connect(sandbox)
    obj = _contact(connector)
    before = len(sandbox.alive("Contact"))
    sandbox.limits(daily_calls=1)
    with pytest.raises(QuotaExhausted):
        connector.write(obj, [_create(1, last_name="Late")])
    assert len(sandbox.alive("Contact")) == before
