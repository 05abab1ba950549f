"""Which URL is told for whom, and where Dagster keeps its own tables."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from crm_assets.core.errors import ConfigurationError
from crm_assets.settings import Settings
from crm_assets.up import addresses, dagster_home

ROLE = "acting_for_test"


@pytest.fixture
def role(database_url: str) -> Iterator[str]:
    """A role without a login, as the writer is on a server of the user's own."""
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"CREATE ROLE {ROLE} NOLOGIN")
        yield ROLE
        conn.execute(f"DROP ROLE {ROLE}")


def test_the_configured_user_acts_as_the_role_if_it_may(database_url: str, role: str) -> None:
    with pytest.raises(ConfigurationError, match=f"GRANT {role} TO"):
        addresses.as_role(database_url, role)
    with psycopg.connect(database_url, autocommit=True) as conn:
        conn.execute(f"GRANT {role} TO CURRENT_USER WITH SET TRUE, INHERIT FALSE")
    found = addresses.as_role(database_url, role)
    assert found.note is not None and f"GRANT {role} TO" in found.note
    with psycopg.connect(found.url) as conn:
        assert conn.execute("SELECT current_user").fetchone() == (role,)


def test_a_database_that_was_never_set_up_says_so(database_url: str) -> None:
    with pytest.raises(ConfigurationError, match="crm-assets up"):
        addresses.as_role(database_url, "nobody_made_this_role")


def test_dagster_gets_a_database_beside_ours(database_url: str, home: Path) -> None:
    found = dagster_home.prepare(Settings(database_url=database_url, home=home), None)
    assert found.pg_url.startswith("postgresql+psycopg2://") and found.pg_url.endswith("/dagster")
    assert (found.directory / "dagster.yaml").exists() and found.workspace.exists()
    assert found.environment["DAGSTER_HOME"] == str(home / "dagster")


def test_dagster_shares_ours_where_it_may_not_have_its_own(writer_url: str, home: Path) -> None:
    found = dagster_home.prepare(Settings(database_url=writer_url, home=home), None)
    assert found.pg_url == writer_url.replace("postgresql://", "postgresql+psycopg2://")


def test_an_instance_of_the_users_own_is_left_as_it_is(
    database_url: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (home / "mine").mkdir()
    (home / "mine" / "dagster.yaml").write_text("telemetry: {enabled: false}\n", encoding="utf-8")
    monkeypatch.setenv("DAGSTER_HOME", str(home / "mine"))
    found = dagster_home.prepare(Settings(database_url=database_url, home=home), None)
    assert found.directory == home / "mine"
    assert (home / "mine" / "dagster.yaml").read_text(encoding="utf-8") == "telemetry: {enabled: false}\n"
