"""The control schema on a database of the user's own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator

import psycopg
import pytest
from psycopg import sql

from crm_assets.core.errors import ConfigurationError
from crm_assets.store import migrations
from crm_assets.store.embedded import EmbeddedPostgres
from crm_assets.store.status import status
from crm_assets_tests.store.kit import Mirror

_MIGRATE = "import sys; from crm_assets.store import migrations; migrations.upgrade(sys.argv[1])"


def _make(postgres: EmbeddedPostgres, name: str) -> str:
    with psycopg.connect(postgres.url("owner", "postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    return postgres.url("owner", name)


@pytest.fixture
def empty(postgres: EmbeddedPostgres, request: pytest.FixtureRequest) -> Iterator[str]:
    """The owner's URL of a database without anything."""
    name = f"empty_{abs(hash(request.node.name))}"
    yield _make(postgres, name)
    with psycopg.connect(postgres.url("superuser", "postgres"), autocommit=True) as conn:
        conn.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


def _objects(url: str) -> set[tuple[str, str]]:
    with psycopg.connect(url) as conn:
        return {
            (str(kind), str(name))
            for kind, name in conn.execute(
                """SELECT 'relation', relname FROM pg_class WHERE relnamespace = 'crm_assets'::regnamespace
                    UNION SELECT 'function', proname FROM pg_proc WHERE pronamespace = 'crm_assets'::regnamespace"""
            )
        }


def test_migrating_again_changes_nothing(empty: str) -> None:
    migrations.upgrade(empty)
    before = _objects(empty)
    assert ("relation", "outbox") in before and ("function", "resolve") in before
    migrations.upgrade(empty.replace("postgresql://", "postgresql+psycopg://"))
    assert _objects(empty) == before


def test_processes_that_migrate_at_once_do_not_disturb_each_other(empty: str) -> None:
    running = [subprocess.Popen([sys.executable, "-c", _MIGRATE, empty], stderr=subprocess.PIPE) for _ in range(3)]
    for process in running:
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors.decode()
    with psycopg.connect(empty) as conn:
        assert conn.execute("SELECT count(*) FROM crm_assets.alembic_version").fetchone() == (1,)
        # The lock of the migration is gone with it.
        assert conn.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'").fetchone() == (0,)


def test_a_user_without_the_right_is_told_what_to_ask_for(empty: str, postgres: EmbeddedPostgres) -> None:
    name = empty.rpartition("/")[2]
    with psycopg.connect(postgres.url("superuser", "postgres"), autocommit=True) as admin:
        admin.execute(sql.SQL("DROP ROLE IF EXISTS somebody"))
        admin.execute("CREATE ROLE somebody LOGIN PASSWORD 'somebody'")
        try:
            admin.execute(sql.SQL("GRANT CREATE ON DATABASE {} TO somebody").format(sql.Identifier(name)))
            host = empty.rpartition("@")[2]
            with pytest.raises(ConfigurationError, match="GRANT crm_assets_sync TO CURRENT_USER WITH SET TRUE"):
                migrations.upgrade(f"postgresql://somebody:somebody@{host}")
        finally:
            admin.execute(sql.SQL("REVOKE ALL ON DATABASE {} FROM somebody").format(sql.Identifier(name)))
            admin.execute("DROP ROLE somebody")


def test_an_empty_set_up_has_a_status(mirror: Mirror) -> None:
    mirror.all("DELETE FROM crm_assets.object")
    assert status(mirror.db) == {"ok": True, "connections": {}}
