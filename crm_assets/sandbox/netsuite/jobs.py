"""Asynchronous execution: calls that are answered at once and done later, each exactly once."""

from __future__ import annotations

import json
import queue
import threading
from typing import Any

from crm_assets.sandbox.http import Reply

from . import clock
from .batches import is_batch, parts
from .errors import ApiError, Problem, user_error
from .store import Store, Tx
from .wire import Call, Router, reply

_HEADERS = frozenset({"content-type", "x-netsuite-propertynamevalidation", "x-netsuite-propertyvaluevalidation"})


class Jobs:
    """Takes calls with ``Prefer: respond-async`` and answers ``/async/v1/job…``.

    A job has a task for each call: one, or one for each record of a batch. It is done in one transaction together
    with its result, so a restart neither repeats nor loses it.
    """

    def __init__(self, store: Store, router: Router) -> None:
        self._store = store
        self._router = router
        with store.setup() as db:
            db.execute(
                "CREATE TABLE IF NOT EXISTS _job (id INTEGER PRIMARY KEY, key TEXT UNIQUE, call TEXT, late REAL,"
                " submitted TEXT, started TEXT, ended TEXT, results TEXT)"
            )
        self._waiting: queue.SimpleQueue[int | None] = queue.SimpleQueue()
        for (left,) in store.reader.execute("SELECT id FROM _job WHERE ended IS NULL ORDER BY id"):
            self._waiting.put(left)
        self._thread = threading.Thread(target=self._work, name="netsuite jobs", daemon=True)
        self._thread.start()

    def routes(self, router: Router) -> None:
        router.add("GET", "async/v1/job/{job}", "async", self.job)
        router.add("GET", "async/v1/job/{job}/task", "async", self.tasks)
        router.add("GET", "async/v1/job/{job}/task/{task}", "async", self.task)
        router.add("GET", "async/v1/job/{job}/task/{task}/result", "async", self.result)

    def submit(self, call: Call) -> Reply:
        """202 and the job's address; the same key a second time is refused with the first job's address."""
        calls = [_kept(one) for one in (parts(call) if is_batch(call) else [call])]
        key = call.headers.get("x-netsuite-idempotency-key")

        def work(tx: Tx) -> tuple[int, bool]:
            known = tx.db.execute("SELECT id FROM _job WHERE key = ?", (key,)).fetchone() if key else None
            if known:
                return int(known[0]), False
            made = tx.db.execute(
                "INSERT INTO _job (key, call, late, submitted) VALUES (?, ?, ?, ?)",
                (key, json.dumps(calls), call.late, tx.at),
            )
            return int(made.lastrowid or 0), True

        job, new = self._store.transact(work)
        where = {"Location": f"{call.base}/async/v1/job/{job}"}
        if not new:
            detail = f"A request with the idempotency key {key} was submitted before."
            raise ApiError(400, Problem(detail, "IDEMPOTENCY_ERROR"), title="Conflict", headers=where)
        self._waiting.put(job)
        return Reply(202, None, where | {"Preference-Applied": "respond-async"})

    def close(self) -> None:
        """Ends after the job in work; the others are done at the next start."""
        self._waiting.put(None)
        self._thread.join()

    def _work(self) -> None:
        while (job := self._waiting.get()) is not None and not self._store.stopping.is_set():
            self._run(job)

    def _run(self, job: int) -> None:
        row = self._store.reader.execute("SELECT call, late FROM _job WHERE id = ?", (job,)).fetchone()
        if self._store.stopping.wait(row[1]):
            return
        started = clock.exact(clock.now())

        def work(tx: Tx) -> None:
            results = [self._result(Call(**(one | {"body": one["body"].encode()}))) for one in json.loads(row[0])]
            tx.db.execute(
                "UPDATE _job SET started = ?, ended = ?, results = ? WHERE id = ?",
                (started, clock.exact(clock.now()), json.dumps(results), job),
            )

        self._store.together(work)

    def _result(self, call: Call) -> list[Any]:
        """A task's answer: status, headers, body."""
        refusal = user_error("The record could not be saved.") if call.half else None
        answered = refusal.reply() if refusal else self._router.answer(call)
        return [answered.status, dict(answered.headers), answered.payload().decode()]

    def _found(self, job: str) -> tuple[Any, ...]:
        sql = "SELECT id, submitted, started, ended, results, call FROM _job WHERE id = ?"
        row = self._store.reader.execute(sql, (job,)).fetchone() if job.isdecimal() else None
        if row is None:
            raise ApiError(404, Problem(f"The job {job} does not exist.", "NONEXISTENT_ID"))
        return tuple(row)

    def job(self, call: Call, job: str) -> Reply:
        row = self._found(job)
        body = {"links": [{"rel": "self", "href": call.url}]} | _progress(row)
        task = {"links": [{"rel": "self", "href": f"{call.url}/task"}]}
        return reply("singular", {"id": str(row[0])} | body | {"task": task})

    def tasks(self, call: Call, job: str) -> Reply:
        count = len(json.loads(self._found(job)[5]))
        items = [
            {"links": [{"rel": "self", "href": f"{call.url}/{one}"}], "id": str(one)} for one in range(1, count + 1)
        ]
        body = {"links": [{"rel": "self", "href": call.url}], "items": items, "count": count, "hasMore": False}
        return reply("collection", body | {"offset": 0, "totalResults": count})

    def task(self, call: Call, job: str, task: str) -> Reply:
        row = self._found(job)
        self._index(row, task)
        times = {"startTime": row[2] or row[1], "endTime": row[3]}
        body = _progress(row) | {name: value for name, value in times.items() if value}
        body["result"] = {"links": [{"rel": "self", "href": f"{call.url}/result"}]}
        return reply("singular", {"links": [{"rel": "self", "href": call.url}], "id": task} | body)

    def result(self, call: Call, job: str, task: str) -> Reply:
        """What the call would have been answered by itself."""
        row = self._found(job)
        index = self._index(row, task)
        if row[4] is None:
            raise ApiError(404, Problem("The task is not completed.", "NONEXISTENT_ID"))
        status, headers, body = json.loads(row[4])[index]
        return Reply(status, body.encode() if body else None, headers)

    def _index(self, row: tuple[Any, ...], task: str) -> int:
        if not task.isdecimal() or not 1 <= int(task) <= len(json.loads(row[5])):
            raise ApiError(404, Problem(f"The task {task} does not exist.", "NONEXISTENT_ID"))
        return int(task) - 1


def _progress(row: tuple[Any, ...]) -> dict[str, Any]:
    done = row[3] is not None
    return {"completed": done, "progress": "succeeded" if done else "pending"}


def _kept(call: Call) -> dict[str, Any]:
    return {
        "method": call.method,
        "path": call.path,
        "base": call.base,
        "query": dict(call.query),
        "headers": {name: value for name, value in call.headers.items() if name in _HEADERS},
        "body": call.body.decode(),
        "half": call.half,
    }
