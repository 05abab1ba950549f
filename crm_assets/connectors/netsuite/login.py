"""What is sent to the token endpoint: a statement of who we are, signed with the key of an uploaded certificate.

Source: "OAuth 2.0 Client Credentials Flow": algorithms PS256 and ES256 to ES512, at most 60 minutes of life.
"""

from __future__ import annotations

import time
from pathlib import Path

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from crm_assets.connectors.base import ConnectionConfig
from crm_assets.core.errors import ConfigurationError

_SECONDS = 300
_CURVES = {256: "ES256", 384: "ES384", 521: "ES512"}


def form(config: ConnectionConfig, token_url: str) -> dict[str, str]:
    """The fields of the request; ConfigurationError if the key cannot be used."""
    return {
        "grant_type": "client_credentials",
        "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        "client_assertion": _assertion(config, token_url),
    }


def _assertion(config: ConnectionConfig, token_url: str) -> str:
    given = config.secret("private_key")
    now = int(time.time())
    claims = {
        "iss": config.secret("client_id"),
        "scope": ["rest_webservices"],
        "aud": token_url,
        "iat": now,
        "exp": now + _SECONDS,
    }
    try:
        # Environment files cannot hold line ends and write them as two characters.
        text = given.replace("\\n", "\n") if "-----BEGIN" in given else Path(given).read_text(encoding="ascii")
        key = load_pem_private_key(text.encode("ascii"), password=None)
    except (OSError, ValueError, TypeError) as error:
        raise _unusable(config, type(error).__name__) from error
    match key:
        case ec.EllipticCurvePrivateKey() if key.key_size in _CURVES:
            algorithm = _CURVES[key.key_size]
        case rsa.RSAPrivateKey():
            algorithm = "PS256"
        case _:
            raise _unusable(config, type(key).__name__)
    return jwt.encode(claims, key, algorithm, headers={"kid": config.secret("certificate_id")})


def _unusable(config: ConnectionConfig, found: str) -> ConfigurationError:
    return ConfigurationError(
        f"connection {config.name}: {config.credentials['private_key']} (credentials.private_key in defs.yaml) holds "
        f"neither an RSA or EC private key in PEM form without a password nor the path of a file with one ({found})"
    )
