"""The certificates that a client may sign its assertions with, by their ids."""

from __future__ import annotations

import sqlite3
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_public_key,
)

from .store import Store

KID = "sandbox"
KEY_FILE = "netsuite-key.pem"


class Certificates:
    """Public keys by certificate id, kept beside the records.

    At the first start a pair is made for development: its certificate id is ``sandbox``, its private key is the file
    ``netsuite-key.pem`` of the data folder. A key of one's own is registered with the control API:
    ``POST /_sandbox/netsuite/certificates`` with ``{"kid", "public_key"}``, the key in PEM.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self.key_file = store.path.with_name(KEY_FILE)
        with store.setup() as db:
            db.execute("CREATE TABLE IF NOT EXISTS _certificate (kid TEXT PRIMARY KEY, public_key TEXT)")
            if not self.key_file.exists():
                _put(db, KID, _develop(self.key_file))

    def find(self, kid: str) -> PublicKeyTypes | None:
        row = self._store.reader.execute("SELECT public_key FROM _certificate WHERE kid = ?", (kid,)).fetchone()
        return None if row is None else load_pem_public_key(row[0].encode())

    def register(self, kid: str, public_key: str) -> None:
        """Adds or replaces a key; ValueError if it is none that the vendor takes."""
        if not kid:
            raise ValueError("kid: the certificate needs an id")
        key = load_pem_public_key(public_key.encode())
        if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            raise ValueError("public_key: an RSA or an elliptic-curve key is needed")
        with self._store.setup() as db:
            _put(db, kid, public_key)

    @property
    def ids(self) -> list[str]:
        return [row[0] for row in self._store.reader.execute("SELECT kid FROM _certificate ORDER BY kid")]


def _put(db: sqlite3.Connection, kid: str, public_key: str) -> None:
    db.execute("INSERT OR REPLACE INTO _certificate VALUES (?, ?)", (kid, public_key))


def _develop(path: Path) -> str:
    """A new pair: the private key goes to the file, the public one is returned."""
    key = ec.generate_private_key(ec.SECP256R1())
    path.touch(mode=0o600)
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()
