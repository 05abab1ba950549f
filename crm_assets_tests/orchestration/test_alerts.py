"""What needs a person is told once when it begins and once when it is over, however often it is looked at."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import dagster as dg
import httpx
import pytest

from crm_assets_tests.orchestration.conftest import Room


class Chat:
    """Where messages arrive; ``status`` is what it answers."""

    def __init__(self) -> None:
        self.status = 200
        self.messages: list[str] = []
        chat = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                if chat.status == 200:
                    chat.messages.append(body["text"])
                self.send_response(chat.status)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Tests are quiet."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/hook"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def chat(monkeypatch: pytest.MonkeyPatch) -> Iterator[Chat]:
    made = Chat()
    monkeypatch.setenv("CRM_ASSETS_ALERT_URL", made.url)
    yield made
    made.close()


def tick(room: Room) -> dg.SensorResult:
    with dg.build_sensor_context(instance=room.instance, repository_def=room.defs.get_repository_def()) as context:
        result = room.defs.resolve_sensor_def("salesforce_alerts")(context)
    assert isinstance(result, dg.SensorResult)
    return result


def reject(room: Room) -> None:
    room.link.rows(
        "UPDATE salesforce.contact SET last_name = 'Ours' WHERE id = (SELECT min(id) FROM salesforce.contact)"
    )
    room.link.rows("UPDATE crm_assets.outbox SET state = 'rejected', reason = 'no'")


def test_one_alert_for_each_change_of_state(room: Room, chat: Chat) -> None:
    room.sync()
    assert tick(room).skip_reason is not None
    reject(room)
    (event,) = tick(room).asset_events
    assert event.asset_key == dg.AssetKey(["salesforce", "contact"])
    assert isinstance(event, dg.AssetObservation) and event.metadata["raised"].value is True
    for _ in range(3):
        assert not tick(room).asset_events
    room.link.rows("SELECT crm_assets.discard(seq) FROM crm_assets.outbox WHERE state = 'rejected'")
    tick(room)
    words = "contact: 1 writes are rejected; see crm_assets.outbox"
    assert chat.messages == [f"salesforce: {words}", f"salesforce: over: {words}"]


def test_an_alert_that_did_not_arrive_is_told_again(room: Room, chat: Chat) -> None:
    room.sync()
    reject(room)
    chat.status = 500
    with pytest.raises(httpx.HTTPStatusError):
        tick(room)
    chat.status = 200
    tick(room)
    tick(room)
    assert len(chat.messages) == 1


def test_the_end_of_the_quota_is_an_alert(room: Room, chat: Chat) -> None:
    room.sync()
    room.link.rows('UPDATE crm_assets.quota SET used = "limit", updated_at = clock_timestamp()')
    tick(room)
    assert chat.messages[0].startswith("salesforce: daily_calls is used up; the CRM is asked again at")


def test_a_check_that_goes_on_failing_is_one_alert(room: Room, chat: Chat) -> None:
    room.sync()
    room.link.sandbox.schema("Contact", "add", "Motto__c", type="string")
    for _ in range(2):
        room.run("salesforce_reconcile")
        tick(room)
    (told,) = chat.messages
    assert told.startswith("salesforce: contact: the check schema fails: ") and "Motto__c" in told
    room.run("salesforce_full_refresh")
    room.run("salesforce_reconcile")
    tick(room)
    assert chat.messages[1:] == [told.replace("salesforce: ", "salesforce: over: ", 1)]


def test_a_days_calls_that_would_not_last_are_an_alert(room: Room, chat: Chat) -> None:
    room.sync()
    room.link.rows('UPDATE crm_assets.quota SET used = 500, "limit" = 1000')
    room.link.rows("UPDATE crm_assets.quota_spent SET calls = 300")
    tick(room)
    (told,) = chat.messages
    assert told.startswith("salesforce: daily_calls: at this rate used up at ")
