"""Bulk 2.0 ingest: a CSV of changes, each row with a result of its own."""

from __future__ import annotations

import csv
import io
import sqlite3
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from crm_assets.sandbox.http import Reply

from .batches import translate
from .errors import ApiError, error
from .fields import Field
from .jobs import DELIMITERS, LINE_ENDS, Job, Jobs, choice, number
from .objects import SObject
from .records import Records
from .rows import upsert
from .store import Tx
from .wire import Call, Router

_OPERATIONS = ("insert", "update", "upsert", "delete", "hardDelete")
_TOGETHER = 200
_CSV = {"Content-Type": "text/csv"}
csv.field_size_limit(64 * 1024 * 1024)


class BulkIngest:
    """``/jobs/ingest``."""

    def __init__(self, records: Records, jobs: Jobs) -> None:
        self._records = records
        self._jobs = jobs

    def routes(self, router: Router) -> None:
        router.add("POST", "jobs/ingest", "bulk_ingest", self.create)
        router.add("GET", "jobs/ingest", "bulk_ingest", self.list)
        router.add("GET", "jobs/ingest/{job_id}", "bulk_ingest", self.get)
        router.add("PATCH", "jobs/ingest/{job_id}", "bulk_ingest", self.move)
        router.add("DELETE", "jobs/ingest/{job_id}", "bulk_ingest", self.delete)
        router.add("PUT", "jobs/ingest/{job_id}/batches", "bulk_ingest", self.upload)
        for name, kind in (
            ("successfulResults", "ok"),
            ("failedResults", "bad"),
            ("unprocessedrecords", "rest"),
        ):
            router.add("GET", f"jobs/ingest/{{job_id}}/{name}", "bulk_results", self._reader(kind))

    def create(self, call: Call) -> Reply:
        body = call.record()
        operation = body.get("operation")
        if operation not in _OPERATIONS:
            raise error(400, "INVALIDJOB", f"operation: unknown value {operation}")
        kind = self._records.schema.visible(str(body.get("object")))
        if kind is None:
            raise error(400, "INVALIDENTITY", f"'{body.get('object')}' is not supported by the Bulk API")
        key = body.get("externalIdFieldName")
        if operation == "upsert":
            field = kind.find(str(key))
            if field is None or not (field.external_id or field.id_lookup):
                raise error(
                    400,
                    "INVALIDJOB",
                    "InvalidJob : Field name provided, "
                    f"{key} does not match an External ID, Salesforce Id, or indexed field for {kind.name}",
                )
        job = self._jobs.new(
            ingest=True,
            operation=operation,
            object=kind.name,
            state="Open",
            user=self._records.user,
            version=number(call.version),
            external_id=key if operation == "upsert" else None,
            delimiter=choice(body, "columnDelimiter", DELIMITERS, "COMMA"),
            line_end=choice(body, "lineEnding", LINE_ENDS, "LF"),
        )
        return Reply(body=job.body(long=False))

    def upload(self, call: Call, job_id: str) -> Reply:
        job = self._jobs.get(job_id, ingest=True)
        path = self._jobs.file(job, "in")
        if job.state != "Open" or path.exists():
            raise error(400, "INVALIDJOBSTATE", "Found multiple contents for job or the job is not open")
        path.write_bytes(call.body)
        return Reply(201)

    def list(self, call: Call) -> Reply:
        jobs = [job.body() for job in self._jobs.all(ingest=True)]
        return Reply(body={"done": True, "records": jobs, "nextRecordsUrl": None})

    def get(self, call: Call, job_id: str) -> Reply:
        return Reply(body=self._jobs.get(job_id, ingest=True).body())

    def delete(self, call: Call, job_id: str) -> Reply:
        job = self._jobs.get(job_id, ingest=True)
        if job.state in ("UploadComplete", "InProgress"):
            raise error(400, "INVALIDJOBSTATE", f"Deleting not allowed in state {job.state}")
        self._jobs.drop(job)
        return Reply(204)

    def move(self, call: Call, job_id: str) -> Reply:
        job, state = self._jobs.get(job_id, ingest=True), call.record().get("state")
        if state == "Aborted" and job.state in ("Open", "UploadComplete", "InProgress"):
            return Reply(body=self._jobs.put(replace(job, state="Aborted")).body(long=False))
        if state != "UploadComplete" or job.state != "Open":
            raise error(400, "INVALIDJOBSTATE", f"Changing the state from {job.state} to {state} is not allowed")
        job = self._jobs.put(replace(job, state="UploadComplete"))
        threading.Thread(target=self._run, args=(job, call.late), name=f"bulk {job.id}", daemon=True).start()
        return Reply(body=job.body(long=False))

    def _reader(self, kind: str) -> Any:
        def read(call: Call, job_id: str) -> Reply:
            job = self._jobs.get(job_id, ingest=True)
            path = self._jobs.file(job, kind)
            return Reply(200, path.read_bytes() if path.exists() else b"", _CSV)

        return read

    def _run(self, job: Job, late: float) -> None:
        started = time.monotonic()
        if self._jobs.move(job.id, state="InProgress") is None:
            return
        try:
            done, failed = self._load(job, late)
        except (_BrokenError, sqlite3.Error, csv.Error, UnicodeDecodeError) as broken:
            self._jobs.move(job.id, state="Failed", error=f"InvalidBatch : {broken}")
            return
        spent = int((time.monotonic() - started) * 1000)
        self._jobs.move(job.id, state="JobComplete", processed=done, failed=failed, milliseconds=spent)

    def _load(self, job: Job, late: float) -> tuple[int, int]:
        path = self._jobs.file(job, "in")
        text = path.read_bytes().decode("utf-8-sig") if path.exists() else ""
        names, rows = read_csv(text, job)
        work = _Row(self._records, self._records.object(job.object), job, names)
        delimiter = DELIMITERS[job.delimiter]
        good, bad = (_Results(self._jobs.file(job, kind), delimiter) for kind in ("ok", "bad"))
        good.writerow(["sf__Id", "sf__Created", *names])
        bad.writerow(["sf__Id", "sf__Error", *names])
        done = failed = 0
        try:
            while part := [row for _, row in zip(range(_TOGETHER), rows, strict=False)]:

                def batch(tx: Tx, part: list[list[str]] = part) -> list[tuple[str, str]]:
                    return [work.one(tx, row) for row in part]

                results = self._records.store.transact(batch, late)
                late = 0.0
                for row, (record_id, outcome) in zip(part, results, strict=True):
                    done += 1
                    if outcome in ("true", "false"):
                        good.writerow([record_id, outcome, *row])
                    else:
                        failed += 1
                        bad.writerow([record_id, outcome, *row])
        finally:
            good.close()
            bad.close()
        return done, failed


