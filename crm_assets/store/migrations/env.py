"""Alembic's entry: runs the migrations on the connection that ``upgrade`` holds."""

from __future__ import annotations

from alembic import context

connection = context.config.attributes["connection"]
context.configure(connection=connection, version_table_schema="crm_assets", transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
