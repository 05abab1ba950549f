"""Where the database is, for a person and for a product."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import quote

import psycopg
from psycopg import conninfo

from crm_assets.core.errors import ConfigurationError
from crm_assets.settings import Settings
from crm_assets.store import embedded
from crm_assets.store.database import plain_url
from crm_assets.up.failures import reason

ROLES = ("writer", "reader", "owner")


@dataclass(frozen=True)
class Address:
    """A URL, and what should be known about it."""

    url: str
    note: str | None = None


def database_url(settings: Settings, role: str) -> Address:
    """The URL for a role of the running set-up. ConfigurationError when nothing runs, or the role cannot be taken."""
    if role not in ROLES:
        raise ConfigurationError(f"there is no role {role!r}; choose one of {', '.join(ROLES)}")
    if settings.database_url is None:
        server = embedded.EmbeddedPostgres(settings.home)
        if not server.running():
            raise ConfigurationError("nothing is running; start it with `crm-assets up`")
        return Address(server.url(role))
    url = plain_url(settings.database_url)
    return Address(url) if role == "owner" else as_role(url, f"crm_assets_{role}")


def ensure_reachable(url: str) -> None:
    """ConfigurationError in one line, with the server but never the password, if the database cannot be reached."""
    _connect(url).close()


def as_role(url: str, role: str) -> Address:
    """The URL that logs in as the configured user and acts as ``role``, if that user may.

    On a server of the user's own our roles have no login, so that no password of ours lies about there.
    """
    with _connect(url) as conn:
        row = conn.execute(
            "SELECT CASE WHEN to_regrole(%(r)s) IS NULL THEN NULL "
            "ELSE pg_has_role(current_user, to_regrole(%(r)s), 'SET') END, current_user",
            {"r": role},
        ).fetchone()
        assert row is not None
        may, user = row
        if may is None:
            raise ConfigurationError(f"the database has no role {role} yet; run `crm-assets up` first")
        grant = f"GRANT {role} TO <user of your product>"
        if not may:
            raise ConfigurationError(
                f"{user} may not act as {role}, which has no login of its own; give it to a user that has one: {grant}"
            )
    joined = "&" if "?" in url else "?"
    options = quote(f"-c role={role}", safe="")
    return Address(
        f"{url}{joined}options={options}",
        f"This logs in as {user} and acts as {role}. For production: {grant}",
    )


def _connect(url: str) -> psycopg.Connection[tuple[object, ...]]:
    plain = plain_url(url)
    try:
        return psycopg.connect(plain, connect_timeout=5, application_name="crm_assets")
    except psycopg.ProgrammingError as error:
        raise ConfigurationError(f"CRM_ASSETS_DATABASE_URL cannot be read: {reason(error)}") from error
    except psycopg.OperationalError as error:
        raise ConfigurationError(
            f"{_place(plain)} cannot be reached (CRM_ASSETS_DATABASE_URL): {_short(error)}"
        ) from error


def _place(url: str) -> str:
    parts = conninfo.conninfo_to_dict(url)
    where = f"{parts.get('host') or 'localhost'}:{parts.get('port') or 5432}"
    return f"Postgres at {where}, database {parts.get('dbname') or parts.get('user') or 'default'}"


def _short(error: psycopg.Error) -> str:
    """libpq says where it tried before it says what happened; the first is in our own words already."""
    return reason(error).rpartition("failed: ")[2]
