"""Where Dagster's processes find their instance, their workspace and their own database."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

import psycopg
import yaml
from psycopg import sql
from sqlalchemy import make_url

from crm_assets.settings import Settings
from crm_assets.store.database import plain_url
from crm_assets.store.embedded import EmbeddedPostgres

PG_URL = "CRM_ASSETS_DAGSTER_PG_URL"
DATABASE = "dagster"

_STORAGE = """
storage:
  postgres:
    postgres_url:
      env: CRM_ASSETS_DAGSTER_PG_URL
"""
_INSTANCE = """run_queue:
  dequeue_interval_seconds: 1
  max_concurrent_runs: 10
run_monitoring:
  enabled: true
telemetry:
  enabled: false
nux:
  enabled: false
"""
_WORKSPACE = """load_from:
  - python_module:
      module_name: crm_assets.definitions
      location_name: crm_assets
"""
"""Both for an installed package, which has no checkout around it."""


@dataclass(frozen=True)
class DagsterHome:
    directory: Path
    workspace: Path
    cwd: Path
    pg_url: str

    @property
    def environment(self) -> dict[str, str]:
        return {"DAGSTER_HOME": str(self.directory), PG_URL: self.pg_url}


def prepare(settings: Settings, server: EmbeddedPostgres | None) -> DagsterHome:
    """Make DAGSTER_HOME and the database ready. A dagster.yaml in the user's own DAGSTER_HOME is left as it is."""
    checkout = Path(__file__).parents[2]
    directory = (settings.dagster_home or settings.home / "dagster").absolute()
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    instance = directory / "dagster.yaml"
    if settings.dagster_home is None or not instance.exists():
        _put(checkout / "dagster.yaml", instance, _INSTANCE)
        if "storage" not in yaml.safe_load(instance.read_text(encoding="utf-8")):
            with instance.open("a", encoding="utf-8") as file:
                file.write(_STORAGE)
    workspace = checkout / "workspace.yaml"
    if not workspace.exists():
        workspace = directory / "workspace.yaml"
        _put(checkout / "workspace.yaml", workspace, _WORKSPACE)
    return DagsterHome(directory, workspace, workspace.parent, os.environ.get(PG_URL) or _pg_url(settings, server))


def _put(source: Path, target: Path, fallback: str) -> None:
    if source.exists():
        shutil.copyfile(source, target)
    else:
        target.write_text(fallback, encoding="utf-8")


def _pg_url(settings: Settings, server: EmbeddedPostgres | None) -> str:
    """The database ``dagster`` beside ours; on a server that allows no new database, ours."""
    if server is not None:
        return _with_driver(server.url("owner", DATABASE))
    assert settings.database_url is not None
    ours = make_url(plain_url(settings.database_url))
    beside = ours.set(database=DATABASE)
    try:
        with psycopg.connect(ours.render_as_string(hide_password=False), autocommit=True) as conn:
            row = conn.execute("SELECT count(*) FROM pg_database WHERE datname = %s", (DATABASE,)).fetchone()
            if row == (0,):
                conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
        with psycopg.connect(beside.render_as_string(hide_password=False)) as conn:
            conn.execute("CREATE TABLE _crm_assets_may_create (x int)")
            conn.rollback()
    except psycopg.Error:
        beside = ours
    return _with_driver(beside.render_as_string(hide_password=False))


def _with_driver(url: str) -> str:
    """SQLAlchemy's default driver is another one than the one that Dagster's storage needs."""
    return "postgresql+psycopg2://" + plain_url(url).partition("://")[2]
