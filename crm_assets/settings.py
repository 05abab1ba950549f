"""Settings: the environment, read once, typed."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    """``CRM_ASSETS_*`` environment variables. Vendor credentials are not here: defs.yaml names their variables."""

    model_config = SettingsConfigDict(env_prefix="CRM_ASSETS_", frozen=True, extra="ignore")

    database_url: str | None = None
    """Any PostgreSQL from 14 on, by URL; absent: the embedded server."""
    direct_database_url: str | None = None
    """For LISTEN and session locks, where ``database_url`` goes through a pooler."""
    home: Path = Field(default_factory=lambda: Path.cwd() / ".crm_assets")
    """Data directory: embedded Postgres, sandbox, logs, snapshots."""
    defs: Path = Path(__file__).parent / "defs"
    """Folder with one folder per connection, each with its defs.yaml."""
    audit_days: int = Field(default=90, ge=1)
    """How long the changes of both sides stay in ``crm_assets.audit``."""
    alert_url: str | None = None
    """Where alerts are posted as ``{"text": …}``, such as a chat system's incoming webhook."""
    dagster_home: Path | None = Field(default=None, validation_alias="DAGSTER_HOME")
