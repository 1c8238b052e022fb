"""Secrets of webhooks and the signatures made with them.

Signatures follow Standard Webhooks (github.com/standard-webhooks/standard-webhooks): HMAC-SHA256
over `id.timestamp.body`. Secrets are shown once and stored sealed (AES-GCM), so that nobody who
reads the database alone can sign.
"""

import base64
import hashlib
import hmac
import secrets
from uuid import UUID

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

MARK = "whsec_"
_SECRET_BYTES = 32
_NONCE_BYTES = 12


class SecretUnreadable(Exception):
    """A secret was sealed under another key: `GATEWAY_REFRESH_SECRET` has changed since."""


class SecretSeal:
    """Seals secrets for the database; each opens for its own webhook only."""

    def __init__(self, key_material: str) -> None:
        """Derive the key from a secret of the gateway's (HKDF, RFC 5869)."""
        derivation = HKDF(SHA256(), length=32, salt=None, info=b"polyplane webhook secrets")
        self._cipher = AESGCM(derivation.derive(key_material.encode()))

    def close(self, webhook_id: UUID, secret: bytes) -> bytes:
        """Return a secret as it may be stored."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        return nonce + self._cipher.encrypt(nonce, secret, webhook_id.bytes)

    def open(self, webhook_id: UUID, sealed: bytes) -> bytes:
        """Return a stored secret.

        Raises:
            SecretUnreadable: It was sealed under another key, or for another webhook.
        """
        nonce, ciphertext = sealed[:_NONCE_BYTES], sealed[_NONCE_BYTES:]
        try:
            return self._cipher.decrypt(nonce, ciphertext, webhook_id.bytes)
        except InvalidTag as error:
            raise SecretUnreadable from error


def new_secret() -> bytes:
    """Return 256 random bits."""
    return secrets.token_bytes(_SECRET_BYTES)


def shown(secret: bytes) -> str:
    """Return a secret as its owner gets it."""
    return MARK + base64.b64encode(secret).decode()


def signed_headers(secret: bytes, message_id: str, timestamp_s: int, body: str) -> dict[str, str]:
    """Return the headers that let a receiver check who sent a body, and when."""
    message = f"{message_id}.{timestamp_s}.{body}".encode()
    signature = base64.b64encode(hmac.new(secret, message, hashlib.sha256).digest()).decode()
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(timestamp_s),
        "webhook-signature": f"v1,{signature}",
    }
