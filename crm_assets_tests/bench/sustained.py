"""The relay under changes that do not stop, in both directions at once, between a real sandbox and a real Postgres.

The product commits and a CRM user edits, each so many times a second, on records of their own and on shared ones
(there each has a field of its own). With the sandbox's quota raised, the question is how long a change takes; with the
ordinary one, whether the calls last. Either way nothing may be lost.
"""

from __future__ import annotations

import json
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from statistics import quantiles
from typing import Any
from urllib.parse import quote, urlsplit

import psycopg

from crm_assets import runtime
from crm_assets.connections import ConnectionSpec, load_connections
from crm_assets.connectors.base import Connector
from crm_assets.core.model import FieldType, Object
from crm_assets.events import drain as events
from crm_assets.mirror.describing import describe
from crm_assets.mirror.sync import sync
from crm_assets.quota import state
from crm_assets.store.database import Database
from crm_assets.writeback import drain as writeback
from crm_assets_tests.bench import ends, engine
from crm_assets_tests.bench.measure import Flow, Setting
from crm_assets_tests.bench.watching import Log, Mirror, Seen, Stream, Usage

_SECRETS = ("client_id", "client_secret")
_WRITTEN = {"write": True, "external_id": "Crm_Assets_Row_Id__c"}
_PLENTY = 10**7
_ORDINARY = 24_000
"""Calls a day."""
_SPAN_S = 600.0
"""The ordinary quota is for as much of a day's changes as come in this time; a shorter run gets less of it."""
_SHARES = (0.4, 0.4)
"""Of the records: the product's own, the CRM's own; the rest is shared."""
_CONTACTS = 0.35
"""Of the sandbox's records."""
_EDITORS = 4
_PROBE_S = 0.5
_PATIENCE_S = 120.0


@dataclass
class Side:
    """One direction: who writes which field, what was written when, and where the other end saw it."""

    mark: str
    field: str
    column: str
    made: list[Seen] = field(default_factory=list)
    seen: Log = field(default_factory=Log)

    @property
    def last(self) -> dict[str, int]:
        return {one.id: one.number for one in sorted(self.made, key=lambda one: one.number)}


class Driver:
    """Makes the changes, each at its time; one that is late is made at once."""

    def __init__(self, rate: float, seconds: float) -> None:
        self._rate = rate
        self._count = int(rate * seconds)
        self._next = 0
        self._lock = threading.Lock()
        self.started = time.monotonic()

    def turns(self) -> Iterator[int]:
        while True:
            with self._lock:
                number, self._next = self._next, self._next + 1
            if number >= self._count:
                return
            wait = self.started + number / self._rate - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            yield number


def _product(writer: str, driver: Driver, records: Sequence[str], side: Side) -> None:
    chosen = random.Random(1)
    with psycopg.connect(writer, autocommit=True) as conn:
        for number in driver.turns():
            record_id = chosen.choice(records)
            conn.execute(
                "UPDATE salesforce.contact SET title = %s WHERE id = %s",
                (f"{side.mark}{number}", record_id),
                prepare=True,
            )
            side.made.append(Seen(record_id, number, time.time()))


def _editor(server: str, driver: Driver, records: Sequence[str], side: Side, took: list[float]) -> None:
    """A CRM user; each of several has records of his own, so that the numbers of a record rise."""
    chosen = random.Random(records[0])
    http = HTTPConnection(urlsplit(server).netloc)
    for number in driver.turns():
        record_id = chosen.choice(records)
        started = time.perf_counter()
        body = json.dumps({"fields": {side.field: f"{side.mark}{number}"}})
        http.request("PATCH", f"/_sandbox/salesforce/Contact/{record_id}", body)
        reply = http.getresponse()
        reply.read()
        assert reply.status == 200, reply.status
        took.append(time.perf_counter() - started)
        side.made.append(Seen(record_id, number, time.time()))
    http.close()


def _probe(server: str, records: Sequence[str], took: list[float], stop: threading.Event) -> None:
    """Reads of ten records by id, as the relay makes them: what such a call costs at this load."""
    http = HTTPConnection(urlsplit(server).netloc)
    while not stop.wait(_PROBE_S):
        ids = ", ".join(f"'{one}'" for one in random.sample(records, min(10, len(records))))
        started = time.perf_counter()
        query = quote(f"SELECT Id, Title, Department FROM Contact WHERE Id IN ({ids})")
        http.request("GET", f"/services/data/v67.0/query?q={query}", headers={"Authorization": "Bearer sandbox"})
        http.getresponse().read()
        took.append(time.perf_counter() - started)
    http.close()


