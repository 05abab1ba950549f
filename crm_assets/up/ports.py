"""Ports: asked for before anything starts, so that a busy one is one clear line."""

from __future__ import annotations

import socket

from crm_assets.core.errors import ConfigurationError

HOST = "127.0.0.1"


def claim(port: int, user: str, option: str) -> int:
    """The port if it is free on this machine, a free one for 0. ConfigurationError names who wanted it."""
    with socket.socket() as probe:
        # As servers do: what an ended server left in TIME_WAIT is not in use.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise ConfigurationError(
                f"port {port} cannot be used for {user} ({error.strerror}); choose another one with {option}"
            ) from error
        return int(probe.getsockname()[1])


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    try:
        socket.create_connection((HOST, port), timeout=1).close()
    except OSError:
        return False
    return True
