"""The store's fixtures: a fresh database with one mirror each."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import psycopg
import pytest
from psycopg import sql

from crm_assets.core.model import Object
from crm_assets.store import ddl
from crm_assets.store.database import Database
from crm_assets.store.worker import Worker
from crm_assets_tests.plugins.postgres import *  # noqa: F403  (the fixtures and what they are made of)
from crm_assets_tests.store.kit import CONNECTION, CONTACT, Mirror

MakeMirror = Callable[..., Mirror]


@pytest.fixture
def make_mirror(database_url: str, writer_url: str) -> Iterator[MakeMirror]:
    """Mirrors of one database. What waits for a lock for 20 s fails instead of hanging."""
    with psycopg.connect(database_url) as conn:
        conn.execute(
            sql.SQL("ALTER DATABASE {} SET statement_timeout = '20s'").format(sql.Identifier(conn.info.dbname))
        )
    made: list[Mirror] = []

    def make(obj: Object = CONTACT, *, write: bool = True) -> Mirror:
        db = Database(database_url)
        ddl.ensure_object(db, CONNECTION, obj, write=write)
        made.append(Mirror(db, writer_url, obj))
        return made[-1]

    yield make
    for mirror in made:
        for session in mirror.sessions:
            session.close()
        mirror.db.close()


@pytest.fixture
def mirror(make_mirror: MakeMirror) -> Mirror:
    """``salesforce.contact``: writable, with an external id."""
    return make_mirror()


@pytest.fixture
def worker(database_url: str) -> Iterator[Worker]:
    with Worker(database_url) as one:
        yield one
