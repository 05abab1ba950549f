"""NetSuite, as far as the promises that all connectors share do not say it."""

from __future__ import annotations

import json
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import pyarrow as pa
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from crm_assets.connectors import registry
from crm_assets.connectors.base import ConnectionConfig
from crm_assets.connectors.netsuite import NetsuiteConnector, suiteql
from crm_assets.connectors.netsuite.cast import in_utc
from crm_assets.connectors.netsuite.client import Client
from crm_assets.connectors.netsuite.webhook import told_as
from crm_assets.core.errors import ConfigurationError, QuotaExhausted, RejectedError, SchemaChanged
from crm_assets.core.model import FieldType, Mutation, Object, Op, Result, Value, Window
from crm_assets.store import outbox
from crm_assets.store.apply import apply
from crm_assets.store.worker import Worker
from crm_assets_tests.contract.crms import NETSUITE, Gate
from crm_assets_tests.plugins.linked import Link
from crm_assets_tests.plugins.netsuite import CREDENTIALS, MakeNetsuite, environment
from crm_assets_tests.plugins.sandbox import Sandbox, wait_until

SEEDED = 2_050
"""More than one page, all of one second."""
AT = datetime(2026, 3, 2, 14, 5, 58, tzinfo=UTC)


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    folder = tmp_path_factory.mktemp("netsuite")
    (folder / "seed" / "netsuite").mkdir(parents=True)
    rows = [f"{50_000 + n},N{n},{AT:%Y-%m-%dT%H:%M:%SZ}" for n in range(SEEDED)]
    text = "\n".join(["id,companyName,lastModifiedDate", *rows])
    (folder / "seed" / "netsuite" / "customer.csv").write_text(text + "\n", encoding="utf-8")
    sandbox = Sandbox(folder / "data", connection="netsuite", seed_dir=folder / "seed")
    yield sandbox
    sandbox.kill()


