"""Bulk 2.0 jobs: what is known of one, kept in the store so that it outlives a restart."""

from __future__ import annotations

import json
import threading
from dataclasses import asdict, dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

from crm_assets.sandbox.store import numbers

from . import clock, ids
from .errors import ApiError, error, not_found
from .store import Store

DELIMITERS = {"BACKQUOTE": "`", "CARET": "^", "COMMA": ",", "PIPE": "|", "SEMICOLON": ";", "TAB": "\t"}
LINE_ENDS = {"LF": "\n", "CRLF": "\r\n"}
_KEEP = timedelta(days=7)


@dataclass(frozen=True, slots=True)
class Job:
    """One job; ``ingest`` tells the two kinds apart."""

    id: str
    ingest: bool
    operation: str
    object: str
    state: str
    created: str
    changed: str
    user: str
    version: float
    query: str = ""
    external_id: str | None = None
    delimiter: str = "COMMA"
    line_end: str = "LF"
    processed: int = 0
    failed: int = 0
    milliseconds: int = 0
    error: str | None = None

    def body(self, long: bool = True) -> dict[str, Any]:
        """As the job resources print it."""
        body: dict[str, Any] = {
            "id": self.id,
            "operation": self.operation,
            "object": self.object,
            "createdById": self.user,
            "createdDate": clock.rest(self.created),
            "systemModstamp": clock.rest(self.changed),
            "state": self.state,
            "concurrencyMode": "Parallel",
            "contentType": "CSV",
            "apiVersion": self.version,
            "lineEnding": self.line_end,
            "columnDelimiter": self.delimiter,
        }
        if self.ingest:
            body["externalIdFieldName"] = self.external_id
            if self.state == "Open":
                body["contentUrl"] = f"services/data/v{self.version}/jobs/ingest/{self.id}/batches"
        if long:
            body |= {
                "jobType": "V2Ingest" if self.ingest else "V2Query",
                "numberRecordsProcessed": self.processed,
                "retries": 0,
                "totalProcessingTime": self.milliseconds,
            }
            if self.ingest:
                body |= {
                    "numberRecordsFailed": self.failed,
                    "apiActiveProcessingTime": self.milliseconds,
                    "apexProcessingTime": 0,
                }
            else:
                body["isPkChunkingSupported"] = True
            if self.error:
                body["errorMessage"] = self.error
        return body


class Jobs:
    """The list of jobs and the folder of their files."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self.folder = store.path.parent / "jobs"
        self.folder.mkdir(exist_ok=True)
        self._numbers = numbers()
        self._lock = threading.Lock()
        with store.setup() as db:
            db.execute("CREATE TABLE IF NOT EXISTS _jobs (id TEXT PRIMARY KEY, body TEXT)")
        rows = store.reader.execute("SELECT body FROM _jobs ORDER BY id").fetchall()
        self._jobs = {job.id: job for job in (Job(**json.loads(row[0])) for row in rows)}
        oldest = clock.stored(clock.now() - _KEEP)
        for job in list(self._jobs.values()):
            if job.created < oldest:
                self.drop(job)
            elif job.state == "InProgress" or (job.state == "UploadComplete"):
                # The process that ran it is gone.
                self.put(replace(job, state="Failed", error="InternalServerError : the server was restarted"))

    def new(self, **values: Any) -> Job:
        now = clock.stored(clock.now())
        job = Job(id=ids.make("750", next(self._numbers)), created=now, changed=now, **values)
        self.put(job)
        return job

    def put(self, job: Job) -> Job:
        with self._lock, self._store.setup() as db:
            job = replace(job, changed=clock.stored(clock.now()))
            db.execute("INSERT OR REPLACE INTO _jobs VALUES (?, ?)", (job.id, json.dumps(asdict(job))))
            self._jobs[job.id] = job
        return job

    def move(self, job_id: str, **changes: Any) -> Job | None:
        """Changes a job unless it was aborted or deleted meanwhile."""
        job = self._jobs.get(job_id)
        if job is None or job.state == "Aborted":
            return None
        return self.put(replace(job, **changes))

    def get(self, job_id: str, ingest: bool) -> Job:
        job = self._jobs.get(ids.full(job_id) or job_id)
        if job is None or job.ingest is not ingest:
            raise not_found()
        return job

    def all(self, ingest: bool) -> list[Job]:
        return sorted((job for job in self._jobs.values() if job.ingest is ingest), key=lambda job: job.id)

    def drop(self, job: Job) -> None:
        with self._lock, self._store.setup() as db:
            db.execute("DELETE FROM _jobs WHERE id = ?", (job.id,))
            self._jobs.pop(job.id, None)
        for path in self.folder.glob(f"{job.id}.*"):
            path.unlink(missing_ok=True)

    def file(self, job: Job, kind: str) -> Path:
        return self.folder / f"{job.id}.{kind}"


def choice(body: dict[str, Any], key: str, known: dict[str, str], default: str) -> str:
    """One of the vendor's names, or its refusal."""
    value = str(body.get(key) or default)
    if value not in known:
        raise error(400, "INVALIDJOB", f"{key}: unknown value {value}")
    return value


def number(version: str) -> float:
    return float(version)


def job_error(failed: ApiError) -> str:
    return "; ".join(f"{one.code}: {one.message}" for one in failed.faults)
