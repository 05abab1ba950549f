"""Events: only what is signed, lately, with our secret is believed; a repetition is known by its id."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from crm_assets.core.model import Change
from crm_assets_tests.contract.crms import Crm, body_of

URL = "https://relay.example.com/webhooks/crm"


def _parse(
    crm: Crm, body: bytes, *, secret: str = "sandbox", signed: bytes | None = None, age: float = 0
) -> Sequence[Change]:
    headers = crm.vendor.deliver(secret, URL, body if signed is None else signed, time.time() - age)
    return crm.connector.parse_event(headers, body, URL)


def test_a_signed_event_names_its_record(crm: Crm) -> None:
    (change,) = _parse(crm, body_of(crm.vendor.event("551")))
    assert (change.object, change.record_id) == (crm.vendor.object, "551") and change.event_id


def test_a_replayed_event_has_the_same_id(crm: Crm) -> None:
    body = body_of(crm.vendor.event("551"))
    (first,), (again,) = _parse(crm, body, age=60), _parse(crm, body)
    assert first.event_id == again.event_id


def test_a_forged_event_is_refused(crm: Crm) -> None:
    body = body_of(crm.vendor.event("551"))
    with pytest.raises(PermissionError):
        _parse(crm, body, secret="guessed")
    with pytest.raises(PermissionError):
        _parse(crm, body_of(crm.vendor.event("552")), signed=body)
    with pytest.raises(PermissionError):
        crm.connector.parse_event({}, body, URL)


def test_an_old_signature_is_refused(crm: Crm) -> None:
    body = body_of(crm.vendor.event("551"))
    _parse(crm, body, age=200)
    with pytest.raises(PermissionError):
        _parse(crm, body, age=400)
    with pytest.raises(PermissionError):
        _parse(crm, body, age=-400)


@pytest.mark.parametrize("body", [b"", b"{", b'{"events": [{}]}', b"[{}]", b"null", b'"x"', b"\xff"])
def test_what_is_signed_but_malformed_is_told_apart(crm: Crm, body: bytes) -> None:
    with pytest.raises(ValueError):
        _parse(crm, body)
