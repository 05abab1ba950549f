"""Who may call: the token of a private app, and OAuth tokens that end after a fixed time."""

from __future__ import annotations

import json
import secrets
import threading
import time
import uuid
from collections.abc import Mapping
from urllib.parse import parse_qs

from crm_assets.sandbox.http import Reply

from .errors import CORRELATION, PORTAL, ApiError
from .scopes import Scopes
from .wire import json_reply

WORD = "sandbox"
LIFE_SECONDS = 1800.0
_USER = 7001
_TOKEN_INFO = "v2/private-apps/get/access-token-info"


class Sessions:
    """OAuth access tokens. The word ``sandbox`` is the token of a private app, which never ends."""

    def __init__(self, lifetime: float) -> None:
        self.lifetime = min(lifetime, LIFE_SECONDS)
        self._ends: dict[str, float] = {}
        self._lock = threading.Lock()

    def open(self) -> str:
        token = secrets.token_urlsafe(48)
        with self._lock:
            self._ends[token] = time.monotonic() + self.lifetime
        return token

    def end(self, token: str) -> None:
        with self._lock:
            self._ends.pop(token, None)

    def left(self, token: str) -> float | None:
        """Seconds a token has left, not above 0 if it has ended; None for an unknown one."""
        if token == WORD:
            return self.lifetime
        with self._lock:
            ends = self._ends.get(token)
        return None if ends is None else ends - time.monotonic()

    def refusal(self, headers: Mapping[str, str]) -> ApiError | None:
        """Why a call may not go on."""
        left = self.left(bearer(headers))
        if left is None:
            return unauthorized()
        return expired() if left <= 0 else None


def bearer(headers: Mapping[str, str]) -> str:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip() if kind.lower() == "bearer" else ""


def is_private(headers: Mapping[str, str]) -> bool:
    return bearer(headers) == WORD


def unauthorized() -> ApiError:
    message = (
        "Authentication credentials not found. This API supports OAuth 2.0 authentication and you can find more details"
        " at https://developers.hubspot.com/docs/methods/auth/oauth-overview"
    )
    return ApiError(401, message, "INVALID_AUTHENTICATION")


def expired() -> ApiError:
    return ApiError(401, "The OAuth token used to make this call expired.", "EXPIRED_AUTHENTICATION")


def _refuse(status: str, message: str) -> Reply:
    correlation = str(uuid.uuid4())
    return json_reply(
        {"status": status, "message": message, "correlationId": correlation}, 400, {CORRELATION: correlation}
    )


class OAuth:
    """``/oauth/v1``, ``/oauth/v3`` and the paths with dates."""

    def __init__(self, sessions: Sessions, scopes: Scopes) -> None:
        self._sessions = sessions
        self._scopes = scopes

    def answer(self, method: str, resource: str, body: bytes, plain: bool) -> Reply:
        """``resource`` is what follows the version, ``plain`` says that it is version 1, which tells less."""
        if method == "POST" and resource == _TOKEN_INFO:
            return self._private(body)
        form = {key: values[0] for key, values in parse_qs(body.decode("utf-8", "replace")).items()}
        if method == "POST" and resource == "token":
            return self._token(form, plain)
        if method == "POST" and resource == "token/introspect":
            return self._introspect(form)
        if method == "POST" and resource == "token/revoke":
            self._sessions.end(form.get("token", ""))
            return Reply(204)
        if method == "GET" and resource.startswith("access-tokens/"):
            token = resource.removeprefix("access-tokens/")
            left = self._sessions.left(token)
            if left is None or left <= 0:
                return ApiError(404, "Access token not found").reply()
            return json_reply({"token": token, "expires_in": int(left), "token_type": "access"} | self._about())
        return ApiError(404, "resource not found").reply()

    def _token(self, form: Mapping[str, str], plain: bool) -> Reply:
        grant = form.get("grant_type")
        if grant not in ("authorization_code", "refresh_token"):
            return _refuse("BAD_GRANT_TYPE", "missing or unknown grant type")
        if form.get("client_id") != WORD:
            return _refuse("BAD_CLIENT_ID", "missing or unknown client id")
        if form.get("client_secret") != WORD:
            return _refuse("BAD_CLIENT_SECRET", "missing or invalid client secret")
        if grant == "refresh_token" and form.get("refresh_token") != WORD:
            return _refuse("BAD_REFRESH_TOKEN", "missing or invalid refresh token")
        if grant == "authorization_code" and form.get("code") != WORD:
            return _refuse("BAD_AUTH_CODE", "missing or unknown auth code")
        body = {
            "access_token": self._sessions.open(),
            "refresh_token": WORD,
            "expires_in": int(self._sessions.lifetime),
            "token_type": "bearer",
        }
        return json_reply(body if plain else body | self._about() | {"token_use": "access_token"})

    def _introspect(self, form: Mapping[str, str]) -> Reply:
        left = self._sessions.left(form.get("token", ""))
        if left is None or left <= 0:
            return json_reply({"active": False})
        return json_reply({"active": True, "token_use": "access_token", "client_id": WORD} | self._about())

    def _private(self, body: bytes) -> Reply:
        """Of a private app's token: what it is for."""
        try:
            token = json.loads(body)["tokenKey"]
        except (ValueError, KeyError, TypeError):
            return ApiError(400, "Invalid input JSON: tokenKey is needed", "VALIDATION_ERROR").reply()
        if token != WORD:
            return ApiError(404, "Access token not found").reply()
        scopes = sorted(self._scopes.granted)
        return json_reply({"userId": _USER, "hubId": PORTAL, "appId": 1160452, "scopes": scopes})

    def _about(self) -> dict[str, object]:
        return {"hub_id": PORTAL, "user_id": _USER, "scopes": sorted(self._scopes.granted)}
