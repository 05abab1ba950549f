"""Deliveries of a script in the account: NetSuite itself sends nothing over REST.

They are signed as in the generic form (``connectors.signed_form``). The body is that form, or of one change
``{"event", "recordType", "id", "at", "account"}``. A script posts each change once and tells times to the second;
so only an ``eventId`` makes two posts the same, and without one two changes within a second are two.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from crm_assets.connectors import signed_form
from crm_assets.connectors.netsuite.kinds import told_as
from crm_assets.connectors.signed_form import words
from crm_assets.core.model import Change


def parse(secret: str, headers: Mapping[str, str], body: bytes) -> Sequence[Change]:
    """PermissionError: no, a wrong or an old signature. ValueError: signed, but not of this form."""
    signed_form.verify(secret, headers, body)
    delivery = json.loads(body)
    if isinstance(delivery, dict) and "recordType" in delivery:
        return _changes(delivery)
    return signed_form.changes(delivery)


def _changes(event: Mapping[str, Any]) -> Sequence[Change]:
    """One for each object that the record is part of."""
    try:
        record_type, record_id, what, at = (words(event, name) for name in ("recordType", "id", "event", "at"))
        moment = datetime.fromisoformat(at)
    except (KeyError, TypeError) as error:
        raise ValueError(f"the delivery is not of the documented form: {error}") from error
    if not record_id.isascii() or not record_id.isdecimal():
        raise ValueError("a record's id in the event is no number")
    named = words(event, "eventId") if "eventId" in event else uuid.uuid4().hex
    return [Change(f"{named}:{name}", name, record_id, what, moment) for name in told_as(record_type)]
