"""Definitions: what they hold, and that loading them is light and asks nobody."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import dagster as dg
import pytest
import yaml

import crm_assets
from crm_assets.components import CrmConnection
from crm_assets.connections import ConnectionSpec, load_connections
from crm_assets.orchestration.build import build

PACKAGE = Path(crm_assets.__file__).parent
ROOT = PACKAGE.parent

_LOAD = """
import json, socket, sys

def refuse(*args, **more):
    raise AssertionError(f"loading the definitions connects to {args}")

socket.socket.connect = refuse
from crm_assets.definitions import defs
loaded = defs()
print(json.dumps({
    "assets": sorted(key.to_user_string() for key in loaded.resolve_asset_graph().get_all_asset_keys()),
    "heavy": sorted({"dlt", "pyarrow", "pandas", "psycopg", "sqlalchemy", "alembic", "httpx"} & {*sys.modules}),
}))
"""


def load(cwd: Path, **environment: str) -> dict[str, list[str]]:
    """Load the definitions in a fresh interpreter that turns warnings into errors and cannot connect anywhere."""
    done = subprocess.run(
        [sys.executable, "-W", "error::FutureWarning", "-c", _LOAD],
        capture_output=True,
        text=True,
        cwd=cwd,
        env=os.environ | {"CRM_ASSETS_HOME": str(cwd / "home")} | environment,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, list[str]] = json.loads(done.stdout)
    return result


def test_loading_connects_to_nothing_and_imports_nothing_heavy(tmp_path: Path) -> None:
    loaded = load(tmp_path)
    assert loaded["heavy"] == []
    assert "salesforce/contact" in loaded["assets"]


def test_an_installed_package_loads_without_its_project(tmp_path: Path) -> None:
    """A wheel has no pyproject.toml above it."""
    site = tmp_path / "site"
    shutil.copytree(PACKAGE, site / "crm_assets", ignore=shutil.ignore_patterns("__pycache__"))
    loaded = load(tmp_path, PYTHONPATH=str(site))
    assert "salesforce/contact" in loaded["assets"]


def test_a_folder_elsewhere_holds_the_connections(tmp_path: Path) -> None:
    text = (PACKAGE / "defs" / "salesforce" / "defs.yaml").read_text(encoding="utf-8")
    folder = tmp_path / "elsewhere" / "acme"
    folder.mkdir(parents=True)
    (folder / "defs.yaml").write_text(text.replace("connection: salesforce", "connection: acme"), encoding="utf-8")
    loaded = load(tmp_path, CRM_ASSETS_DEFS=str(folder.parent))
    assert "acme/contact" in loaded["assets"]
    assert "salesforce/contact" not in loaded["assets"]


def test_the_component_and_the_loader_read_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SALESFORCE_URL", "https://acme.my.salesforce.com")
    attributes = yaml.safe_load((PACKAGE / "defs" / "salesforce" / "defs.yaml").read_text())["attributes"]
    component = CrmConnection.from_attributes_dict(attributes=attributes)
    assert component.model_dump() == load_connections(PACKAGE / "defs")["salesforce"].model_dump()


def test_the_component_names_a_missing_variable() -> None:
    attributes = yaml.safe_load((PACKAGE / "defs" / "salesforce" / "defs.yaml").read_text())["attributes"]
    with pytest.raises(Exception, match="nvironment variable NOT_SET_HERE is not set"):
        CrmConnection.from_attributes_dict(attributes=attributes | {"url": "{{ env('NOT_SET_HERE') }}"})


def test_the_location_has_one_name_everywhere() -> None:
    """Cursors of sensors and states of schedules are kept under it."""
    workspace = yaml.safe_load((ROOT / "workspace.yaml").read_text())
    (module,) = workspace["load_from"]
    assert module["python_module"] == {"module_name": "crm_assets.definitions", "location_name": "crm_assets"}
    assert 'code_location_name = "crm_assets"' in (ROOT / "pyproject.toml").read_text()


@pytest.fixture
def definitions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dg.Definitions:
    monkeypatch.setenv("CRM_ASSETS_HOME", str(tmp_path))
    return build(load_connections(PACKAGE / "defs")["salesforce"])


def test_the_graph_goes_from_the_crm_over_the_mirror_to_the_way_back(definitions: dg.Definitions) -> None:
    graph = definitions.resolve_asset_graph()
    api, mirror, back = (
        dg.AssetKey([name, "contact"]) for name in ("salesforce_api", "salesforce", "salesforce_writeback")
    )
    assert graph.get(api).is_external
    assert graph.get(mirror).parent_keys == {api}
    assert graph.get(back).parent_keys == {mirror}
    assert graph.get(back).child_keys == set()
    assert graph.get(mirror).kinds == {"dlt", "postgres", "salesforce"}
    assert {graph.get(key).group_name for key in (api, mirror, back)} == {"salesforce"}
    assert graph.get(mirror).owners == ["team:data-platform"]
    assert graph.get(mirror).freshness_policy is not None


def test_what_runs_by_itself_runs_from_the_start(definitions: dg.Definitions) -> None:
    assert {one.name for one in definitions.schedules or [] if _running(one)} == {
        "salesforce_incremental",
        "salesforce_checks",
        "salesforce_reconcile",
    }
    sensors = [one for one in definitions.sensors or [] if isinstance(one, dg.SensorDefinition)]
    assert {one.name: one.minimum_interval_seconds for one in sensors} == {
        "salesforce_dispatcher": 4,
        "salesforce_alerts": 30,
    }
    assert all(one.default_status == dg.DefaultSensorStatus.RUNNING for one in sensors)


def test_a_connection_of_read_only_objects_has_no_write_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CRM_ASSETS_HOME", str(tmp_path))
    spec = ConnectionSpec.model_validate(
        {"connection": "acme", "connector": "salesforce", "url": "http://127.0.0.1:1", "objects": {"User": {}}}
    )
    definitions = build(spec)
    keys = {key.to_user_string() for key in definitions.resolve_asset_graph().get_all_asset_keys()}
    assert keys == {"acme_api/user", "acme/user"}
    assert "acme_writeback" not in {job.name for job in definitions.resolve_all_job_defs()}
    targets = [target.job_name for target in definitions.resolve_sensor_def("acme_dispatcher").targets]
    assert targets == ["acme_events", "acme_sync"]


def _running(schedule: object) -> bool:
    return getattr(schedule, "default_status", None) == dg.DefaultScheduleStatus.RUNNING
