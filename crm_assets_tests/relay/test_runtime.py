"""The database and the connections as every process opens them."""

from __future__ import annotations

import logging
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from crm_assets import runtime
from crm_assets.connections import ConnectionSpec, ObjectSpec, load_connections
from crm_assets.core.errors import ConfigurationError
from crm_assets.settings import Settings
from crm_assets.store import activity, catalog
from crm_assets.store.database import Database
from crm_assets.store.embedded import EmbeddedPostgres
from crm_assets_tests.plugins.sandbox import Sandbox


@pytest.fixture
def settings(tmp_path: Path, database_url: str) -> Settings:
    return Settings(database_url=database_url, home=tmp_path / "home")


@pytest.fixture
def spec(tmp_path: Path, define: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> ConnectionSpec:
    monkeypatch.setenv("CRM_SECRET", "sandbox")
    define()
    return load_connections(tmp_path / "defs")["salesforce"]


def test_without_any_database_the_error_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"crm-assets up.*CRM_ASSETS_DATABASE_URL"):
        runtime.open_database(Settings(database_url=None, home=tmp_path))


def test_an_embedded_server_runs_for_as_long_as_it_is_needed() -> None:
    home = Path(tempfile.mkdtemp(prefix="crm-assets-runtime-"))
    home.chmod(0o711)  # the server's own user has to pass through
    settings = Settings(database_url=None, home=home)
    try:
        with runtime.database(settings) as db:
            activity.heartbeat(db, "here", "salesforce")
            again = runtime.open_database(settings)
            assert activity.relay_alive(again, "salesforce"), "the same running server"
            again.close()
        with pytest.raises(ConfigurationError):
            runtime.open_database(settings)
    finally:
        data = EmbeddedPostgres(home).data
        shutil.rmtree(home, ignore_errors=True)
        if data is not None:
            shutil.rmtree(data, ignore_errors=True)


def test_objects_are_described_once_and_then_known(
    settings: Settings, db: Database, spec: ConnectionSpec, sandbox: Sandbox
) -> None:
    first = runtime.open_connection(settings, db, spec, "events")
    assert set(first.objects) == {"account", "contact"}
    assert catalog.read_snapshot(settings.home, "salesforce") == first.objects
    first.close()
    sandbox.reset_calls()
    second = runtime.open_connection(settings, db, spec, "events")
    assert second.objects == first.objects and sandbox.calls()["total"] == 0
    second.close()


def test_refresh_sees_a_new_field(settings: Settings, db: Database, spec: ConnectionSpec, sandbox: Sandbox) -> None:
    before = runtime.open_connection(settings, db, spec, "events")
    sandbox.schema("Contact", "add", "Nickname__c", type="string")
    after = runtime.refresh(before)
    assert "Nickname__c" not in before.objects["contact"].by_name
    assert "Nickname__c" in after.objects["contact"].by_name
    assert catalog.read_snapshot(settings.home, "salesforce") == after.objects
    after.close()


def test_an_object_that_is_no_longer_configured_is_left_alone(
    settings: Settings, db: Database, spec: ConnectionSpec
) -> None:
    runtime.open_connection(settings, db, spec, "events").close()
    fewer = spec.model_copy(update={"objects": {"Contact": spec.objects["Contact"]}})
    connection = runtime.open_connection(settings, db, fewer, "events")
    assert set(connection.objects) == {"contact"} and set(catalog.load(db, "salesforce")) == {"account", "contact"}
    connection.close()


def test_a_wrong_object_does_not_keep_the_others_from_working(
    settings: Settings, db: Database, spec: ConnectionSpec, caplog: pytest.LogCaptureFixture
) -> None:
    wrong = {"Nonsense__c": ObjectSpec(), "Lead": ObjectSpec(external_id="No_Such_Field__c")}
    mixed = spec.model_copy(update={"objects": {**wrong, **spec.objects}})
    with caplog.at_level(logging.WARNING):
        connection = runtime.open_connection(settings, db, mixed, "events")
    connection.close()
    assert set(connection.objects) == {"account", "contact"}
    assert "Nonsense__c" in caplog.text and "No_Such_Field__c" in caplog.text
    only_wrong = spec.model_copy(update={"objects": {"Lead": wrong["Lead"]}})
    with pytest.raises(ConfigurationError, match="No_Such_Field__c"):
        runtime.open_connection(settings, db, only_wrong, "events")
