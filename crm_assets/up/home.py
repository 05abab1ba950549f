"""The home directory of a running set-up: who runs in it, and where its parts can be found."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from crm_assets.core.errors import ConfigurationError
from crm_assets.up import proc

PRIVATE = ("logs", "run", "sandbox", "dagster", "dlt", "describe")


@dataclass(frozen=True)
class Running:
    """The ``up`` of a home, as others find it in ``{home}/run.json``."""

    pid: int
    start_time: str | None
    sandbox: str | None
    dagster: str | None
    relay: str | None
    pubsub: str | None = None

    def alive(self) -> bool:
        return self.start_time is not None and proc.start_time(self.pid) == self.start_time


def prepare(home: Path) -> None:
    """Make the directories. Root's home may be passed through, for the server's own user; its contents stay closed."""
    home.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
    for name in PRIVATE:
        (home / name).mkdir(exist_ok=True, mode=0o700)


@contextmanager
def only_one(home: Path) -> Iterator[None]:
    """The right to be the ``up`` of this home. ConfigurationError while another one runs.

    Held by the open file: however this process ends, the right ends with it.
    """
    with (home / ".up.lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            other = find(home)
            who = f" (process {other.pid})" if other else ""
            raise ConfigurationError(
                f"`crm-assets up` runs already for {home}{who}; stop it first, or set CRM_ASSETS_HOME to another place"
            ) from error
        try:
            yield
        finally:
            (home / "run.json").unlink(missing_ok=True)


def announce(home: Path, sandbox: str | None, dagster: str | None, relay: str | None, pubsub: str | None) -> None:
    """Let other commands find the parts of this process."""
    running = Running(os.getpid(), proc.start_time(os.getpid()), sandbox, dagster, relay, pubsub)
    half = home / "run.json.new"
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        json.dump(asdict(running), file)
    half.replace(home / "run.json")


def find(home: Path) -> Running | None:
    """The living ``up`` of this home."""
    try:
        running = Running(**json.loads((home / "run.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    return running if running.alive() else None
