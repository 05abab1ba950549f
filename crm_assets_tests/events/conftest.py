"""An object ``desk.contact`` in a fresh database, and the CRM in memory that it mirrors."""

from __future__ import annotations

import pytest

from crm_assets.core.model import Object
from crm_assets.store import ddl
from crm_assets.store.database import Database
from crm_assets_tests.events.desk import Desk, described
from crm_assets_tests.plugins.postgres import database_url, db, postgres, writer_url

__all__ = ["database_url", "db", "postgres", "writer_url"]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.fixture
def contact(db: Database, desk: Desk) -> Object:
    obj = described("contact", "name")
    ddl.ensure_object(db, desk.config.name, obj, write=True)
    return obj
