"""Names that users meet in the Dagster UI. They are a promise: a test holds them."""

from __future__ import annotations

import dagster as dg


def api_key(connection: str, table: str) -> dg.AssetKey:
    """The object in the CRM."""
    return dg.AssetKey([f"{connection}_api", table])


def mirror_key(connection: str, table: str) -> dg.AssetKey:
    """The table in Postgres."""
    return dg.AssetKey([connection, table])


def writeback_key(connection: str, table: str) -> dg.AssetKey:
    """The product's changes, back in the CRM."""
    return dg.AssetKey([f"{connection}_writeback", table])
