"""One sandbox and one database per test process: each test works on records of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from crm_assets.store.database import Database
from crm_assets.store.embedded import EmbeddedPostgres
from crm_assets_tests.plugins.linked import CREDENTIALS, Link, connection_spec
from crm_assets_tests.plugins.postgres import new_database
from crm_assets_tests.plugins.sandbox import _make


@pytest.fixture(scope="session")
def shared(postgres: EmbeddedPostgres, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Link]:
    """Accounts, contacts and leads, read once."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch, new_database(postgres) as url:
        for variable in CREDENTIALS.values():
            patch.setenv(variable, "sandbox")
        for make in _make():
            sandbox = make(rows=60)
            db = Database(url)
            link = Link(sandbox, db, home, connection_spec(sandbox.url, ("Account", "Contact", "Lead")))
            for table in link.connection.objects:
                link.sync(table)
            yield link
            link.connection.close()
            db.close()


@pytest.fixture
def link(shared: Link) -> Iterator[Link]:
    """The shared link; what a test ordered ends with it."""
    yield shared
    shared.sandbox.clear_faults()
    shared.sandbox.limits(daily_calls=24_000)


@pytest.fixture
def writer(postgres: EmbeddedPostgres, shared: Link) -> str:
    """The shared database as the product sees it."""
    return postgres.url("writer", shared.db.url.rpartition("/")[2])
