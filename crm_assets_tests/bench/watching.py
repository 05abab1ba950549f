"""What both ends see of the changes, and when: the CRM by its own stream of changes, the mirror by its audit.

Each change carries a number that only rises for its record. One that is overtaken on the way by a later one counts as
seen with it.
"""

from __future__ import annotations

import io
import json
import queue
import threading
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import fastavro
import grpc
import psycopg

from crm_assets.sandbox.salesforce.pubsub import eventbus_pb2 as pb
from crm_assets_tests.bench.ends import Running

POLL_S = 0.004
"""How often the mirror is looked at: what is seen there is that much too late at most."""

_SERVICE = "/eventbus.v1.PubSub"
_ASKED = 100


@dataclass(frozen=True)
class Seen:
    """A record's number, as one end had it at a moment (Unix seconds)."""

    id: str
    number: int
    at: float


@dataclass
class Log:
    """What was seen, in order, and the last number of each record."""

    entries: list[Seen] = field(default_factory=list)
    last: dict[str, int] = field(default_factory=dict)

    def add(self, seen: Seen) -> None:
        self.entries.append(seen)
        self.last[seen.id] = seen.number

    def has(self, expected: Mapping[str, int]) -> bool:
        return all(self.last.get(key, -1) >= number for key, number in expected.items())

    def latencies(self, changes: Iterable[Seen]) -> list[float]:
        """Seconds from each change until it, or a later one of its record, was seen; those never seen are left out."""
        seen: dict[str, list[Seen]] = defaultdict(list)
        for one in self.entries:
            seen[one.id].append(one)
        place: dict[str, int] = defaultdict(int)
        found = []
        for change in sorted(changes, key=lambda one: one.number):
            at = seen[change.id]
            while place[change.id] < len(at) and at[place[change.id]].number < change.number:
                place[change.id] += 1
            if place[change.id] < len(at):
                found.append(at[place[change.id]].at - change.at)
        return found


class Stream(threading.Thread):
    """A subscriber beside the relay. An event tells the moment of its commit, in milliseconds.

    ``logs`` are by field; ``late`` is how long after its commit each event arrived here, seconds: what any subscriber
    waits for, whoever it is.
    """

    def __init__(self, sandbox: Running, logs: Mapping[str, tuple[str, Log]]) -> None:
        super().__init__(name="stream", daemon=True)
        self._channel = grpc.insecure_channel(sandbox.more[0], options=[("grpc.enable_http_proxy", 0)])
        self._metadata = (("accesstoken", "sandbox"), ("instanceurl", sandbox.url), ("tenantid", "sandbox"))
        self._logs = logs
        self._schemas: dict[str, Any] = {}
        self._requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
        self.late: list[float] = []
        self.fault: Exception | None = None

    def run(self) -> None:
        call = self._channel.stream_stream(
            f"{_SERVICE}/Subscribe", pb.FetchRequest.SerializeToString, pb.FetchResponse.FromString
        )
        self._requests.put(
            pb.FetchRequest(topic_name="/data/ContactChangeEvent", replay_preset=pb.LATEST, num_requested=_ASKED)
        )
        try:
            for answer in call(iter(self._requests.get, None), metadata=self._metadata):
                arrived = time.time()
                for one in answer.events:
                    self._read(one.event, arrived)
                if answer.pending_num_requested < _ASKED // 2:
                    self._requests.put(pb.FetchRequest(num_requested=_ASKED - answer.pending_num_requested))
        except Exception as error:  # noqa: BLE001  told by who waits for this thread
            self.fault = error

    def close(self) -> None:
        self._requests.put(None)
        self._channel.close()

    def _read(self, event: pb.ProducerEvent, arrived: float) -> None:
        body: Any = fastavro.schemaless_reader(io.BytesIO(event.payload), self._schema(event.schema_id), None)
        header = body["ChangeEventHeader"]
        committed = header["commitTimestamp"] / 1000
        self.late.append(arrived - committed)
        for name, (mark, log) in self._logs.items():
            number = _number(mark, body.get(name))
            if number is not None:
                for record_id in header["recordIds"]:
                    log.add(Seen(record_id, number, committed))

    def _schema(self, schema_id: str) -> Any:
        if schema_id not in self._schemas:
            call = self._channel.unary_unary(
                f"{_SERVICE}/GetSchema", pb.SchemaRequest.SerializeToString, pb.SchemaInfo.FromString
            )
            found = call(pb.SchemaRequest(schema_id=schema_id), metadata=self._metadata, timeout=20)
            self._schemas[schema_id] = fastavro.parse_schema(json.loads(found.schema_json))
        return self._schemas[schema_id]


