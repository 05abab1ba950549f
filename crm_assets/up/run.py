"""The order of things: what is checked before anything starts, what starts when, and how it ends."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import FrameType

from rich.console import Console

from crm_assets import runtime
from crm_assets.connections import ConnectionSpec
from crm_assets.core.errors import ConfigurationError
from crm_assets.settings import Settings
from crm_assets.store.embedded import EmbeddedPostgres
from crm_assets.store.status import status
from crm_assets.up import dagster_home, home, plans, ports, sandboxed, working
from crm_assets.up.addresses import database_url, ensure_reachable
from crm_assets.up.check import absent, configured
from crm_assets.up.child import Child, stop_leftovers
from crm_assets.up.first import FirstSync
from crm_assets.up.options import Options
from crm_assets.up.report import print_status
from crm_assets.up.supervisor import Stopped, Supervisor
from crm_assets.up.watch import Watch

_SYNC_STOP_S = 15.0


@dataclass(frozen=True)
class _Ports:
    """None: not started."""

    sandbox: int | None
    pubsub: int | None
    relay: int | None
    dagster: int | None


def run(settings: Settings, options: Options) -> int:
    """Start everything and stay until asked to stop; the exit code. See ``Options`` for ``once``."""
    working.quiet()
    settings = settings.model_copy(update={"home": settings.home.absolute()})
    # Children work in other directories.
    os.environ["CRM_ASSETS_HOME"] = str(settings.home)
    if "CRM_ASSETS_DEFS" in os.environ:
        os.environ["CRM_ASSETS_DEFS"] = str(settings.defs.absolute())
    if options.seed_dir is not None and not options.seed_dir.is_dir():
        raise ConfigurationError(f"--seed-dir {options.seed_dir} is no directory")
    console = Console(highlight=False, soft_wrap=True)
    stop = threading.Event()
    with ExitStack() as stack:
        home.prepare(settings.home)
        stack.enter_context(home.only_one(settings.home))
        stack.enter_context(_signals(stop))
        for name in stop_leftovers(settings.home):
            console.print(f"stopped {name}, left behind by an `up` that was killed")
        chosen = _ports(options)
        if chosen.sandbox is not None:
            sandboxed.use(_local(chosen.sandbox), settings.home, f"{ports.HOST}:{chosen.pubsub}")
        specs = configured(settings)
        server = _database(settings, stack)
        # From here on, so that the server's own user could reach what it has to.
        os.umask(0o077)
        pubsub = None if chosen.pubsub is None else f"{ports.HOST}:{chosen.pubsub}"
        home.announce(settings.home, _address(chosen.sandbox), _address(chosen.dagster), _address(chosen.relay), pubsub)
        stack.callback(Watch(settings.home).dismiss)
        supervisor = Supervisor(settings.home, server, stop, console.print)
        stack.callback(supervisor.stop)
        try:
            return _work(settings, options, specs, chosen, supervisor, server, stop, console)
        except Stopped:
            console.print("stopping")
            return 1 if options.once else 0


def _work(
    settings: Settings,
    options: Options,
    specs: dict[str, ConnectionSpec],
    chosen: _Ports,
    supervisor: Supervisor,
    server: EmbeddedPostgres | None,
    stop: threading.Event,
    console: Console,
) -> int:
    with ExitStack() as stack:
        db = runtime.open_database(settings)
        stack.callback(db.close)
        if chosen.sandbox is not None:
            local = {name: spec for name, spec in specs.items() if spec.url.startswith(_local(chosen.sandbox))}
            vendors = sorted({spec.connector for spec in local.values()})
            push = _push(local, chosen)
            sandbox = plans.sandbox(settings.home, options, chosen.sandbox, chosen.pubsub, vendors, push)
            supervisor.until_ready([supervisor.start(sandbox)])
        first = FirstSync(settings, db, specs, stop, console, always=options.once)
        first.start()
        stack.callback(first.join, _SYNC_STOP_S)
        # Also when it ends for another reason: the thread looks at it before each step.
        stack.callback(stop.set)
        supervisor.until(first.described.is_set)
        if first.failure is not None:
            raise first.failure
        children = [] if options.once else _children(settings, specs, chosen, supervisor, server, console)
        supervisor.until(first.done.is_set)
        if first.failure is not None:
            raise first.failure
        if options.once:
            found = status(db)
            print_status(found, console)
            complete = all(o["complete"] for c in found["connections"].values() for o in c["objects"].values())
            return 0 if found["ok"] and complete and not first.unfinished else 1
        supervisor.until_ready(children)
        if chosen.dagster is not None and (problem := plans.load_problem(chosen.dagster)):
            console.print(f"Dagster could not load the definitions: {problem}")
        _tell(settings, chosen, console)
        print("ready", flush=True)
        supervisor.until(lambda: False)
    return 0


def _children(
    settings: Settings,
    specs: dict[str, ConnectionSpec],
    chosen: _Ports,
    supervisor: Supervisor,
    server: EmbeddedPostgres | None,
    console: Console,
) -> list[Child]:
    """Dagster and the relay, started while the first sync runs."""
    started = []
    if chosen.dagster is not None:
        dagster = dagster_home.prepare(settings, server)
        started += [supervisor.start(plans.webserver(dagster, chosen.dagster)), supervisor.start(plans.daemon(dagster))]
    if chosen.relay is not None:
        for spec in specs.values():
            for missing in absent(spec):
                console.print(f"{spec.credentials[missing]} is not set: webhooks of {spec.connection} are refused")
        started.append(supervisor.start(plans.relay(settings.home, chosen.relay)))
    return started


def _ports(options: Options) -> _Ports:
    """All ports, asked for at once."""
    dagster = None if options.once else ports.claim(options.dagster_port, "Dagster", "--dagster-port")
    sandbox = pubsub = None
    if sandboxed.wanted():
        sandbox = ports.claim(options.sandbox_port, "the sandbox", "--sandbox-port")
        pubsub = ports.claim(options.grpc_port, "the sandbox's Pub/Sub", "--grpc-port")
    relay = None
    if options.relay and not options.once:
        relay = ports.claim(options.relay_port, "the relay", "--relay-port")
    return _Ports(sandbox, pubsub, relay, dagster)


def _database(settings: Settings, stack: ExitStack) -> EmbeddedPostgres | None:
    """The embedded server, started, unless there is a configured one, which has to answer."""
    if settings.database_url is not None:
        ensure_reachable(settings.database_url)
        return None
    server = EmbeddedPostgres(settings.home)
    stack.callback(server.stop)
    server.start()
    return server


def _push(local: dict[str, ConnectionSpec], chosen: _Ports) -> list[str]:
    """Where the sandbox tells of changes: the relay, for each connection that lives there and follows no stream."""
    if chosen.relay is None:
        return []
    relay = _local(chosen.relay)
    deaf = {name: spec for name, spec in local.items() if not sandboxed.has_stream(spec)}
    return [f"{spec.connector}={relay}/webhooks/{name}" for name, spec in deaf.items()]


def _tell(settings: Settings, chosen: _Ports, console: Console) -> None:
    console.print(f"Dagster   {_local(chosen.dagster or 0)}")
    try:
        console.print(f"Database  {database_url(settings, 'writer').url}")
    except ConfigurationError as error:
        console.print(f"Database  {error}")
    if chosen.sandbox is not None:
        console.print(f"Sandbox   {_local(chosen.sandbox)}, Pub/Sub {ports.HOST}:{chosen.pubsub}")


def _address(port: int | None) -> str | None:
    return None if port is None else _local(port)


def _local(port: int) -> str:
    return f"http://{ports.HOST}:{port}"


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """SIGTERM and SIGINT ask for the end; the second of them ends the process at once, its children follow."""

    def asked(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    before = {number: signal.signal(number, asked) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
