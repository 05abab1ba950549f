"""Token-based authentication: OAuth 1.0a with HMAC-SHA256 (RFC 5849), everything secret being the word ``sandbox``."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import time
from collections.abc import Mapping, Sequence
from urllib.parse import quote, unquote, urlsplit

from crm_assets.sandbox.http import Request

WORD = "sandbox"
_SKEW_SECONDS = 300
_PAIR = re.compile(r'(\w+)="([^"]*)"')
_NEEDED = frozenset({"realm", "oauth_consumer_key", "oauth_token", "oauth_nonce", "oauth_timestamp",
                     "oauth_signature_method", "oauth_signature"})  # fmt: skip


class Signatures:
    """Checks signatures; a nonce counts once."""

    def __init__(self) -> None:
        self._seen: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def valid(self, request: Request) -> bool:
        """Whether the call is signed as it must be. Any account may stand in the realm: there is only this one."""
        given = header(request.headers.get("authorization", ""))
        if not given.keys() >= _NEEDED or not given["realm"]:
            return False
        if given["oauth_consumer_key"] != WORD or given["oauth_token"] != WORD:
            return False
        # SHA-1 has been refused since 2023.1.
        if given["oauth_signature_method"] != "HMAC-SHA256":
            return False
        expected = sign(request.method, request.url, request.sent, request.pairs, given)
        return hmac.compare_digest(expected, given["oauth_signature"]) and self._fresh(given)

    def _fresh(self, given: Mapping[str, str]) -> bool:
        stamp, now = given["oauth_timestamp"], time.time()
        if not stamp.isdecimal() or abs(int(stamp) - now) > _SKEW_SECONDS:
            return False
        key = (given["oauth_nonce"], stamp)
        with self._lock:
            if key in self._seen:
                return False
            self._seen[key] = now
            if len(self._seen) % 1000 == 0:
                self._seen = {one: at for one, at in self._seen.items() if now - at <= 2 * _SKEW_SECONDS}
            return True


def header(text: str) -> dict[str, str]:
    """The parameters of an ``Authorization: OAuth …`` header; empty if it is another one."""
    kind, _, rest = text.partition(" ")
    return {name: unquote(value) for name, value in _PAIR.findall(rest)} if kind.lower() == "oauth" else {}


def sign(method: str, url: str, sent: str, pairs: Sequence[tuple[str, str]], given: Mapping[str, str]) -> str:
    """The signature of a call. Every ``oauth_`` parameter counts, also one such as ``oauth_body_hash``; the JSON body
    does not."""
    params = [(_escape(name), _escape(value)) for name, value in pairs]
    params += [
        (_escape(name), _escape(value)) for name, value in given.items() if name not in ("realm", "oauth_signature")
    ]
    parts = urlsplit(url)
    host = parts.netloc.lower().removesuffix(":443" if parts.scheme == "https" else ":80")
    joined = "&".join(f"{name}={value}" for name, value in sorted(params))
    base = "&".join(map(_escape, (method.upper(), f"{parts.scheme}://{host}{sent}", joined)))
    digest = hmac.new(f"{WORD}&{WORD}".encode(), base.encode(), hashlib.sha256).digest()
    return base64.b64encode(digest).decode()


def _escape(text: str) -> str:
    return quote(text, safe="~")