class Mirror(threading.Thread):
    """Looks for what was written to the mirror on behalf of the CRM: its audit is of the same transaction."""

    def __init__(self, url: str, column: str, mark: str, log: Log, stop: threading.Event) -> None:
        super().__init__(name="mirror", daemon=True)
        self._conn = psycopg.connect(url, autocommit=True)
        self._column, self._mark, self._log, self._stop_asked = column, mark, log, stop
        self.fault: Exception | None = None

    def run(self) -> None:
        try:
            with self._conn as conn:
                last = _one(conn, "SELECT coalesce(max(change_id), 0) FROM crm_assets.change")
                while not self._stop_asked.wait(POLL_S):
                    rows = conn.execute(
                        """SELECT change_id, id, new ->> %s FROM crm_assets.change
                            WHERE change_id > %s AND object = 'contact' ORDER BY change_id""",
                        (self._column, last),
                        prepare=True,
                    ).fetchall()
                    at = time.time()
                    for change_id, record_id, value in rows:
                        last = change_id
                        if (number := _number(self._mark, value)) is not None:
                            self._log.add(Seen(record_id, number, at))
        except Exception as error:  # noqa: BLE001  told by who waits for this thread
            self.fault = error


@dataclass(frozen=True)
class Sample:
    """What the processes had used up to a moment: CPU seconds by process, and the relay's memory in MB."""

    at: float
    cpu: Mapping[str, float]
    relay_mb: float


class Usage(threading.Thread):
    """Samples the processes once a second. ``backend`` is the pid of any backend of the server."""

    def __init__(self, relay: int, sandbox: int, backend: int, stop: threading.Event) -> None:
        super().__init__(name="usage", daemon=True)
        self._pids = {"relay": relay, "sandbox": sandbox}
        self._postmaster = int(_status(backend)["PPid"])
        self._stop_asked = stop
        self.samples: list[Sample] = [self._sample()]

    def run(self) -> None:
        while not self._stop_asked.wait(1.0):
            self.samples.append(self._sample())

    def cpu(self) -> dict[str, float]:
        """Cores in use on average, by process; the driver is this one."""
        first, last = self.samples[0], self.samples[-1]
        span = max(last.at - first.at, 0.001)
        return {name: round((last.cpu[name] - first.cpu[name]) / span, 3) for name in first.cpu}

    def _sample(self) -> Sample:
        cpu = {name: sum(_ticks(pid)[:2]) for name, pid in self._pids.items()}
        cpu["postgres"] = sum(_ticks(self._postmaster)) + sum(sum(_ticks(pid)[:2]) for pid in self._backends())
        cpu["driver"] = time.process_time()
        return Sample(time.monotonic(), cpu, int(_status(self._pids["relay"])["VmRSS"].split()[0]) / 1024)

    def _backends(self) -> list[int]:
        children = Path(f"/proc/{self._postmaster}/task/{self._postmaster}/children").read_text(encoding="ascii")
        return [int(pid) for pid in children.split()]


def _ticks(pid: int) -> list[float]:
    """CPU seconds: user, system, and the same of the children that have ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
    except FileNotFoundError:
        return [0.0] * 4
    return [int(one) / 100 for one in fields[11:15]]


def _status(pid: int) -> dict[str, str]:
    lines = Path(f"/proc/{pid}/status").read_text(encoding="utf-8").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _number(mark: str, value: Any) -> int | None:
    return int(value[len(mark) :]) if isinstance(value, str) and value.startswith(mark) else None


def _one(conn: psycopg.Connection[Any], query: str) -> Any:
    row = conn.execute(query).fetchone()  # type: ignore[arg-type]
    assert row is not None
    return row[0]
