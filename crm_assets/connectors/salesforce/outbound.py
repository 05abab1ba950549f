"""Outbound Messages: SOAP notifications that a workflow rule or a flow sends.

Source: SOAP API Developer Guide, "Outbound Messaging": up to a hundred notifications in one message, each with an id
that stays the same when it is sent again; it is, until the reply acknowledges the message.
"""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from urllib.parse import parse_qs, urlsplit
from xml.etree import ElementTree

from crm_assets.core.model import Change

PARAMETER = "key"
_OUTBOUND = "{http://soap.sforce.com/2005/09/outbound}"
_TYPE = "{http://www.w3.org/2001/XMLSchema-instance}type"
ACKNOWLEDGED = (
    b'<?xml version="1.0" encoding="UTF-8"?>'
    b'<soapenv:Envelope xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/"><soapenv:Body>'
    b'<notificationsResponse xmlns="http://soap.sforce.com/2005/09/outbound"><Ack>true</Ack></notificationsResponse>'
    b"</soapenv:Body></soapenv:Envelope>"
)


def is_one(body: bytes) -> bool:
    """Whether a delivery is XML; the generic form is JSON."""
    return body.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")


def parse(secret: str, organization: str | None, body: bytes, url: str) -> Sequence[Change]:
    """PermissionError: the URL's key is wrong, or another org sends it (if ours is known). ValueError: malformed.

    The vendor signs nothing: what authenticates the sender is the secret in the address that it was given.
    """
    given = parse_qs(urlsplit(url).query).get(PARAMETER, [""])[0]
    if not hmac.compare_digest(given.encode(), secret.encode()):
        raise PermissionError(f"the address lacks ?{PARAMETER}= with the webhook secret")
    if b"<!DOCTYPE" in body or b"<!ENTITY" in body:
        raise ValueError("the message has a document type, which SOAP forbids")
    try:
        found = ElementTree.fromstring(body).find(f".//{_OUTBOUND}notifications")
    except ElementTree.ParseError as error:
        raise ValueError(f"the message is no XML: {error}") from error
    if found is None:
        raise ValueError("the message holds no notifications")
    sender = found.findtext(f"{_OUTBOUND}OrganizationId", "")
    if organization is not None and sender[:15] != organization[:15]:
        raise PermissionError("the message comes from another org")
    return [_change(one) for one in found.iter(f"{_OUTBOUND}Notification")]


def _change(notification: ElementTree.Element) -> Change:
    record = notification.find(f"{_OUTBOUND}sObject")
    event_id = notification.findtext(f"{_OUTBOUND}Id", "")
    kind = "" if record is None else record.get(_TYPE, "").rpartition(":")[2]
    # The namespace of its fields depends on whether the enterprise or the partner WSDL was chosen.
    fields = {} if record is None else {field.tag.rpartition("}")[2]: field.text or "" for field in record}
    if not event_id or not kind or not fields.get("Id"):
        raise ValueError("a notification lacks its id, or its record's type or id")
    return Change(event_id, kind, fields["Id"], "outbound message")
