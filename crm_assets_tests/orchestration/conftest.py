"""Definitions of a connection, and an instance that is gone after the test."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from crm_assets.orchestration.build import build
from crm_assets.orchestration.naming import mirror_key
from crm_assets.orchestration.opening import close_databases
from crm_assets_tests.plugins.linked import Link, MakeLink
from crm_assets_tests.plugins.sandbox import wait_until


def _instance(folder: Path) -> AbstractContextManager[dg.DagsterInstance]:
    # One file for the events of all runs: by default each run makes one, and migrates it.
    log = {
        "module": "dagster._core.storage.event_log",
        "class": "ConsolidatedSqliteEventLogStorage",
        "config": {"base_dir": str(folder / "events")},
    }
    return dg.instance_for_test(temp_dir=str(folder), overrides={"event_log_storage": log})


@pytest.fixture(scope="session")
def empty_instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an instance that has its tables, and nothing in them."""
    folder = tmp_path_factory.mktemp("dagster")
    with _instance(folder) as made:
        made.get_runs_count()
        made.all_instigator_state()
        made.get_latest_materialization_event(dg.AssetKey("none"))
    return folder


@pytest.fixture
def instance(empty_instance: Path, tmp_path: Path) -> Iterator[dg.DagsterInstance]:
    """With storage in a folder: ticks of schedules open their own handle on it."""
    folder = shutil.copytree(empty_instance, tmp_path / "dagster")
    with _instance(folder) as made:
        yield made


class Room:
    """A connection with its definitions, as Dagster's processes have them."""

    def __init__(self, link: Link, instance: dg.DagsterInstance) -> None:
        self.link, self.instance = link, instance
        self.defs = build(link.spec)

    def run(self, job: str, run_config: dict[str, Any] | None = None, **options: Any) -> dg.ExecuteInProcessResult:
        """A whole job in this process; a step that fails makes a failed run, as it would for the daemon."""
        return self.defs.resolve_job_def(job).execute_in_process(
            run_config=run_config, instance=self.instance, raise_on_error=False, **options
        )

    def sync(self, *tables: str) -> dg.ExecuteInProcessResult:
        """Named mirrors, or all, as the schedule asks for them: without their checks."""
        job = self.defs.resolve_job_def("salesforce_sync")
        chosen = {mirror_key("salesforce", table) for table in tables}
        return job.get_subset(asset_selection=chosen, asset_check_selection=set()).execute_in_process(
            instance=self.instance, raise_on_error=False
        )

    def pass_a_second(self) -> None:
        """The CRM vouches for whole seconds: until it vouches for all that was changed so far."""
        changed = datetime.now(UTC)
        obj = self.link.object("contact")
        wait_until(lambda: self.link.connector.bound(obj, None).high > changed, every=0.2)

    def materialization(self, key: str) -> dict[str, Any]:
        """Metadata of the last materialization of an asset, as plain values."""
        event = self.instance.get_latest_materialization_event(dg.AssetKey(key.split("/")))
        assert event is not None and event.asset_materialization is not None, f"{key} was never materialized"
        return {name: value.value for name, value in event.asset_materialization.metadata.items()}

    def observations(self, key: str) -> list[dict[str, Any]]:
        records = self.instance.fetch_observations(dg.AssetKey(key.split("/")), limit=10).records
        found = [record.asset_observation for record in records]
        return [{n: v.value for n, v in one.metadata.items()} for one in found if one is not None]

    def failures(self, result: dg.ExecuteInProcessResult) -> dict[str, str]:
        """What each failed step said."""
        return {
            str(event.step_key): str(event.step_failure_data.user_failure_data.description)
            for event in result.all_events
            if event.is_step_failure and event.step_failure_data.user_failure_data is not None
        }


MakeRoom = Callable[..., Room]


@pytest.fixture
def make_room(make_link: MakeLink, instance: dg.DagsterInstance, monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeRoom]:
    """Links a new sandbox and makes its definitions; takes what ``make_link`` takes."""

    def make(**options: Any) -> Room:
        link = make_link(**({"objects": ("Account", "Contact")} | options))
        monkeypatch.setenv("CRM_ASSETS_DATABASE_URL", link.db.url)
        monkeypatch.setenv("CRM_ASSETS_HOME", str(link.home))
        return Room(link, instance)

    yield make
    close_databases()


@pytest.fixture
def room(make_room: MakeRoom) -> Room:
    """Accounts and contacts, never read."""
    return make_room()
