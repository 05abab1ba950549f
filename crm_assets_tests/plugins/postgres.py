"""A real Postgres for the tests: one server per test process, one template database, a clone of it per test."""

from __future__ import annotations

import itertools
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from crm_assets.store import migrations
from crm_assets.store.database import Database
from crm_assets.store.embedded import EmbeddedPostgres

_numbers = itertools.count(1)

QUICK = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off", "max_connections": "200"}
"""Nothing in a test outlives its machine, so nothing has to reach the disk."""


def new_home() -> Path:
    """A directory for a server, which runs as a user of its own where root starts it."""
    home = Path(tempfile.mkdtemp(prefix="crm-assets-pg-"))
    home.chmod(0o711)
    return home


@pytest.fixture(scope="session")
def postgres() -> Iterator[EmbeddedPostgres]:
    """The server of this test process, with a migrated template. Stops with the process, however that ends."""
    home = new_home()
    server = EmbeddedPostgres(home, settings=QUICK)
    try:
        server.start()
        migrations.upgrade(server.url())
        yield server
    finally:
        data = server.data
        server.stop()
        shutil.rmtree(home, ignore_errors=True)
        if data is not None:
            shutil.rmtree(data, ignore_errors=True)


@contextmanager
def new_database(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The owner's URL of a fresh, migrated database that is dropped afterwards."""
    name = f"test_{next(_numbers)}"
    admin = postgres.url("owner", "postgres")
    with psycopg.connect(admin, autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {} TEMPLATE crm_assets").format(sql.Identifier(name)))
    yield postgres.url("owner", name)
    # A session of the product that a test left open is not the owner's to end.
    with psycopg.connect(postgres.url("superuser", "postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture
def database_url(postgres: EmbeddedPostgres) -> Iterator[str]:
    with new_database(postgres) as url:
        yield url


@pytest.fixture
def writer_url(postgres: EmbeddedPostgres, database_url: str) -> str:
    """The same database as the product sees it."""
    return postgres.url("writer", database_url.rpartition("/")[2])


@pytest.fixture
def reader_url(postgres: EmbeddedPostgres, database_url: str) -> str:
    return postgres.url("reader", database_url.rpartition("/")[2])


@pytest.fixture
def db(database_url: str) -> Iterator[Database]:
    database = Database(database_url)
    yield database
    database.close()


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A data directory of its own."""
    directory = tmp_path / "home"
    directory.mkdir()
    return directory
