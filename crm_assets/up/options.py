"""What ``crm-assets up`` was asked for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

DAGSTER_PORT = 3000
SANDBOX_PORT = 8700
RELAY_PORT = 8701
GRPC_PORT = 8702
ROWS = 2000


@dataclass(frozen=True)
class Options:
    """The options by name. A port of 0 takes a free one."""

    once: bool = False
    relay: bool = True
    seed_dir: Path | None = None
    rows: int = ROWS
    dagster_port: int = DAGSTER_PORT
    sandbox_port: int = SANDBOX_PORT
    relay_port: int = RELAY_PORT
    grpc_port: int = 0
