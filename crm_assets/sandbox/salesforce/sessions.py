"""Who may call: OAuth and SOAP log-ins, and the sessions they open."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs
from xml.sax.saxutils import escape

from crm_assets.sandbox.http import Reply

from .ids import ORG_ID, suffix
from .keys import Keys

WORD = "sandbox"
JWT_BEARER = "urn:ietf:params:oauth:grant-type:jwt-bearer"
ORG = ORG_ID + suffix(ORG_ID)
_XML = {"Content-Type": "text/xml; charset=utf-8"}


class Sessions:
    """Open sessions; one ends after a time without a call."""

    def __init__(self, lifetime: float = 7200.0) -> None:
        self.lifetime = lifetime
        self._last: dict[str, float] = {}
        self._refresh = WORD
        self._lock = threading.Lock()

    def open(self) -> str:
        token = f"{ORG[:15]}!{secrets.token_urlsafe(48)}"
        with self._lock:
            self._last[token] = time.monotonic()
            dead = [one for one, last in self._last.items() if time.monotonic() - last > self.lifetime]
            for one in dead:
                del self._last[one]
        return token

    def valid(self, token: str) -> bool:
        """Also keeps the session alive. The word ``sandbox`` is a token that never ends."""
        if token == WORD:
            return True
        with self._lock:
            last = self._last.get(token)
            if last is None or time.monotonic() - last > self.lifetime:
                self._last.pop(token, None)
                return False
            self._last[token] = time.monotonic()
            return True

    def left(self, token: str) -> float:
        """Seconds a session has left, without touching it."""
        if token == WORD:
            return self.lifetime
        with self._lock:
            return self._last.get(token, 0.0) + self.lifetime - time.monotonic()

    def end(self, token: str) -> None:
        with self._lock:
            self._last.pop(token, None)


def bearer(headers: Mapping[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() in ("bearer", "oauth") else ""


def _refuse(code: str, description: str, status: int = 400) -> Reply:
    return Reply(status, {"error": code, "error_description": description})


class OAuth:
    """``/services/oauth2`` and the SOAP log-in."""

    def __init__(self, sessions: Sessions, keys: Keys) -> None:
        self._sessions = sessions
        self._keys = keys

    def _form(self, headers: Mapping[str, str], body: bytes) -> dict[str, str]:
        form = {key: values[0] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}
        kind, _, basic = headers.get("authorization", "").partition(" ")
        if kind.lower() == "basic":
            try:
                name, _, word = base64.b64decode(basic).decode().partition(":")
            except (binascii.Error, UnicodeDecodeError):
                name = word = ""
            form |= {"client_id": name, "client_secret": word}
        return form

    def token(self, headers: Mapping[str, str], body: bytes, url: str, user: str) -> Reply:
        """A session for the right words."""
        form = self._form(headers, body)
        grant = form.get("grant_type", "")
        if grant == "client_credentials":
            refused = self._client(form)
        elif grant == "refresh_token":
            refused = self._client(form, secret=False)
            if refused is None and form.get("refresh_token") != WORD:
                refused = _refuse("invalid_grant", "expired access/refresh token")
        elif grant == JWT_BEARER:
            why = self._keys.refusal(form.get("assertion", ""))
            refused = _refuse(*why) if why else None
        elif grant == "password":
            refused = self._client(form)
            if refused is None and not form.get("password", "").startswith(WORD):
                refused = _refuse("invalid_grant", "authentication failure")
        else:
            refused = _refuse("unsupported_grant_type", "grant type not supported")
        return refused or self._opened(url, user)

    def _client(self, form: dict[str, str], secret: bool = True) -> Reply | None:
        if form.get("client_id") != WORD:
            return _refuse("invalid_client_id", "client identifier invalid")
        if (secret or form.get("client_secret")) and form.get("client_secret") != WORD:
            return _refuse("invalid_client", "invalid client credentials")
        return None

    def _opened(self, url: str, user: str) -> Reply:
        identity = f"https://login.salesforce.com/id/{ORG}/{user}"
        issued = str(int(time.time() * 1000))
        mac = hmac.new(WORD.encode(), (identity + issued).encode(), hashlib.sha256).digest()
        body: dict[str, Any] = {
            "access_token": self._sessions.open(),
            "signature": base64.b64encode(mac).decode(),
            "scope": "api",
            "instance_url": url,
            "id": identity,
            "token_type": "Bearer",
            "issued_at": issued,
            "api_instance_url": url,
        }
        return Reply(200, body, {"Cache-Control": "no-store"})

    def introspect(self, headers: Mapping[str, str], body: bytes) -> Reply:
        form = self._form(headers, body)
        if (refused := self._client(form)) is not None:
            return refused
        left = self._sessions.left(form.get("token", ""))
        if left <= 0:
            return Reply(200, {"active": False})
        now = int(time.time())
        return Reply(
            200,
            {
                "active": True,
                "scope": "api",
                "client_id": WORD,
                "token_type": "access_token",
                "exp": now + int(left),
                "iat": now,
                "nbf": now,
            },
        )

    def revoke(self, headers: Mapping[str, str], body: bytes) -> Reply:
        self._sessions.end(self._form(headers, body).get("token", ""))
        return Reply(200)

    def soap(self, body: bytes, url: str, user: str) -> Reply:
        """The log-in by user name and password that older clients use."""
        text = body.decode("utf-8", "replace")
        found = re.search(r"<(?:\w+:)?password>(.*?)</", text, flags=re.DOTALL)
        if found is None or not found[1].strip().startswith(WORD):
            message = "INVALID_LOGIN: Invalid username, password, security token; or user locked out."
            return Reply(
                500,
                _envelope(
                    f"<soapenv:Fault><faultcode>sf:INVALID_LOGIN</faultcode><faultstring>{message}</faultstring>"
                    "<detail><sf:LoginFault><sf:exceptionCode>INVALID_LOGIN</sf:exceptionCode>"
                    f"<sf:exceptionMessage>{message}</sf:exceptionMessage></sf:LoginFault></detail></soapenv:Fault>"
                ),
                _XML,
            )
        server = escape(f"{url}/services/Soap/u/67.0/{ORG}")
        return Reply(
            200,
            _envelope(
                f"<loginResponse><result><passwordExpired>false</passwordExpired><sandbox>true</sandbox>"
                f"<serverUrl>{server}</serverUrl><sessionId>{escape(self._sessions.open())}</sessionId>"
                f"<userId>{user}</userId><userInfo><organizationId>{ORG}</organizationId>"
                f"<sessionSecondsValid>{int(self._sessions.lifetime)}</sessionSecondsValid></userInfo>"
                "</result></loginResponse>"
            ),
            _XML,
        )


def _envelope(inside: str) -> bytes:
    return (
        '<?xml version="1.0" encoding="UTF-8"?><soapenv:Envelope '
        'xmlns:soapenv="http://schemas.xmlsoap.org/soap/envelope/" xmlns="urn:partner.soap.sforce.com" '
        f'xmlns:sf="urn:fault.partner.soap.sforce.com"><soapenv:Body>{inside}</soapenv:Body></soapenv:Envelope>'
    ).encode()
