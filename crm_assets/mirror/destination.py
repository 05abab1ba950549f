"""dlt's Postgres destination, resolved once for a process.

In one run dlt asks its destination some twenty times what it can do and how it is configured, and each time looks
through all its providers of configuration: a third of what a small window costs it. Ours is configured by its
arguments alone, so that the answers do not change.
"""

from __future__ import annotations

from functools import lru_cache

from dlt.common.destination import DestinationCapabilitiesContext
from dlt.common.normalizers.naming import NamingConvention
from dlt.destinations.impl.postgres.configuration import PostgresClientConfiguration
from dlt.destinations.impl.postgres.factory import postgres


class ResolvedPostgres(postgres):  # type: ignore[misc]  # dlt is not followed by mypy
    """Asks the configuration nothing that it knows."""

    def __init__(self, url: str) -> None:
        super().__init__(credentials=url, destination_name="postgres")
        self._known: dict[str | None, DestinationCapabilitiesContext] = {}

    def capabilities(
        self, config: PostgresClientConfiguration | None = None, naming: NamingConvention | None = None
    ) -> DestinationCapabilitiesContext:
        name = naming.name() if naming else None
        if name not in self._known:
            self._known[name] = super().capabilities(config, naming)
        # A run writes what it chose into them.
        return self._known[name].copy()

    def configuration(
        self, initial_config: PostgresClientConfiguration, accept_partial: bool = False
    ) -> PostgresClientConfiguration:
        if initial_config.is_resolved():
            return initial_config
        return super().configuration(initial_config, accept_partial)


@lru_cache(maxsize=8)
def destination(url: str) -> ResolvedPostgres:
    """The destination for a database URL."""
    return ResolvedPostgres(url)
