"""OAuth 2.0, machine to machine: a signed assertion is exchanged for a token that lives an hour."""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any
from urllib.parse import parse_qs, urlsplit

import jwt

from crm_assets.sandbox.http import Reply, Request

from .certificates import Certificates
from .signatures import WORD

PATH = "/services/rest/auth/oauth2/v1/token"
LIFETIME_SECONDS = 3600.0
_ALGORITHMS = ["PS256", "PS384", "PS512", "ES256", "ES384", "ES512"]
_ASSERTION = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_SCOPES = frozenset({"restlets", "rest_webservices", "suite_analytics"})
_HOST = ".suitetalk.api.netsuite.com"


class Tokens:
    """Gives out tokens and knows which are alive. The word ``sandbox`` is a token that never ends."""

    def __init__(self, certificates: Certificates, lifetime_seconds: float) -> None:
        self._certificates = certificates
        self._lifetime = min(lifetime_seconds, LIFETIME_SECONDS)
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def valid(self, token: str) -> bool:
        with self._lock:
            return token == WORD or self._ends.get(token, 0.0) > time.monotonic()

    def grant(self, request: Request) -> Reply:
        """The reply to ``POST …/token``."""
        form = {name: values[0] for name, values in parse_qs(request.body.decode("utf-8", "replace")).items()}
        if form.get("grant_type") != "client_credentials":
            return _refuse("unsupported_grant_type")
        if form.get("client_assertion_type") != _ASSERTION or "client_assertion" not in form:
            return _refuse("invalid_request")
        refusal = self._check(form["client_assertion"], request)
        if refusal:
            return _refuse(refusal)
        token = secrets.token_urlsafe(48)
        with self._lock:
            now = time.monotonic()
            self._ends = {one: end for one, end in self._ends.items() if end > now}
            self._ends[token] = now + self._lifetime
        body = {"access_token": token, "expires_in": str(int(self._lifetime)), "token_type": "bearer"}
        return Reply(200, body, {"Cache-Control": "no-store"})

    def _check(self, assertion: str, request: Request) -> str | None:
        """What is wrong with an assertion; None if nothing is."""
        try:
            key = self._certificates.find(str(jwt.get_unverified_header(assertion).get("kid")))
            if key is None:
                return "invalid_client"
            claims: dict[str, Any] = jwt.decode(
                assertion,
                key,  # type: ignore[arg-type]  # only keys of the two kinds it takes are registered
                algorithms=_ALGORITHMS,
                options={"require": ["iss", "aud", "iat", "exp"], "verify_aud": False},
            )
        except jwt.PyJWTError:
            return "invalid_grant"
        if claims["iss"] != WORD:
            return "invalid_client"
        if not 0 < claims["exp"] - claims["iat"] <= LIFETIME_SECONDS:
            return "invalid_grant"
        if not _addressed(claims["aud"], request):
            return "invalid_grant"
        scope = claims.get("scope", [])
        scopes = set(scope if isinstance(scope, list) else str(scope).replace(",", " ").split())
        return None if scopes and scopes <= _SCOPES and "rest_webservices" in scopes else "invalid_scope"


def _addressed(audience: Any, request: Request) -> bool:
    """Whether the assertion is meant for this address, or for the account's at the vendor."""
    own = urlsplit(request.url)
    for one in audience if isinstance(audience, list) else [audience]:
        parts = urlsplit(str(one))
        if parts.path.endswith(PATH) and (parts.netloc == own.netloc or parts.netloc.endswith(_HOST)):
            return True
    return False


def _refuse(code: str) -> Reply:
    return Reply(400, {"error": code}, {"Cache-Control": "no-store"})
