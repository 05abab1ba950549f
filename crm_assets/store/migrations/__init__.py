"""Alembic migrations of the control schema ``crm_assets`` and of the three roles."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import create_engine, text
from sqlalchemy.exc import ProgrammingError

from crm_assets.core.errors import ConfigurationError
from crm_assets.store.database import plain_url

_OLDEST_SERVER = 140000
_SET_IS_A_RIGHT = 160000
"""Before, every member of a role may act as it."""


def upgrade(url: str) -> None:
    """Bring the database at ``url`` to this version; idempotent and safe to call from several processes at once.

    Raises ConfigurationError for an older server, or when the roles cannot be made with the rights of ``url``.
    """
    engine = create_engine(plain_url(url).replace("postgresql://", "postgresql+psycopg://", 1))
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    try:
        with engine.connect() as connection:
            version = int(connection.scalar(text("SHOW server_version_num")) or 0)
            if version < _OLDEST_SERVER:
                raise ConfigurationError(
                    f"the database server is PostgreSQL {version // 10000}; crm_assets needs "
                    f"{_OLDEST_SERVER // 10000} or newer (CRM_ASSETS_DATABASE_URL)"
                )
            # One migration at a time per database; held by the session, so a killed process frees it.
            connection.execute(text("SELECT pg_advisory_lock(hashtext('crm_assets.migrations'))"))
            try:
                _ensure_roles(connection, version)
                connection.execute(text("CREATE SCHEMA IF NOT EXISTS crm_assets"))
                connection.commit()
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
                connection.commit()
            finally:
                connection.rollback()
                connection.execute(text("SELECT pg_advisory_unlock(hashtext('crm_assets.migrations'))"))
                connection.commit()
    finally:
        engine.dispose()


def _ensure_roles(connection: object, version: int) -> None:
    from sqlalchemy.engine import Connection

    assert isinstance(connection, Connection)
    roles = ("crm_assets_reader", "crm_assets_writer", "crm_assets_sync")
    present = set(connection.scalars(text("SELECT rolname FROM pg_roles WHERE rolname LIKE 'crm_assets_%'")))
    missing = [role for role in roles if role not in present]
    statements = [f"CREATE ROLE {role} NOLOGIN" for role in missing]
    right, option = ("SET", " WITH SET TRUE") if version >= _SET_IS_A_RIGHT else ("MEMBER", "")
    can_set = connection.scalar(
        text("SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = 'crm_assets_sync')")
    ) and connection.scalar(text(f"SELECT pg_has_role(current_user, 'crm_assets_sync', '{right}')"))
    if not can_set:
        statements.append(f"GRANT crm_assets_sync TO CURRENT_USER{option}")
    try:
        for line in statements:
            connection.execute(text(line))
    except ProgrammingError as error:
        connection.rollback()
        remedy = "; ".join(statements)
        raise ConfigurationError(
            f"the database user may not create the roles of crm_assets; run as an administrator: {remedy};"
        ) from error
    connection.commit()
