"""Processes as the kernel knows them: who is who, although numbers are used again."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

MARK = "CRM_ASSETS_UP"
"""Environment variable of all children, grandchildren included: the home directory that they work for."""


def start_time(pid: int) -> str | None:
    """When the process started, in the kernel's own unit; with the number it names a process for good."""
    try:
        # The name in the second field may hold blanks and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        return None if fields[0] == "Z" else fields[19]
    except (OSError, IndexError):
        pass
    if Path("/proc/self/stat").exists():
        return None
    found = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return found.stdout.strip() or None


def group(pgid: int, home: Path) -> list[int]:
    """Living members of a process group that carry our mark for this home."""
    mark = f"{MARK}={home}".encode()
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        pid = int(entry.name)
        with contextlib.suppress(OSError):
            if os.getpgid(pid) == pgid and start_time(pid) and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.append(pid)
    return found


def signal_group(pgid: int, number: signal.Signals) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pgid, number)


def stop_group(pgid: int, home: Path, seconds: float) -> None:
    """End what is left of a group: asked first, taken away after ``seconds``."""
    if not group(pgid, home):
        return
    signal_group(pgid, signal.SIGTERM)
    if not wait_until(lambda: not group(pgid, home), seconds):
        signal_group(pgid, signal.SIGKILL)
        wait_until(lambda: not group(pgid, home), 5)


def wait_until(condition: Callable[[], bool], seconds: float) -> bool:
    """Whether the condition came true in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True
