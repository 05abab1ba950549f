"""Outbound Messages: SOAP notifications of created and edited records, repeated until they are acknowledged.

Source: SOAP API Developer Guide, "Outbound Messaging". What this org's workflow rules send is the id of the record.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any
from xml.sax.saxutils import escape

from crm_assets.sandbox.push import Event, Target
from crm_assets.sandbox.store import numbers

from . import ids
from .sessions import ORG
from .store import Change

CHANGES = frozenset({"create", "update"})
"""What starts a workflow rule: a deletion does not."""

_ACK = re.compile(rb"<(?:\w+:)?Ack>\s*true\s*</(?:\w+:)?Ack>")
_NOTIFICATION = "04l"
_ACTION = ids.make("04k", 1)
_numbers = numbers()


def event(change: Change) -> Event:
    """The notification keeps its id however often it is sent."""
    return Event(change.object, (ids.make(_NOTIFICATION, next(_numbers)), change.object, change.record_id))


class OutboundForm:
    """Up to a hundred notifications in an envelope. What is not acknowledged does not hold back what follows."""

    ordered = False
    batch = 100
    answer_seconds = 10.0

    def request(self, target: Target, events: Sequence[Any], attempt: int) -> tuple[bytes, dict[str, str]]:
        notifications = "".join(
            f'<Notification><Id>{own}</Id><sObject xsi:type="sf:{escape(name)}" '
            f'xmlns:sf="urn:sobject.enterprise.soap.sforce.com"><sf:Id>{record_id}</sf:Id></sObject></Notification>'
            for own, name, record_id in events
        )
        body = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" '
            'xmlns:xsd="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">'
            '<soapenv:Body><notifications xmlns="http://soap.sforce.com/2005/09/outbound">'
            f'<OrganizationId>{ORG}</OrganizationId><ActionId>{_ACTION}</ActionId><SessionId xsi:nil="true"/>'
            "<EnterpriseUrl>http://127.0.0.1/services/Soap/c/67.0</EnterpriseUrl>"
            f"<PartnerUrl>http://127.0.0.1/services/Soap/u/67.0</PartnerUrl>{notifications}"
            "</notifications></soapenv:Body></soapenv:Envelope>"
        )
        return body.encode(), {"Content-Type": "text/xml; charset=utf-8", "SOAPAction": '""'}

    def taken(self, answer: bytes) -> bool:
        return _ACK.search(answer) is not None

    def again(self, status: int) -> bool:
        return True

    def pauses(self) -> Iterator[float]:
        """Growing; the vendor's day is a quarter of an hour here."""
        yield from (min(0.1 * 2**number, 60.0) for number in range(20))
