"""``crm-assets check``: what can be known without asking the CRM; with a connection's name, what the CRM says."""

from __future__ import annotations

from rich.console import Console

from crm_assets.connections import ConnectionSpec, load_connections
from crm_assets.connectors import registry
from crm_assets.core.errors import ConfigurationError
from crm_assets.core.readiness import Finding, Standing
from crm_assets.settings import Settings
from crm_assets.store import embedded
from crm_assets.up import working
from crm_assets.up.account import look
from crm_assets.up.addresses import ensure_reachable

OPTIONAL = frozenset({"webhook_secret"})
"""Credentials without which only a part is out of work."""


def check() -> int:
    """Print what was looked at. ConfigurationError with the first thing that a person has to change."""
    out = Console(highlight=False, soft_wrap=True)
    settings = working.settings()
    specs = configured(settings)
    for name, spec in specs.items():
        out.print(f"connection {name}: {len(spec.objects)} objects of {spec.connector} at {spec.url}")
        for missing in absent(spec):
            out.print(f"  {spec.credentials[missing]} is not set: webhooks are refused, schedules work")
        for table, obj in spec.tables().items():
            # Associations are named by their ends: made twice they are one.
            if obj.write and obj.external_id is None and "_to_" not in table:
                out.print(
                    f"  {table}: without external_id a create is sent at most once and may stay `unknown`; "
                    "where the CRM allows it, add a unique external-id text field of 36 characters and name it in "
                    "defs.yaml"
                )
    if settings.database_url:
        ensure_reachable(settings.database_url)
        out.print("database: reachable (CRM_ASSETS_DATABASE_URL)")
    else:
        running = embedded.running_url(settings.home) is not None
        out.print("database: embedded, " + ("running" if running else "starts with `crm-assets up`"))
    out.print("ok")
    return 0


def account(name: str) -> int:
    """Look at a connection's account and print what was found; 1 if something has to be fixed there.

    Its few calls are counted like all others, which takes the database.
    """
    from crm_assets import runtime
    from crm_assets.quota.state import usage
    from crm_assets.up.work import named

    out = Console(highlight=False, soft_wrap=True)
    with working.prepared() as (settings, db):
        spec = named(configured(settings), name)
        connector = runtime.open_connector(db, spec, "incremental")
        try:
            found = list(look(connector, spec))
        finally:
            runtime.close_connector(connector)
        with db.transaction() as conn:
            budgets = usage(conn, name)
    found += [
        Finding(Standing.NOTE if one.out else Standing.OK, one.name, f"{one.used:,} of {one.limit:,} used")
        for one in budgets
    ]
    for finding in found:
        out.print(f"{finding.standing:<4}  {finding.about}: {finding.said}")
        if finding.remedy:
            out.print(f"      {finding.remedy}")
    for missing in absent(spec):
        out.print(f"note  push: {spec.credentials[missing]} is not set: webhooks are refused, schedules work")
    return 1 if any(finding.standing is Standing.FIX for finding in found) else 0


def configured(settings: Settings) -> dict[str, ConnectionSpec]:
    """The connections with everything they cannot work without; ConfigurationError names what is missing."""
    if not settings.defs.is_dir():
        raise ConfigurationError(f"CRM_ASSETS_DEFS: {settings.defs} is no directory")
    specs = load_connections(settings.defs)
    if not specs:
        raise ConfigurationError(f"no connection is defined below {settings.defs}; add <name>/defs.yaml there")
    for spec in specs.values():
        if spec.connector not in registry.names():
            raise ConfigurationError(
                f"connection {spec.connection}: there is no connector {spec.connector!r}; "
                f"installed: {', '.join(registry.names())}"
            )
        config = spec.config()
        for name in spec.credentials:
            if name not in OPTIONAL:
                config.secret(name)
    return specs


def absent(spec: ConnectionSpec) -> list[str]:
    """Optional credentials that defs.yaml names and the environment does not have."""
    config = spec.config()
    found = []
    for name in spec.credentials:
        try:
            config.secret(name)
        except ConfigurationError:
            found.append(name)
    return found
