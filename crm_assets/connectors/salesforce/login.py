"""What is sent to the token endpoint, by the credentials that a connection has.

Sources (Salesforce Help): "OAuth 2.0 JWT Bearer Flow for Server-to-Server Integration", "OAuth 2.0 Refresh Token
Flow", "OAuth 2.0 Client Credentials Flow".
"""

from __future__ import annotations

import time
from pathlib import Path
from urllib.parse import urlsplit

from crm_assets.connectors.base import ConnectionConfig
from crm_assets.core.errors import ConfigurationError

_JWT_SECONDS = 180
_PRODUCTION, _SANDBOX = "https://login.salesforce.com", "https://test.salesforce.com"


def form(config: ConnectionConfig) -> dict[str, str]:
    """The fields of the request: JWT bearer with a private key, else a refresh token, else client credentials."""
    client_id = config.secret("client_id")
    if "private_key" in config.credentials:
        return {"grant_type": "urn:ietf:params:oauth:grant-type:jwt-bearer", "assertion": assertion(config, client_id)}
    own = {"client_id": client_id, "client_secret": config.secret("client_secret")}
    if "refresh_token" in config.credentials:
        return {"grant_type": "refresh_token", "refresh_token": config.secret("refresh_token"), **own}
    return {"grant_type": "client_credentials", **own}


def assertion(config: ConnectionConfig, client_id: str) -> str:
    """A signed statement of who we are, good for three minutes. The key is PEM text, or the path of a file with it."""
    # Late: it brings all of cryptography, which the other flows do without.
    import jwt

    given = config.secret("private_key")
    variable = config.credentials["private_key"]
    claims = {
        "iss": client_id,
        "sub": config.secret("username"),
        "aud": audience(config),
        "exp": int(time.time()) + _JWT_SECONDS,
    }
    try:
        # Environment files cannot hold line ends and write them as two characters.
        key = given.replace("\\n", "\n") if "-----BEGIN" in given else Path(given).read_text(encoding="ascii")
        return jwt.encode(claims, key, algorithm="RS256")
    except (OSError, ValueError, jwt.InvalidKeyError) as error:
        raise ConfigurationError(
            f"connection {config.name}: {variable} (credentials.private_key in defs.yaml) holds neither an RSA private "
            f"key in PEM form nor the path of a file with one ({type(error).__name__})"
        ) from error


def audience(config: ConnectionConfig) -> str:
    """Whom the statement is for: production, or the vendor's sandboxes, which their My Domain tells."""
    if named := config.options.get("jwt_audience"):
        return str(named)
    host = urlsplit(config.url).hostname or ""
    return _SANDBOX if ".sandbox." in host or host == "test.salesforce.com" else _PRODUCTION