class World:
    """Sandbox, database and relay, their contacts equal at both ends to begin with."""

    def __init__(self, setting: Setting, calls: int, stack: ExitStack) -> None:
        self._setting = setting
        home = engine.home(setting)
        self.sandbox = stack.enter_context(ends.sandbox(home, round(setting.rows / _CONTACTS)))
        self.control("POST", "limits", {"daily_calls": calls})
        stream = {"pubsub_topics": "/data/ChangeEvents", "pubsub_endpoint": self.sandbox.more[0]}
        defs = ends.defs(self.sandbox.url, _SECRETS, _WRITTEN, options=stream | {"daily_calls": calls})
        self.db = Database(setting.database)
        stack.callback(self.db.close)
        self.spec, self.obj = self._load(defs)
        self.owner = stack.enter_context(psycopg.connect(setting.database, autocommit=True))
        self.relay = stack.enter_context(ends.relay(home, setting.database, defs, "sandbox"))
        self.until(self._follows)

    def _load(self, defs: str) -> tuple[ConnectionSpec, Object]:
        os.environ["BENCH_SECRET"] = "sandbox"
        folder = engine.home(self._setting) / "loading" / "salesforce"
        folder.mkdir(parents=True)
        (folder / "defs.yaml").write_text(defs, encoding="utf-8")
        spec = load_connections(folder.parent)["salesforce"]
        with self.connector(spec, "backfill") as connector:
            (obj,) = describe(self.db, connector, spec.objects).objects.values()
            sync(self.db, engine.home(self._setting), connector, obj)
        with psycopg.connect(self._setting.database, autocommit=True) as conn:
            conn.execute("VACUUM (ANALYZE) salesforce.contact")  # as autovacuum does within a minute
        return spec, obj

    @contextmanager
    def connector(self, spec: ConnectionSpec, lane: str) -> Iterator[Connector]:
        connector = runtime.open_connector(self.db, spec, lane)
        try:
            yield connector
        finally:
            runtime.close_connector(connector)

    def control(self, method: str, path: str, body: Any = None) -> Any:
        http = HTTPConnection(urlsplit(self.sandbox.url).netloc)
        http.request(method, f"/_sandbox/salesforce/{path}", None if body is None else json.dumps(body))
        reply = http.getresponse()
        told = json.loads(reply.read())
        assert reply.status < 300, told
        http.close()
        return told

    def count(self, query: str) -> int:
        row = self.owner.execute(query).fetchone()  # type: ignore[arg-type]
        assert row is not None
        return int(row[0])

    def _follows(self) -> bool:
        """The relay hears of changes, and has read what came before it did."""
        return bool(self.count("SELECT count(*) FROM crm_assets.stream WHERE heard_at IS NOT NULL")) and not self.count(
            "SELECT (SELECT count(*) FROM crm_assets.sweep) + (SELECT count(*) FROM crm_assets.inbox"
            " WHERE state IN ('pending', 'claimed'))"
        )

    def quiet(self) -> bool:
        """Nothing waits in either direction."""
        return not self.count(
            "SELECT (SELECT count(*) FROM crm_assets.outbox WHERE state NOT IN ('confirmed', 'superseded'))"
            " + (SELECT count(*) FROM crm_assets.inbox WHERE state NOT IN ('done', 'ignored'))"
            " + (SELECT count(*) FROM salesforce_stage.contact)"
        )

    def until(self, condition: Callable[[], bool], seconds: float = _PATIENCE_S) -> None:
        end = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > end:
                raise RuntimeError(f"not within {seconds:g} s: {condition}; the relay said:\n{self._log()}")
            time.sleep(0.05)

    def _log(self) -> str:
        return (engine.home(self._setting) / "relay.log").read_text(encoding="utf-8")[-2000:]

    def truth(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        after: str | None = ""
        while after is not None:
            page = self.control("GET", f"Contact?after={after}")
            found |= {one["id"]: one["fields"] for one in page["records"] if not one["deleted"]}
            after = page["next"]
        return found

    def different(self) -> list[str]:
        """Ids of the records that one end has otherwise than the other, or not at all; all text fields count."""
        texts = [fld for fld in self.obj.fields if fld.type is FieldType.TEXT]
        columns = ", ".join(f'"{fld.column}"' for fld in texts)
        rows = self.owner.execute(f"SELECT id, {columns} FROM salesforce.contact WHERE _deleted_at IS NULL").fetchall()  # type: ignore[arg-type]
        mirror = {row[0]: row[1:] for row in rows}
        crm = {key: tuple(fields.get(fld.name) for fld in texts) for key, fields in self.truth().items()}
        return sorted(key for key in mirror.keys() | crm.keys() if mirror.get(key) != crm.get(key))

    def catch_up(self) -> None:
        """What Dagster's runs do beside a relay that has to spare its calls."""
        objects = {self.obj.table: self.obj}
        with self.connector(self.spec, "writeback") as connector:
            writeback.drain(self.db, connector, objects)
        with self.connector(self.spec, "events") as connector:
            self.owner.execute("UPDATE crm_assets.inbox SET next_try_at = clock_timestamp() WHERE state = 'pending'")
            events.drain(self.db, connector, objects)


def _sustained(setting: Setting, flow: Flow, calls: int, *, ordinary: bool) -> dict[str, Any]:
    with ExitStack() as stack:
        world = World(setting, calls, stack)
        ids = [row[0] for row in world.owner.execute("SELECT id FROM salesforce.contact ORDER BY id").fetchall()]
        ours, theirs = (round(len(ids) * share) for share in _SHARES)
        out, into = Side("p", "Title", "title"), Side("c", "Department", "department")
        edited = Log()
        stop = threading.Event()
        stream = Stream(world.sandbox, {"Title": (out.mark, out.seen), "Department": (into.mark, edited)})
        mirror = Mirror(setting.database, into.column, into.mark, into.seen, stop)
        backend = world.owner.info.backend_pid
        edits: list[float] = []
        queries: list[float] = []
        product = [*ids[:ours], *ids[ours + theirs :]]
        world.control("DELETE", "calls")
        commits = world.count("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        usage = Usage(world.relay.pid, world.sandbox.pid, backend, stop)
        helpers: list[threading.Thread] = [stream, mirror, usage]
        if not ordinary:
            probing = (world.sandbox.url, ids, queries, stop)
            helpers.append(threading.Thread(target=_probe, args=probing, name="probe", daemon=True))
        for helper in helpers:
            helper.start()
        product_turns, editor_turns = (Driver(flow.rate, flow.seconds) for _ in range(2))
        drivers = [
            threading.Thread(target=_product, args=(setting.writer, product_turns, product, out)),
            *(
                threading.Thread(
                    target=_editor, args=(world.sandbox.url, editor_turns, ids[ours + n :: _EDITORS], into, edits)
                )
                for n in range(_EDITORS)
            ),
        ]
        started = time.monotonic()
        for one in drivers:
            one.start()
        for one in drivers:
            one.join()
        drove = time.monotonic() - started
        with world.db.transaction() as conn:
            pace = state.pace(conn, "salesforce", world.spec.quota.single_changes)
        used = world.control("GET", "calls")
        if ordinary:
            while not world.quiet():
                world.catch_up()
                time.sleep(0.5)
        else:
            last = (out.last, into.last)
            world.until(lambda: out.seen.has(last[0]) and into.seen.has(last[1]), _PATIENCE_S + flow.seconds)
        elapsed = time.monotonic() - started
        commits = world.count("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()") - commits
        world.until(world.quiet)
        stop.set()
        for watcher in (stream, mirror):
            if watcher.fault is not None:
                raise watcher.fault
        stream.close()
        different = world.different()
        assert not different, f"{len(different)} records differ: {different[:5]}"
        made = len(out.made) + len(into.made)
        assert made == 2 * int(flow.rate * flow.seconds), made
        memory = [one.relay_mb for one in usage.samples]
        return {
            "rows": made,
            "seconds": elapsed,
            "peak_mb": max(memory),
            "more": {
                "changes_per_second": round(made / drove, 1),
                "out": _spread(out.seen.latencies(out.made)),
                "in": _spread(into.seen.latencies(edited.entries)),
                "sandbox": {"event": _spread(stream.late), "edit": _spread(edits)}
                | ({} if ordinary else {"query": _spread(queries)}),
                "relay_mb": {
                    "first": round(memory[0], 1),
                    "tenth": round(memory[len(memory) // 10], 1),
                    "half": round(memory[len(memory) // 2], 1),
                    "last": round(memory[-1], 1),
                },
                "cores": usage.cpu(),
                "calls": {"limit": calls, **used["by_api"], "probes": len(queries)},
                "commits_per_change": round(commits / made, 2),
                "linger_ms": round(pace.linger * 1000, 1),
                "gather_ms": round(pace.gather * 1000, 1),
            },
        }


def _spread(seconds: Sequence[float]) -> Mapping[str, float]:
    """Milliseconds."""
    cuts = quantiles(seconds, n=100, method="inclusive") if len(seconds) > 1 else [*seconds] * 99
    return {
        "count": len(seconds),
        "p50_ms": round(cuts[49] * 1000, 1),
        "p99_ms": round(cuts[98] * 1000, 1),
        "max_ms": round(max(seconds) * 1000, 1),
    }


def _raised(setting: Setting) -> dict[str, Any]:
    assert setting.flow is not None
    return _sustained(setting, setting.flow, _PLENTY, ordinary=False)


def _ordinary(setting: Setting) -> dict[str, Any]:
    assert setting.flow is not None
    calls = round(_ORDINARY * min(setting.flow.seconds / _SPAN_S, 1.0))
    return _sustained(setting, setting.flow, calls, ordinary=True)


WORKS: dict[str, Callable[[Setting], dict[str, Any]]] = {
    "relay_sustained/crm_assets": _raised,
    "relay_sustained_quota/crm_assets": _ordinary,
}
