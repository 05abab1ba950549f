"""Connectors by name, found through the entry-point group ``crm_assets.connectors``."""

from __future__ import annotations

from importlib.metadata import entry_points

from crm_assets.connectors.base import ConnectionConfig, Connector, ConnectorFactory, Gate
from crm_assets.core.errors import ConfigurationError

GROUP = "crm_assets.connectors"


def names() -> list[str]:
    """Names of all installed connectors."""
    return sorted({entry.name for entry in entry_points(group=GROUP)})


def make(config: ConnectionConfig, gate: Gate) -> Connector:
    """The connector of a connection. ConfigurationError lists the known ones if it is not installed."""
    for entry in entry_points(group=GROUP):
        if entry.name == config.connector:
            factory: ConnectorFactory = entry.load()
            return factory(config, gate)
    raise ConfigurationError(
        f"connection {config.name}: there is no connector {config.connector!r}; installed: {', '.join(names())}"
    )
