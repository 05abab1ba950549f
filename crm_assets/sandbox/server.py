"""Runs the sandbox until it is told to stop."""

from __future__ import annotations

import logging
import signal
import socket
import sys
import threading
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from types import FrameType
from urllib.parse import urlsplit

import uvicorn

from .app import House
from .push import Target
from .room import VENDORS, Opening, open_rooms

log = logging.getLogger(__name__)
HOST = "127.0.0.1"
DEFAULT_ROWS = 2000
WORD = "sandbox"


class _Server(uvicorn.Server):
    """Says when it is ready, and lets go of held calls when it stops."""

    def __init__(self, config: uvicorn.Config, house: House) -> None:
        super().__init__(config)
        self._house = house

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if sockets and not self.should_exit:
            lines = [f"sandbox listening on http://{HOST}:{sockets[0].getsockname()[1]}"]
            lines += [f"sandbox {what} on {where}" for what, where in self._house.addresses().items()]
            print("\n".join(lines), flush=True)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._house.release()


def serve(
    data_dir: Path,
    port: int = 8700,
    seed_dir: Path | None = None,
    rows: int = DEFAULT_ROWS,
    push: Sequence[str] = (),
    session_seconds: float = 7200.0,
    vendors: Collection[str] = VENDORS,
    grpc_port: int | None = None,
    keep_alive_seconds: float = 270.0,
) -> int:
    """Serves on this machine only; returns the exit code. Port 0 takes a free one; no gRPC without ``grpc_port``."""
    try:
        listener = _bind(port)
    except OSError as failed:
        print(f"sandbox: port {port} cannot be used: {failed.strerror}", file=sys.stderr)
        return 2
    if seed_dir is not None:
        if not seed_dir.is_dir():
            print(f"sandbox: --seed-dir {seed_dir} is no folder", file=sys.stderr)
            return 2
        other = sorted(path.name for path in seed_dir.iterdir() if path.is_dir() and path.name not in vendors)
        if other:
            log.info("seed folders not used: %s", ", ".join(other))
    try:
        targets = push_targets(push, vendors)
        opening = Opening(data_dir, seed_dir, rows, session_seconds, grpc_port, keep_alive_seconds)
        rooms = open_rooms(vendors, opening)
    except ValueError as failed:
        print(f"sandbox: {failed}", file=sys.stderr)
        return 2
    except OSError as failed:
        print(f"sandbox: {failed.strerror}", file=sys.stderr)
        return 2
    house = House(rooms, targets)
    config = uvicorn.Config(
        house.app,
        log_level="critical",
        access_log=False,
        ws="none",
        timeout_keep_alive=75,
        timeout_graceful_shutdown=3,
        lifespan="on",
        backlog=512,
    )
    if threading.current_thread() is threading.main_thread():
        # uvicorn raises the signal again once it has stopped; a stop that was asked for is no failure.
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, lambda *_: None)
    _Server(config, house).run(sockets=[listener])
    return 0


def push_targets(given: Iterable[str], vendors: Collection[str]) -> dict[str, list[Target]]:
    """Who is told of what: ``vendor=URL``, or a URL whose last segment is the vendor's name; ValueError otherwise."""
    targets: dict[str, list[Target]] = {}
    for one in given:
        head, equals, tail = one.partition("=")
        name, url = (head, tail) if equals and head.isidentifier() else (urlsplit(one).path.rpartition("/")[2], one)
        if name not in vendors:
            raise ValueError(f"--push {one}: give it as VENDOR=URL, the vendor one of {', '.join(vendors)}")
        targets.setdefault(name, []).append(Target(url, WORD))
    return targets


def _bind(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((HOST, port))
    except OSError:
        listener.close()
        raise
    return listener