class _BrokenError(Exception):
    """An upload that cannot be read as CSV."""


class _Row:
    """Does one row of a job."""

    def __init__(self, records: Records, kind: SObject, job: Job, names: list[str]) -> None:
        self._records = records
        self._kind = kind
        self._job = job
        self._names = names

    def one(self, tx: Tx, row: list[str]) -> tuple[str, str]:
        """The record's id and ``true`` (created), ``false``, or the error."""
        record_id = ""
        try:
            if len(row) != len(self._names):
                raise error(400, "INVALID_BATCH", "the row has another number of columns than the header")
            given = dict(zip(self._names, row, strict=True))
            record_id = next((value for name, value in given.items() if name.lower() == "id"), "")
            with tx.part():
                return self._do(tx, given, record_id)
        except ApiError as failed:
            fault = translate(failed)[0]
            fields = " ".join(fault.fields or ())
            return record_id, f"{fault.code}:{fault.message}:{fields} --"

    def _do(self, tx: Tx, given: dict[str, str], record_id: str) -> tuple[str, str]:
        operation = self._job.operation
        if operation == "delete":
            return self._records.delete(tx, self._kind, record_id), "false"
        if operation == "hardDelete":
            return self._records.erase(tx, self._kind, record_id), "false"
        values = self._values(given)
        if operation == "insert":
            return self._records.create(tx, self._kind, values), "true"
        if operation == "update":
            return self._records.update(tx, self._kind, record_id, values), "false"
        key: Field = self._records.key_field(self._kind, self._job.external_id or "")
        value = next((text for name, text in given.items() if name.lower() == key.name.lower()), "")
        if not value:
            raise error(400, "MISSING_ARGUMENT", f"{key.name} not specified", ())
        rest = {name: one for name, one in values.items() if name.lower() != key.name.lower()}
        done = upsert(self._records, tx, self._kind, key.name, value, rest, False)
        if isinstance(done, list):
            raise error(400, "DUPLICATE_EXTERNAL_ID", f"more than one record found for {key.name}", (key.name,))
        return done[0], "true" if done[1] else "false"

    def _values(self, given: dict[str, str]) -> dict[str, Any]:
        """Empty cells leave a field alone, ``#N/A`` clears it; ``Parent.Key__c`` finds a parent by its key."""
        values: dict[str, Any] = {}
        for name, text in given.items():
            if text == "" or name.lower() == "id":
                continue
            value = None if text == "#N/A" else text
            relation, dot, key = name.partition(".")
            if dot:
                values[relation] = {key: value}
            else:
                values[name] = value
        return values


def read_csv(text: str, job: Job) -> tuple[list[str], Iterator[list[str]]]:
    """Header and rows; the line ends must be those the job announced."""
    first = text.partition("\n")[0]
    if text and (job.line_end == "CRLF") != first.endswith("\r"):
        raise _BrokenError(f"LineEnding is invalid on user data. Current LineEnding setting is {job.line_end}")
    rows = csv.reader(io.StringIO(text, newline=""), delimiter=DELIMITERS[job.delimiter], strict=True)
    names = next(rows, [])
    return names, (row for row in rows if row)


class _Results:
    """A CSV file in the vendor's manner: every value in quotes."""

    def __init__(self, path: Any, delimiter: str) -> None:
        self._file = path.open("w", encoding="utf-8", newline="")
        self._csv = csv.writer(self._file, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")

    def writerow(self, row: list[str]) -> None:
        self._csv.writerow(row)

    def close(self) -> None:
        self._file.close()