@pytest.fixture
def netsuite(account: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[NetsuiteConnector]:
    for variable, value in environment(account.data_dir).items():
        monkeypatch.setenv(variable, value)
    connector = connect(account)
    yield connector
    account.clear_faults()
    connector.close()


def connect(account: Sandbox, **options: Any) -> NetsuiteConnector:
    config = ConnectionConfig(
        "netsuite", "netsuite", account.url, CREDENTIALS, options, call_timeout=timedelta(seconds=3)
    )
    connector = registry.make(config, Gate())
    assert isinstance(connector, NetsuiteConnector)
    return connector


def gate(netsuite: NetsuiteConnector) -> Gate:
    assert isinstance(netsuite.gate, Gate)
    return netsuite.gate


def customer(netsuite: NetsuiteConnector) -> Object:
    return replace(netsuite.describe("customer"), external_id="externalId")


def create(seq: int, **values: Value) -> Mutation:
    return Mutation(seq, Op.CREATE, uuid.uuid4(), None, {"company_name": f"Made {seq}", **values})


def order(account: Sandbox, **fields: Any) -> str:
    """A sales order of two lines."""
    buyer = account.create("customer", companyName="Buyer")
    items = [account.create("inventoryItem", itemId=f"I-{uuid.uuid4().hex[:8]}") for _ in range(2)]
    lines = [{"item": item, "quantity": n, "rate": 2.5} for n, item in enumerate(items, 1)]
    return account.create("salesOrder", **{"entity": buyer, "item": lines, **fields})


def test_types_rights_and_references_come_from_the_catalog(netsuite: NetsuiteConnector) -> None:
    obj = netsuite.describe("salesOrder")
    kinds = {
        name: (obj.by_name[name].type, obj.by_name[name].writable) for name in ("tranDate", "total", "orderStatus")
    }
    assert kinds == {
        "tranDate": (FieldType.DATE, True),
        "total": (FieldType.NUMBER, False),
        "orderStatus": (FieldType.TEXT, True),
    }
    assert "A" in obj.by_name["orderStatus"].picklist
    assert obj.by_name["entity"].reference_to == ("customer",) and obj.by_name["entity"].required
    assert "item" not in obj.by_name and "links" not in obj.by_name
    items = netsuite.describe("item")
    assert not items.createable and items.by_name["itemType"].type is FieldType.TEXT


def test_a_custom_field_is_described_read_and_written(account: Sandbox, netsuite: NetsuiteConnector) -> None:
    account.schema("customer", "add", "custentity_tier", type="string")
    obj = customer(netsuite)
    (made,) = netsuite.write(obj, [create(1, custentity_tier="gold")])
    (row,) = netsuite.fetch(obj, [made.id or ""]).table.to_pylist()
    assert row["custentity_tier"] == "gold"
    account.schema("customer", "drop", "custentity_tier")
    with pytest.raises(SchemaChanged):
        netsuite.fetch(obj, [made.id or ""])


def test_a_condition_that_netsuite_refuses_is_no_change_of_the_schema(netsuite: NetsuiteConnector) -> None:
    obj = replace(customer(netsuite), where="nosuch = 1")
    with pytest.raises(RejectedError, match="nosuch") as told:
        list(netsuite.read(obj, None))
    assert not isinstance(told.value, SchemaChanged)
    few = replace(obj, where="id < 50010 OR id = 50020")
    assert netsuite.count(few) == 11 == sum(page.table.num_rows for page in netsuite.read(few, Window(AT, AT + SECOND)))


SECOND = timedelta(seconds=1)


@pytest.fixture
def short_results(account: Sandbox) -> Iterator[None]:
    """A result of SuiteQL ends after two pages instead of a hundred: a third one of it is refused."""
    account.control("POST", "/preferences", {"result_rows": 2_000})
    url, body = f"{account.url}/services/rest/query/v1/suiteql", {"q": "SELECT id FROM customer ORDER BY id"}
    headers = {"Authorization": "Bearer sandbox", "Prefer": "transient"}
    refused = httpx.post(f"{url}?limit=1000&offset=2000", json=body, headers=headers, trust_env=False)
    assert refused.status_code == 400 and "up to 2000 records" in refused.text
    yield
    account.control("POST", "/preferences", {"result_rows": 100_000})


def test_a_window_of_one_second_has_more_rows_than_a_result(
    account: Sandbox, netsuite: NetsuiteConnector, short_results: None
) -> None:
    obj = customer(netsuite)
    assert netsuite.count(obj) == sum(page.table.num_rows for page in netsuite.read(obj, None)) >= SEEDED
    pages = list(netsuite.read(obj, Window(AT, AT + SECOND)))
    ids = [record_id for page in pages for record_id in page.table["id"].to_pylist()]
    assert len(pages) == 3 and len(ids) == len(set(ids)) and set(ids) >= {str(50_000 + n) for n in range(1_900)}
    assert pages[-1].next is None
    rest = list(netsuite.read(obj, Window(AT, AT + SECOND), pages[0].next))
    assert [page.table["id"].to_pylist() for page in rest] == [page.table["id"].to_pylist() for page in pages[1:]]
    assert netsuite.count(obj, Window(AT + SECOND / 2, AT + SECOND)) == 0


def test_no_format_of_dates_changes_what_is_read(account: Sandbox, netsuite: NetsuiteConnector) -> None:
    obj = replace(netsuite.describe("salesOrder"), where="memo = 'dated'")
    order(account, tranDate="2026-07-04", memo="dated")
    account.control("POST", "/preferences", {"date_format": "DD/MM/YYYY"})
    try:
        (page,) = netsuite.read(obj, None)
    finally:
        account.control("POST", "/preferences", {"date_format": "MM/DD/YYYY"})
    (row,) = page.table.to_pylist()
    assert row["tran_date"] == date(2026, 7, 4) and row["total"] == Decimal("7.5")


def test_deletions_are_listed_with_their_time(account: Sandbox, netsuite: NetsuiteConnector) -> None:
    obj = netsuite.describe("salesOrder")
    gone, before = order(account), datetime.now(UTC) - SECOND
    account.delete("salesOrder", gone)
    (found,) = [d for d in netsuite.deletes(obj, Window(before, before + timedelta(hours=1))) if d.id == gone]
    assert before - SECOND <= found.at <= datetime.now(UTC) + SECOND
    assert not list(netsuite.deletes(obj, Window(None, AT)))
    assert gone not in {d.id for d in netsuite.deletes(netsuite.describe("customer"), Window(None, found.at))}


def test_behind_a_call_without_a_reply_nothing_is_sent(account: Sandbox, netsuite: NetsuiteConnector) -> None:
    obj = customer(netsuite)
    writes = [create(n) for n in range(1, 5)]
    account.faults({"kind": "timeout_after", "path": "/record/v1/customer", "nth": 2})
    outcomes = netsuite.write(obj, writes)
    assert [o.result for o in outcomes] == [Result.CONFIRMED, Result.UNKNOWN, Result.RETRY, Result.RETRY]
    found = netsuite.lookup(obj, [str(m.row_id) for m in writes]).table["external_id"].to_pylist()
    assert set(found) == {str(m.row_id) for m in writes[:2]}


def test_a_refusal_for_calls_at_once_stops_the_batch(account: Sandbox, netsuite: NetsuiteConnector) -> None:
    obj = customer(netsuite)
    account.faults({"kind": "429", "path": "/record/v1/customer", "nth": 2})
    outcomes = netsuite.write(obj, [create(n) for n in range(1, 4)])
    assert [o.result for o in outcomes] == [Result.CONFIRMED, Result.RETRY, Result.RETRY]
    assert gate(netsuite).refusals == ["concurrency"]
    account.faults({"kind": "429", "path": "/record/v1/customer"})
    with pytest.raises(QuotaExhausted):
        netsuite.write(obj, [create(1)])


def test_without_an_external_id_a_create_has_a_key_of_its_own(account: Sandbox, netsuite: NetsuiteConnector) -> None:
    obj = netsuite.describe("customer")
    new = create(1, subsidiary="1", is_inactive=True, credit_limit=Decimal("0.1"))
    (made,), (again,) = netsuite.write(obj, [new]), netsuite.write(obj, [new])
    assert made.id == again.id is not None
    bad = replace(create(2), values={"company_name": "Bad", "email": "no address"})
    (refused,) = netsuite.write(obj, [bad])
    assert refused.result is Result.REJECTED and refused.fields == ("email",)
    (mended,) = netsuite.write(obj, [replace(bad, values={"company_name": "Good"})])
    assert mended.result is Result.CONFIRMED
    fields = account.alive("customer")[made.id or ""]
    assert fields["externalId"] is None and fields["subsidiary"] == "1"
    assert fields["isInactive"] is True and fields["creditLimit"] == 0.1


def test_an_error_of_the_server_after_a_write_is_unknown(account: Sandbox, netsuite: NetsuiteConnector) -> None:
    account.faults({"kind": "500", "path": "/record/v1/customer"})
    (outcome,) = netsuite.write(customer(netsuite), [create(1)])
    assert outcome.result is Result.UNKNOWN


def test_an_rsa_key_signs_as_well(
    account: Sandbox, netsuite: NetsuiteConnector, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=3_072)
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
    account.control("POST", "/certificates", {"kid": "mine", "public_key": public})
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    monkeypatch.setenv("NETSUITE_PRIVATE_KEY", pem.replace("\n", "\\n"))
    monkeypatch.setenv("NETSUITE_CERTIFICATE_ID", "mine")
    connector = connect(account)
    assert "customer" in connector.object_names()
    monkeypatch.setenv("NETSUITE_CERTIFICATE_ID", "another")
    other = connect(account)
    with pytest.raises(ConfigurationError, match="NETSUITE_CERTIFICATE_ID"):
        other.object_names()
    for one in (connector, other):
        one.close()


def test_an_unknown_time_zone_is_refused(account: Sandbox) -> None:
    with pytest.raises(ConfigurationError, match="Europe/Londn"):
        connect(account, time_zone="Europe/Londn")


def test_lines_are_complete_for_their_orders(account: Sandbox, netsuite: NetsuiteConnector) -> None:
    obj = netsuite.describe("salesOrder_item")
    assert obj.parent == "parent_id" and obj.deletable and obj.version_field is None
    full, bare = order(account), order(account, item=[])
    page = netsuite.fetch(obj, [f"{full}:1", bare])
    assert page.complete_for == (full, bare)
    shown = [(row["id"], row["parent_id"], row["line"], row["quantity"]) for row in page.table.to_pylist()]
    assert shown == [(f"{full}:{n}", full, n, Decimal(n)) for n in (1, 2)]
    everything = list(netsuite.read(obj, None))
    assert {full, bare} <= {parent for page in everything for parent in page.complete_for}
    assert netsuite.count(obj) == sum(page.table.num_rows for page in everything)


def test_a_line_is_added_and_changed_beside_the_others(account: Sandbox, netsuite: NetsuiteConnector) -> None:
    obj = netsuite.describe("salesOrder_item")
    parent = order(account)
    item = account.alive("salesOrder")[parent]["item"][0]["item"]
    values: dict[str, Value] = {"parent_id": parent, "item": item, "quantity": Decimal(4), "rate": Decimal("1.5")}
    twice = [Mutation(n, Op.CREATE, uuid.uuid4(), None, {**values, "line": None}) for n in (1, 2)]
    assert [o.id for o in netsuite.write(obj, twice)] == [f"{parent}:3", f"{parent}:4"]
    netsuite.write(obj, [Mutation(3, Op.UPDATE, uuid.uuid4(), f"{parent}:3", {"quantity": Decimal(6)})])
    quantities = [line["quantity"] for line in account.alive("salesOrder")[parent]["item"]]
    assert quantities == [1, 2, 6, 4]


def test_a_line_whose_number_cannot_be_read_is_unknown(account: Sandbox, netsuite: NetsuiteConnector) -> None:
    obj = netsuite.describe("salesOrder_item")
    parent = order(account)
    item = account.alive("salesOrder")[parent]["item"][0]["item"]
    account.faults({"kind": "429", "path": "/suiteql", "nth": 2})
    line = Mutation(1, Op.CREATE, uuid.uuid4(), None, {"parent_id": parent, "item": item, "quantity": Decimal(9)})
    (outcome,) = netsuite.write(obj, [line])
    assert outcome.result is Result.UNKNOWN and len(account.alive("salesOrder")[parent]["item"]) == 3


def test_times_are_those_of_the_accounts_zone() -> None:
    berlin = ZoneInfo("Europe/Berlin")
    assert "'2026-07-04 14:00:00'" in suiteql.instant(datetime(2026, 7, 4, 12, 0, tzinfo=UTC), berlin)
    assert "'2026-07-04 12:00:01'" in suiteql.instant(datetime(2026, 7, 4, 12, 0, 0, 1, UTC), ZoneInfo("UTC"))
    shown = pa.array(["2026-07-04T14:00:00", "2026-12-04T13:00:00", None])
    assert in_utc(shown, berlin).to_pylist() == ["2026-07-04T12:00:00Z", "2026-12-04T12:00:00Z", None]


@pytest.mark.parametrize("value", ["1 OR 1 = 1", "", "-1", "١"])
def test_only_numbers_are_ids(value: str) -> None:
    with pytest.raises(ValueError):
        suiteql.number(value)


def test_two_changes_within_a_second_are_two(netsuite: NetsuiteConnector) -> None:
    body = {"event": "edit", "recordType": "salesorder", "id": "7", "at": "2026-07-29T08:34:00Z", "account": "1234567"}
    content = json.dumps(body).encode()
    headers = NETSUITE.deliver("sandbox", "", content, time.time())
    first, second = (netsuite.parse_event(headers, content, "") for _ in range(2))
    assert [(c.object, c.record_id, c.change) for c in first] == [
        ("salesOrder", "7", "edit"),
        ("salesOrder_item", "7", "edit"),
    ]
    assert len({c.event_id for c in (*first, *second)}) == 4


def test_a_change_is_told_to_all_objects_that_show_it() -> None:
    assert told_as("salesorder") == ["salesOrder", "salesOrder_item"]
    assert told_as("inventoryitem") == ["item", "inventoryItem"]
    assert told_as("customrecord_tier") == ["customrecord_tier"]


def test_both_directions_through_the_engine(make_netsuite: MakeNetsuite) -> None:
    link = make_netsuite("customer", "salesOrder", "salesOrder_item", "item")
    for table in link.connection.objects:
        report = link.sync(table)
        assert not report.partial and report.set_aside == 0
    for name, table in (("customer", "customer"), ("salesOrder", "sales_order")):
        assert link.value(f"SELECT count(*) FROM netsuite.{table}") == len(link.sandbox.alive(name)) > 0
    lines = sum(len(fields["item"]) for fields in link.sandbox.alive("salesOrder").values())
    assert link.value("SELECT count(*) FROM netsuite.sales_order_item") == lines

    item = link.value("SELECT id FROM netsuite.item ORDER BY id LIMIT 1")
    buyer = link.value("INSERT INTO netsuite.customer (company_name) VALUES ('Acme') RETURNING row_id")
    bought = link.value(
        "INSERT INTO netsuite.sales_order (entity, memo) VALUES (%s, 'ours') RETURNING row_id", str(buyer)
    )
    link.rows(
        "INSERT INTO netsuite.sales_order_item (parent_id, item, quantity, rate) VALUES (%s, %s, 3, 2.5)",
        str(bought),
        item,
    )
    link.settle()
    assert set(link.states()) == {"confirmed"}
    made = link.value("SELECT id FROM netsuite.sales_order WHERE row_id = %s", bought)
    shown = link.sandbox.alive("salesOrder")[made]
    assert shown["externalId"] == str(bought) and [line["quantity"] for line in shown["item"]] == [3]
    assert shown["entity"] == link.value("SELECT id FROM netsuite.customer WHERE row_id = %s", buyer)
    assert link.value("SELECT id FROM netsuite.sales_order_item WHERE parent_id = %s", made) == f"{made}:1"

    link.rows("UPDATE netsuite.sales_order_item SET quantity = 5 WHERE parent_id = %s", made)
    link.rows("UPDATE netsuite.customer SET phone = '020 7946 0111' WHERE row_id = %s", buyer)
    link.settle()
    assert [line["quantity"] for line in link.sandbox.alive("salesOrder")[made]["item"]] == [5]

    gone = next(
        key for key in link.sandbox.alive("customer") if link.sandbox.alive("customer")[key]["companyName"] != "Acme"
    )
    link.sandbox.delete("customer", gone)
    link.sandbox.update("salesOrder", made, memo="theirs")

    def arrived() -> bool:
        for table in ("customer", "sales_order", "sales_order_item"):
            link.sync(table)
        # Two changes within one second have one version: which came last, only a read by id can tell.
        link.read_events()
        # What happens in the second that a window ends with is the next one's.
        return link.value("SELECT memo FROM netsuite.sales_order WHERE id = %s", made) == "theirs" and not link.rows(
            "SELECT 1 FROM netsuite.customer WHERE id = %s", gone
        )

    wait_until(arrived, 20)
    assert link.value("SELECT total FROM netsuite.sales_order WHERE id = %s", made) == Decimal("12.5")


def test_what_goes_wrong_on_the_way_leaves_nothing_out(make_netsuite: MakeNetsuite) -> None:
    link = make_netsuite("customer", "salesOrder", rows=100)
    link.sandbox.faults(
        {"kind": "truncate", "path": "/suiteql"},
        {"kind": "expired_token", "path": "/suiteql", "nth": 2},
        {"kind": "503", "path": "/suiteql", "nth": 4},
    )
    for table in link.connection.objects:
        assert not link.sync(table).partial
    one, late, gone, *_ = ids = sorted(link.sandbox.alive("customer"))
    assert link.value("SELECT count(*) FROM netsuite.customer") == len(ids)

    link.sandbox.faults({"kind": "late_commit", "method": "PATCH", "path": f"/customer/{late}"})
    link.sandbox.update("customer", late, phone="020 7946 0001")
    link.sandbox.update("customer", one, phone="020 7946 0002")
    link.sandbox.merge("customer", one, [gone])

    def arrived() -> bool:
        for table in link.connection.objects:
            link.sync(table)
        shown = dict(link.rows("SELECT id, phone FROM netsuite.customer"))
        return shown[late] == "020 7946 0001" and shown[one] == "020 7946 0002" and gone not in shown

    wait_until(arrived, 20)
    theirs = {key: fields["entity"] for key, fields in link.sandbox.alive("salesOrder").items()}
    assert dict(link.rows("SELECT id, entity FROM netsuite.sales_order")) == theirs and gone not in theirs.values()


def test_what_netsuite_refuses_goes_back_to_its_values(make_netsuite: MakeNetsuite) -> None:
    link = make_netsuite("customer")
    link.sync("customer")
    one, other, third = sorted(link.sandbox.alive("customer"))[:3]
    before = link.value("SELECT email FROM netsuite.customer WHERE id = %s", one)
    link.rows("UPDATE netsuite.customer SET email = 'no address', phone = '020 7946 0001' WHERE id = %s", one)
    link.rows("UPDATE netsuite.customer SET phone = '020 7946 0002' WHERE id = %s", other)
    link.rows("DELETE FROM netsuite.customer WHERE id = %s", third)
    link.settle()
    assert link.states() == {"rejected": 1, "confirmed": 2}
    reason = link.value("SELECT reason FROM crm_assets.outbox WHERE state = 'rejected'")
    assert "USER_ERROR" in reason and "email" in reason and "no address" not in reason
    assert link.value("SELECT email FROM netsuite.customer WHERE id = %s", one) == before
    assert link.sandbox.alive("customer")[other]["phone"] == "020 7946 0002"
    assert third not in link.sandbox.alive("customer")

    link.sandbox.update("customer", other, phone="020 7946 0003")
    link.rows("UPDATE netsuite.customer SET phone = '020 7946 0004' WHERE id = %s", other)
    link.write_back()
    assert link.states()["conflict"] == 1 and link.sandbox.alive("customer")[other]["phone"] == "020 7946 0003"


def test_a_create_whose_reply_is_lost_arrives_once(make_netsuite: MakeNetsuite) -> None:
    """By its external id; without one, by the key of its call, which leads to the job of the first one."""
    link = make_netsuite("customer", "contact", settings={"contact": {"external_id": None}})
    for table in ("customer", "contact"):
        link.sync(table)
    link.sandbox.faults(
        {"kind": "timeout_after", "method": "PUT", "path": "/record/v1/customer"},
        {"kind": "timeout_before", "method": "PATCH", "path": "/record/v1/customer"},
        {"kind": "timeout_after", "method": "POST", "path": "/record/v1/contact", "nth": 1},
        {"kind": "timeout_before", "method": "POST", "path": "/record/v1/contact", "nth": 2},
        {"kind": "500", "method": "GET", "path": "/task/1/result"},
    )
    row = link.value("INSERT INTO netsuite.customer (company_name) VALUES ('Lost') RETURNING row_id")
    one = link.value("SELECT id FROM netsuite.customer WHERE id IS NOT NULL ORDER BY id LIMIT 1")
    link.rows("UPDATE netsuite.customer SET phone = '020 7946 0005' WHERE id = %s", one)
    names = ["Ada", "Bob", "Cid"]
    for name in names:
        link.rows("INSERT INTO netsuite.contact (last_name) VALUES (%s)", name)
    link.write_back()
    # Meanwhile the product goes on: what is sent again has other values than what has arrived.
    link.rows("UPDATE netsuite.contact SET phone = '020 7946 0006' WHERE last_name = ANY (%s)", names)
    link.settle(60)
    assert set(link.states()) <= {"confirmed", "superseded"}
    made = [key for key, fields in link.sandbox.alive("customer").items() if fields["companyName"] == "Lost"]
    assert made == [link.value("SELECT id FROM netsuite.customer WHERE row_id = %s", row)]
    assert link.sandbox.alive("customer")[one]["phone"] == "020 7946 0005"
    people = [(key, fields["lastName"]) for key, fields in link.sandbox.alive("contact").items()]
    assert sorted((key, name) for key, name in people if name in names) == sorted(
        link.rows("SELECT id, last_name FROM netsuite.contact WHERE last_name = ANY (%s)", names)
    )
    assert len([name for _, name in people if name in names]) == 3
    phones = {fields["phone"] for fields in link.sandbox.alive("contact").values() if fields["lastName"] in names}
    assert phones == {"020 7946 0006"}

    # What was refused is sent anew when a person has mended it: the refusal of the first job is not the last word.
    link.rows("INSERT INTO netsuite.contact (last_name, email) VALUES ('Dee', 'no address')")
    link.settle()
    refused = link.value("SELECT seq FROM crm_assets.outbox WHERE state = 'rejected'")
    link.rows("UPDATE netsuite.contact SET email = 'dee@example.com' WHERE last_name = 'Dee'")
    link.settle()
    assert refused is not None and link.states()["rejected"] == 1
    assert [f["email"] for f in link.sandbox.alive("contact").values() if f["lastName"] == "Dee"] == ["dee@example.com"]


def _order(link: Link, memo: str, *lines: tuple[str, int]) -> str:
    """A new order of the product's with its lines, in one transaction; its row_id."""
    with link.db.transaction() as conn:
        row = conn.execute(
            "INSERT INTO netsuite.sales_order (entity, memo) VALUES (%s, %s) RETURNING row_id::text",
            (link.value("SELECT id FROM netsuite.customer ORDER BY id LIMIT 1"), memo),
        ).fetchone()
        assert row is not None
        for item, quantity in lines:
            conn.execute(
                "INSERT INTO netsuite.sales_order_item (parent_id, item, quantity, rate) VALUES (%s, %s, %s, 2)",
                (row[0], item, quantity),
            )
    return str(row[0])


def test_an_orders_lines_are_written_within_it(make_netsuite: MakeNetsuite, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many accounts refuse an order without lines. What the call's fate is, is that of the lines."""
    link = make_netsuite("customer", "salesOrder", "salesOrder_item", "item")
    for table in link.connection.objects:
        link.sync(table)
    box = link.sandbox
    box.control("POST", "/preferences", {"empty_orders": False})
    item, other = (row[0] for row in link.rows("SELECT id FROM netsuite.item ORDER BY id LIMIT 2"))

    def settled(row_id: str) -> dict[int, str]:
        """Quantities of the order's lines by their number, as the mirror and the CRM have them alike."""
        link.settle(30)
        made = link.value("SELECT id FROM netsuite.sales_order WHERE row_id::text = %s", row_id)
        rows = link.rows("SELECT id, quantity FROM netsuite.sales_order_item WHERE parent_id = %s", made)
        shown = {line["line"]: line["quantity"] for line in box.alive("salesOrder")[made]["item"]}
        assert {int(key.partition(":")[2]): value for key, value in rows} == shown
        return shown

    # Two of the lines are alike: which is which does not matter.
    assert settled(_order(link, "one call", (item, 3), (other, 1), (item, 3))) == {1: 3, 2: 1, 3: 3}
    writes = [api for api, n in box.calls()["by_api"].items() if api == "record_write" for _ in range(n)]
    assert len(writes) == 1 and link.states() == {"confirmed": 4}

    # A reply that is lost: the order is found by its external id, and the lines within it by their values.
    box.faults({"kind": "timeout_after", "path": "/record/v1/salesOrder", "method": "PUT"})
    assert settled(_order(link, "lost reply", (item, 5), (item, 5), (other, 6))) == {1: 5, 2: 5, 3: 6}
    # A call that never arrives: all of it is sent again.
    box.faults({"kind": "timeout_before", "path": "/record/v1/salesOrder", "method": "PUT"})
    assert settled(_order(link, "lost call", (item, 7), (other, 8))) == {1: 7, 2: 8}
    # Refused for the number of calls: nothing was done, and it goes out again.
    box.faults({"kind": "429", "path": "/record/v1/salesOrder", "method": "PUT"})
    assert settled(_order(link, "refused", (item, 9))) == {1: 9}
    assert set(link.states()) == {"confirmed"}

    # A process that dies over the call, before or after it left: nobody knows, and it is looked for.
    died = _order(link, "died", (item, 11), (other, 12))
    minute = timedelta(minutes=1)
    orders, lines = link.object("sales_order"), link.object("sales_order_item")
    with Worker(link.db.url) as dying:
        (claimed,) = outbox.claim(link.db, "netsuite", orders, dying, 10, minute)
        within = outbox.claim_within(link.db, "netsuite", lines, dying, [claimed.row_id], minute)
        assert [len(writes) for writes in within.values()] == [2]
    assert settled(died) == {1: 11, 2: 12}

    # Lines leave one at a time: each call names those that stay, beside which another one could bring them back.
    order = _order(link, "shrinking", *((item, n) for n in range(1, 7)))
    assert settled(order) == {n: n for n in range(1, 7)}
    made = link.value("SELECT id FROM netsuite.sales_order WHERE row_id::text = %s", order)
    link.rows("DELETE FROM netsuite.sales_order_item WHERE id = ANY (%s)", [f"{made}:{n}" for n in (2, 3, 5)])
    link.rows("UPDATE netsuite.sales_order_item SET quantity = 40 WHERE id = %s", f"{made}:4")
    link.rows(
        "INSERT INTO netsuite.sales_order_item (parent_id, item, quantity, rate) VALUES (%s, %s, 70, 2)", made, other
    )
    box.faults({"kind": "timeout_after", "path": f"/salesOrder/{made}", "method": "PATCH"})
    assert sorted(settled(order).values()) == [1, 6, 40, 70]
    box.update("salesOrder", made, memo="somebody took it out", item=[{"item": item, "quantity": 1}])
    link.rows("DELETE FROM netsuite.sales_order_item WHERE id = %s", f"{made}:6")
    link.settle()
    assert set(link.states()) == {"confirmed"}

    # What NetSuite refuses it refuses as a whole, and says so for each.
    bare = _order(link, "no lines")
    bad = _order(link, "a bad line", (item, 1), ("999999", 1))
    link.settle()
    reasons = dict(link.rows("SELECT seq, reason FROM crm_assets.outbox WHERE state = 'rejected'"))
    assert link.states()["rejected"] == 4 and any("at least one line" in reason for reason in reasons.values())
    for row_id in (bare, bad):
        assert link.value("SELECT id FROM netsuite.sales_order WHERE row_id::text = %s", row_id) is None
    assert {"no lines", "a bad line"}.isdisjoint(order["memo"] for order in box.alive("salesOrder").values())

    # Where a record does not show all of its lines, none is taken away: those that it does not show would go with it.
    plain = Client.get

    def first_page(self: Client, *arguments: Any, **options: Any) -> Any:
        body = plain(self, *arguments, **options)
        if "item" in body:
            body["item"] |= {"items": body["item"]["items"][:2], "hasMore": True}
        return body

    longer = _order(link, "more lines", *((item, n) for n in range(1, 5)))
    assert settled(longer) == {n: n for n in range(1, 5)}
    long_one = link.value("SELECT id FROM netsuite.sales_order WHERE row_id::text = %s", longer)
    with monkeypatch.context() as patch:
        patch.setattr(Client, "get", first_page)
        link.rows("DELETE FROM netsuite.sales_order_item WHERE id = %s", f"{long_one}:1")
        link.settle()
    apply(link.db, "netsuite", lines)
    assert settled(longer) == {n: n for n in range(1, 5)}
    assert link.value("SELECT reason FROM crm_assets.outbox WHERE state = 'rejected' AND op = 'delete'") is not None

    # Whoever claims meanwhile gets nothing of an order that a line is being taken from.
    link.rows("DELETE FROM netsuite.sales_order_item WHERE parent_id = %s", made)
    one = link.value("SELECT id FROM netsuite.sales_order_item ORDER BY id LIMIT 1")
    link.rows("UPDATE netsuite.sales_order_item SET quantity = 77 WHERE id = %s", one)
    with Worker(link.db.url) as first, Worker(link.db.url) as second:
        claimed = outbox.claim(link.db, "netsuite", lines, first, 100, minute)
        assert sorted((w.op, (w.id or "").partition(":")[0]) for w in claimed) == [
            (Op.DELETE, made),
            (Op.UPDATE, one.partition(":")[0]),
        ]
        assert outbox.claim(link.db, "netsuite", lines, second, 100, minute) == []
