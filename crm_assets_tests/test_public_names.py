"""Names that users build on: dashboards, alerts and scripts break when one of them changes."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

import crm_assets
from crm_assets.connections import load_connections
from crm_assets.orchestration.build import build

WRITABLE = ("account", "contact", "lead", "opportunity", "product2")
TABLES = (*WRITABLE, "user")


@pytest.fixture(scope="module")
def definitions(tmp_path_factory: pytest.TempPathFactory) -> dg.Definitions:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CRM_ASSETS_HOME", str(tmp_path_factory.mktemp("home")))
        return build(load_connections(Path(crm_assets.__file__).parent / "defs")["salesforce"])


def test_asset_keys(definitions: dg.Definitions) -> None:
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {
        *(f"salesforce_api/{table}" for table in TABLES),
        *(f"salesforce/{table}" for table in TABLES),
        *(f"salesforce_writeback/{table}" for table in WRITABLE),
    }


def test_checks(definitions: dg.Definitions) -> None:
    keys = {
        f"{key.asset_key.to_user_string()}:{key.name}" for key in definitions.resolve_asset_graph().asset_check_keys
    }
    assert keys == {
        *(
            f"salesforce/{table}:{check}"
            for table in TABLES
            for check in ("complete", "schema", "fresh", "guard", "quota")
        ),
        *(f"salesforce/{table}:unsettled_writes" for table in WRITABLE),
    }


def test_jobs(definitions: dg.Definitions) -> None:
    names = {job.name for job in definitions.resolve_all_job_defs()}
    assert {name for name in names if not name.startswith("__")} == {
        "salesforce_sync",
        "salesforce_full_refresh",
        "salesforce_backfill",
        "salesforce_writeback",
        "salesforce_events",
        "salesforce_reconcile",
        "salesforce_checks",
        "salesforce_approve",
        "salesforce_replay",
    }


def test_the_configuration_of_a_backfill(definitions: dg.Definitions) -> None:
    job = definitions.resolve_job_def("salesforce_backfill")
    fields = job.get_node_named("salesforce_plan").definition.config_schema.config_type.fields  # type: ignore[union-attr]
    assert {name: field.is_required for name, field in fields.items()} == {
        "object": True,
        "from": True,
        "to": False,
        "slice_days": False,
    }


def test_schedules_and_sensors(definitions: dg.Definitions) -> None:
    repository = definitions.get_repository_def()
    assert {(one.name, one.cron_schedule) for one in repository.schedule_defs} == {
        ("salesforce_incremental", "* * * * *"),
        ("salesforce_checks", "*/5 * * * *"),
        ("salesforce_reconcile", "17 3 * * *"),
    }
    assert sorted(one.name for one in repository.sensor_defs) == ["salesforce_alerts", "salesforce_dispatcher"]


def test_asset_keys_of_hubspot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_ASSETS_HOME", str(tmp_path))
    graph = build(load_connections(Path(crm_assets.__file__).parent / "defs")["hubspot"]).resolve_asset_graph()
    records = ("contacts", "companies", "deals", "tickets", "products", "line_items")
    activities = ("calls", "emails", "meetings", "notes", "tasks")
    associations = (
        "contacts_to_companies",
        "deals_to_contacts",
        "deals_to_companies",
        "deals_to_line_items",
        "tickets_to_contacts",
        "notes_to_contacts",
    )
    written = (*records, *activities, *associations)
    tables = (*written, "owners", "pipelines", "pipeline_stages")
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        *(f"hubspot_api/{table}" for table in tables),
        *(f"hubspot/{table}" for table in tables),
        *(f"hubspot_writeback/{table}" for table in written),
    }


def test_asset_keys_of_netsuite(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_ASSETS_HOME", str(tmp_path))
    graph = build(load_connections(Path(crm_assets.__file__).parent / "defs")["netsuite"]).resolve_asset_graph()
    entities, transactions = (
        ("customer", "contact", "vendor", "employee"),
        ("sales_order", "invoice", "customer_payment"),
    )
    written = (*entities, *transactions, "sales_order_item", "invoice_item")
    tables = (*written, "item", "subsidiary", "currency")
    assert {key.to_user_string() for key in graph.get_all_asset_keys()} == {
        *(f"netsuite_api/{table}" for table in tables),
        *(f"netsuite/{table}" for table in tables),
        *(f"netsuite_writeback/{table}" for table in written),
    }


def test_three_crms_have_one_lineage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One graph: in each group every mirror comes from the CRM's object and leads to its way back, if it has one."""
    monkeypatch.setenv("CRM_ASSETS_HOME", str(tmp_path))
    specs = load_connections(Path(crm_assets.__file__).parent / "defs")
    graph = dg.Definitions.merge(*(build(spec) for spec in specs.values())).resolve_asset_graph()
    mirrors = {name: set(spec.tables()) for name, spec in specs.items()}
    assert set(mirrors) == {"salesforce", "hubspot", "netsuite"}
    for name, tables in mirrors.items():
        keys = {key.to_user_string() for key in graph.get_all_asset_keys() if graph.get(key).group_name == name}
        assert {f"{name}/{table}" for table in tables} <= keys
        for table in tables:
            node = graph.get(dg.AssetKey([name, table]))
            assert {key.to_user_string() for key in node.parent_keys} == {f"{name}_api/{table}"}
            back = {key.to_user_string() for key in node.child_keys}
            assert back == ({f"{name}_writeback/{table}"} if specs[name].tables()[table].write else set())


def test_a_connection_without_its_url_is_left_out_beside_a_real_one(monkeypatch: pytest.MonkeyPatch) -> None:
    defs = Path(crm_assets.__file__).parent / "defs"
    assert {"salesforce", "hubspot", "netsuite"} <= set(load_connections(defs))
    monkeypatch.setenv("HUBSPOT_URL", "https://api.hubapi.com")
    assert list(load_connections(defs)) == ["hubspot"]
    monkeypatch.setenv("SALESFORCE_URL", "https://acme.my.salesforce.com")
    assert {"salesforce", "hubspot"} <= set(load_connections(defs))
    assert "netsuite" not in load_connections(defs)
    monkeypatch.delenv("HUBSPOT_URL")
    assert "hubspot" not in load_connections(defs)
