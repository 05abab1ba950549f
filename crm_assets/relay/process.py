"""The relay's process: puts the receiver and the workers together, and takes them down again."""

from __future__ import annotations

import logging
import signal
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import timedelta
from types import FrameType

import uvicorn

from crm_assets import runtime
from crm_assets.connections import load_connections
from crm_assets.connectors.base import Connector
from crm_assets.core.errors import ConfigurationError, FatalError
from crm_assets.events.receiver import app
from crm_assets.relay.keeper import Keeper
from crm_assets.relay.link import Link
from crm_assets.relay.listener import Listener
from crm_assets.settings import Settings

log = logging.getLogger(__name__)

HOST = "127.0.0.1"
_START_SECONDS = 20.0
_STOP_MARGIN = 10.0


class _Receiving(Mapping[str, Connector | None]):
    """The connections as the receiver sees them."""

    def __init__(self, links: Mapping[str, Link]) -> None:
        self._links = links

    def __getitem__(self, name: str) -> Connector | None:
        return self._links[name].receiving

    def __iter__(self) -> Iterator[str]:
        return iter(self._links)

    def __len__(self) -> int:
        return len(self._links)


def main(port: int = 8701, settings: Settings | None = None) -> None:
    """Run until SIGTERM or SIGINT; the call that is under way is finished first. Port 0 takes a free one.

    ConfigurationError for what a person must change before it can start: no database, a busy port, a broken
    defs.yaml. A connection whose own settings are wrong is logged and tried again; the others work.
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    for chatty in ("httpx", "alembic"):  # a line for every call would drown what matters
        logging.getLogger(chatty).setLevel(logging.WARNING)
    settings = settings or Settings()
    stop = threading.Event()
    with ExitStack() as stack:
        listening = stack.enter_context(_bound(port))
        specs = load_connections(settings.defs)
        db = runtime.open_database(settings)
        stack.callback(db.close)
        links = {name: Link(settings, db, spec, stop) for name, spec in specs.items()}
        for link in links.values():
            stack.callback(link.close)
            try:
                link.connector("events")
            except ConfigurationError as error:
                log.error("%s", error)
        keeper = Keeper(db, links, stop, timedelta(days=settings.audit_days))
        helpers = [Listener(settings.direct_database_url or db.url, links, stop), keeper]
        server = uvicorn.Server(
            uvicorn.Config(
                app(db, _Receiving(links)),
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=10,
            )
        )
        serving = threading.Thread(target=server.run, args=([listening],), name="receiver", daemon=True)
        workers = [worker for link in links.values() for worker in link.workers.values()]
        longest_call = max((spec.call_timeout_seconds for spec in specs.values()), default=0.0)
        with _signals(stop):
            serving.start()
            _wait_until_serving(server, serving)
            for thread in (*helpers, *workers):
                thread.start()
            print(f"relay listening on http://{HOST}:{listening.getsockname()[1]}", flush=True)
            while serving.is_alive() and not stop.wait(0.5):
                pass
            failed = not stop.is_set()
            stop.set()
            server.should_exit = True
            for worker in workers:
                worker.wake()
            deadline = time.monotonic() + longest_call + _STOP_MARGIN
            for thread in (serving, *workers, *helpers):
                thread.join(max(0.0, deadline - time.monotonic()))
            keeper.farewell()
        if failed:
            raise FatalError("the webhook receiver ended by itself; see the log above for the reason")
        log.info("relay stopped")


@contextmanager
def _bound(port: int) -> Iterator[socket.socket]:
    """The listening socket, bound before anything else starts, so that a busy port is one clear line."""
    listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    with listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listening.bind((HOST, port))
        except OSError as error:
            raise ConfigurationError(
                f"port {port} cannot be used for the relay ({error.strerror}); choose another one with --relay-port "
                "(crm-assets up) or --port (crm-assets relay)"
            ) from error
        yield listening


def _wait_until_serving(server: uvicorn.Server, serving: threading.Thread) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while not server.started:
        if not serving.is_alive() or time.monotonic() > deadline:
            raise FatalError("the webhook receiver did not start; see the log above for the reason")
        time.sleep(0.01)


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT ask for the stop; the second of them ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def asked(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
