"""The certificates of connected apps: who may log in with a signed statement."""

from __future__ import annotations

import time
from typing import Any

import jwt

from .store import Store

AUDIENCES = ("https://login.salesforce.com", "https://test.salesforce.com")
_LONGEST_SECONDS = 300
"""A statement must end within about three minutes; clocks may differ a little."""


class Keys:
    """Public keys by the app's consumer key, kept beside the records."""

    def __init__(self, store: Store) -> None:
        self._store = store
        with store.setup() as db:
            db.execute("CREATE TABLE IF NOT EXISTS _keys (client_id TEXT PRIMARY KEY, pem TEXT)")

    def register(self, client_id: str, pem: str) -> None:
        with self._store.setup() as db:
            db.execute("INSERT OR REPLACE INTO _keys VALUES (?, ?)", (client_id, pem))

    def refusal(self, assertion: str) -> tuple[str, str] | None:
        """Why a statement opens no session: error and description; None if it does."""
        try:
            claims: dict[str, Any] = jwt.decode(assertion, options={"verify_signature": False})
            pem = self._pem(str(claims.get("iss")))
            if pem is None:
                return "invalid_client_id", "client identifier invalid"
            needed: Any = {"require": ["exp", "sub", "aud"]}
            claims = jwt.decode(assertion, pem, algorithms=["RS256"], audience=AUDIENCES, options=needed)
        except jwt.InvalidAudienceError:
            return "invalid_grant", "audience is invalid"
        except jwt.ExpiredSignatureError:
            return "invalid_grant", "assertion has expired"
        except jwt.PyJWTError:
            return "invalid_grant", "invalid assertion"
        if claims["exp"] > time.time() + _LONGEST_SECONDS:
            return "invalid_grant", "assertion is valid for too long"
        if not self._known(str(claims["sub"])):
            return "invalid_grant", "user hasn't approved this consumer"
        return None

    def _pem(self, client_id: str) -> str | None:
        row = self._store.reader.execute("SELECT pem FROM _keys WHERE client_id = ?", (client_id,)).fetchone()
        return str(row[0]) if row else None

    def _known(self, username: str) -> bool:
        row = self._store.reader.execute('SELECT 1 FROM "User" WHERE "Username" = ?', (username,)).fetchone()
        return row is not None or username == "sandbox"
