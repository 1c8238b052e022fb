"""Signing keys: Ed25519 private keys (RFC 8037) as PEM files in one folder."""

import base64
import hashlib
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import orjson
import structlog
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)

PUBLISH_S = 60.0
"""Age at which a key begins to sign: verifiers have seen it by then."""

LOOK_AGAIN_S = 10.0
"""Longest time for which a process does not notice a change of the folder."""

_LOOK_AGAIN_FOR_UNKNOWN_S = 1.0
_log = structlog.get_logger(__name__)


class NoSigningKey(RuntimeError):
    """The folder holds no usable key."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """One key; `id` is the thumbprint of its public half (RFC 7638)."""

    id: str
    private: Ed25519PrivateKey
    public: Ed25519PublicKey
    written_at: float

    def jwk(self) -> dict[str, str]:
        """Return the public half as a JSON Web Key."""
        return {**_members(self.public), "kid": self.id, "use": "sig", "alg": "EdDSA"}


class SigningKeys:
    """The keys of a folder, read again while the program runs.

    A file that is added is published at once and signs later (see `key_rotation`). A key whose
    file is removed is withdrawn: its tokens end within ten seconds.
    """

    def __init__(
        self, folder: Path, *, publish_s: float = PUBLISH_S, clock: Callable[[], float] = time.time
    ) -> None:
        """Store the folder; `open` reads it.

        Args:
            folder: Holds `*.pem`, readable by this process alone.
            publish_s: Age at which a key begins to sign.
            clock: Seconds since 1970, as the files' own times.
        """
        self._folder = folder
        self._publish_s = publish_s
        self._clock = clock
        self._keys: dict[str, SigningKey] = {}
        self._read_at = 0.0

    def open(self) -> None:
        """Read the keys; make the first one where there is none, once among all processes.

        Raises:
            NoSigningKey: A file is not an Ed25519 private key.
        """
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not any(self._folder.glob("*.pem")):
            write_key(self._folder / "first.pem")
        self._read()

    def current(self) -> SigningKey:
        """Return the key to sign with: the newest that verifiers have had time to see."""
        self._read_when_older_than(LOOK_AGAIN_S)
        by_age = sorted(self._keys.values(), key=lambda key: key.written_at)
        ripe = [key for key in by_age if self._clock() - key.written_at >= self._publish_s]
        return ripe[-1] if ripe else by_age[0]

    def find(self, key_id: str) -> SigningKey | None:
        """Return a key by its id, looking into the folder at most once a second for a new one."""
        is_known = key_id in self._keys
        self._read_when_older_than(LOOK_AGAIN_S if is_known else _LOOK_AGAIN_FOR_UNKNOWN_S)
        return self._keys.get(key_id)

    def jwks(self) -> dict[str, list[dict[str, str]]]:
        """Return the JSON Web Key Set of all public halves (RFC 7517)."""
        self._read_when_older_than(LOOK_AGAIN_S)
        return {"keys": [key.jwk() for key in self._keys.values()]}

    def _read_when_older_than(self, seconds: float) -> None:
        if self._clock() - self._read_at < seconds:
            return
        try:
            self._read()
        except NoSigningKey as error:  # just removed, or by mistake: go on with what we have
            self._read_at = self._clock()
            _log.error("signing keys unreadable", error=str(error))

    def _read(self) -> None:
        keys = load_keys(self._folder).values()
        if not keys:
            raise NoSigningKey(f"{self._folder} holds no signing key (*.pem).")
        self._keys = {key.id: key for key in keys}
        self._read_at = self._clock()


def load_keys(folder: Path) -> dict[Path, SigningKey]:
    """Return the keys of a folder by their files.

    Raises:
        NoSigningKey: A file is not an Ed25519 private key.
    """
    return {path: _load(path) for path in sorted(folder.glob("*.pem"))}


def write_key(path: Path) -> None:
    """Write a new key whole or not at all, mode 0600; a process that was faster wins."""
    pem = Ed25519PrivateKey.generate().private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()
    )
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".key-") as file:
        file.write(pem)
        file.flush()
        os.fsync(file.fileno())
        if os.geteuid() == 0:  # an operator's root writes for the folder's owner
            owner = path.parent.stat()
            os.fchown(file.fileno(), owner.st_uid, owner.st_gid)
        try:
            path.hardlink_to(file.name)
        except FileExistsError:
            return


def _load(path: Path) -> SigningKey:
    try:
        private = load_pem_private_key(path.read_bytes(), password=None)
        written_at = path.stat().st_mtime
    except (OSError, ValueError, TypeError) as error:
        raise NoSigningKey(f"{path} cannot be read as a private key.") from error
    if not isinstance(private, Ed25519PrivateKey):
        raise NoSigningKey(f"{path} is not an Ed25519 key.")
    public = private.public_key()
    return SigningKey(_thumbprint(public), private, public, written_at)


def _members(public: Ed25519PublicKey) -> dict[str, str]:
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return {"crv": "Ed25519", "kty": "OKP", "x": _base64url(raw)}


def _thumbprint(public: Ed25519PublicKey) -> str:
    return _base64url(hashlib.sha256(orjson.dumps(_members(public))).digest())


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
