"""One child process: how it is started, watched, and stopped with everything it started itself."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from crm_assets.up import proc

RUN = "run"
_SOON = 10.0
"""A child that ended sooner than this after its start crashes again at once; starting it anew takes a pause."""
_LONGEST_PAUSE = 60.0


@dataclass(frozen=True)
class Plan:
    """What to run. ``ready`` says whether it does its work; ``grace`` is how long it may take to stop."""

    name: str
    command: list[str]
    environment: Mapping[str, str]
    cwd: Path
    ready: Callable[[], bool]
    grace: float = 15.0


@dataclass
class Child:
    """A running (or to be restarted) plan. Its process leads a group and a session of its own."""

    plan: Plan
    home: Path
    restarts: int = 0
    next_start: float = 0.0
    _pause: float = 0.0
    _started: float = 0.0
    _process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    @property
    def log(self) -> Path:
        return self.home / "logs" / f"{self.plan.name}.log"

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start it. Only from the main thread; see ``launch``."""
        environment = {**os.environ, **self.plan.environment, proc.MARK: str(self.home)}
        command = [sys.executable, "-m", "crm_assets.up.launch", str(os.getpid()), *self.plan.command]
        with os.fdopen(os.open(self.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd=self.plan.cwd,
                env=environment,
                # A Ctrl-C in the terminal is for us to handle, in our order.
                start_new_session=True,
                umask=0o077,
            )
        self._started = time.monotonic()
        record = {"pid": self._process.pid, "start_time": proc.start_time(self._process.pid)}
        _write(self._record, json.dumps(record))

    def ended(self) -> int | None:
        """The exit code if it has ended by itself."""
        return self._process.poll() if self._process else None

    def bury(self) -> float:
        """After its end: stop what it left behind and plan the restart. Returns the pause before it."""
        assert self._process is not None
        # What it started would hold its port or do its work a second time.
        proc.signal_group(self._process.pid, signal.SIGKILL)
        self._process = None
        soon = time.monotonic() - self._started < _SOON
        self._pause = min(max(1.0, self._pause * 2), _LONGEST_PAUSE) if soon else 0.0
        self.next_start = time.monotonic() + self._pause
        self.restarts += 1
        return self._pause

    def waiting(self) -> bool:
        """Whether it is down and its pause is over."""
        return self._process is None and time.monotonic() >= self.next_start

    def ask_to_stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self) -> None:
        """Wait for it to end after ``ask_to_stop``, then end what is left of its group."""
        if self._process is None:
            return
        try:
            self._process.wait(self.plan.grace)
        except subprocess.TimeoutExpired:
            proc.signal_group(self._process.pid, signal.SIGKILL)
            self._process.wait()
        proc.stop_group(self._process.pid, self.home, 3.0)
        self._process = None
        self._record.unlink(missing_ok=True)

    @property
    def _record(self) -> Path:
        return self.home / RUN / f"{self.plan.name}.json"


@dataclass(frozen=True)
class Record:
    """A child as it was written down when it started."""

    path: Path
    pid: int
    start_time: str | None
    home: Path

    def alive(self) -> bool:
        """Whether it, or what it started, still runs. A number may belong to another process by now: the start time,
        or our mark on the group's members, tells."""
        ours = self.start_time is not None and proc.start_time(self.pid) == self.start_time
        return ours or bool(proc.group(self.pid, self.home))


def recorded(home: Path) -> list[Record]:
    """The children written down in a home, whoever started them."""
    found = []
    for path in sorted((home / RUN).glob("*.json")):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
            found.append(Record(path, int(data["pid"]), data["start_time"], home))
        except (OSError, ValueError, KeyError, TypeError):
            path.unlink(missing_ok=True)
    return found


def end(records: list[Record], grace: float) -> list[Record]:
    """Stop what is alive of them, with everything it started; returns those."""
    living = [record for record in records if record.alive()]
    for record in living:
        proc.signal_group(record.pid, signal.SIGTERM)
    proc.wait_until(lambda: not any(record.alive() for record in living), grace)
    for record in living:
        if record.alive():
            proc.signal_group(record.pid, signal.SIGKILL)
    proc.wait_until(lambda: not any(record.alive() for record in living), 5.0)
    return living


def stop_leftovers(home: Path) -> list[str]:
    """Stop the children that a killed ``up`` of this home left behind; returns their names."""
    records = recorded(home)
    living = end(records, 10.0)
    for record in records:
        record.path.unlink(missing_ok=True)
    return [record.path.stem for record in living]


def _write(path: Path, text: str) -> None:
    half = path.with_suffix(".new")
    half.unlink(missing_ok=True)
    with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
        file.write(text)
    half.replace(path)
