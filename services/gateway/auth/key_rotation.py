"""Rotation of signing keys: a new one is published before it signs, an old one outlives its tokens.

Nothing is told to the running gateways: they look into the folder.
"""

import time
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from services.gateway.auth.keys import (
    LOOK_AGAIN_S,
    PUBLISH_S,
    SigningKey,
    load_keys,
    write_key,
)
from services.gateway.auth.tokens import LONGEST_LEEWAY_S, LONGEST_LIFE_S

_LONGEST_USE_S = LONGEST_LIFE_S + LONGEST_LEEWAY_S + LOOK_AGAIN_S
"""From the moment when a key is superseded until nobody can hold a token of it any more."""


@dataclass(frozen=True, slots=True)
class Rotation:
    """What a rotation did.

    Attributes:
        key_id: Of the new key, as in the JWKS.
        signs_at: When it begins to sign, Unix time in seconds.
        removed: Ids of keys of which no token is alive, whose files were removed.
    """

    key_id: str
    signs_at: float
    removed: tuple[str, ...]


def rotate(folder: Path, *, publish_s: float = PUBLISH_S) -> Rotation:
    """Add a key to a folder of signing keys, and remove those that have served their time.

    Raises:
        NoSigningKey: A file of the folder is not an Ed25519 private key; nothing was changed.
        OSError: The folder cannot be written.
    """
    old = load_keys(folder)
    path = folder / f"{time.time_ns()}.pem"
    write_key(path)
    new = load_keys(folder)[path]
    expired = _expired({**old, path: new}, publish_s=publish_s, now=time.time())
    for file in expired:
        file.unlink(missing_ok=True)
    return Rotation(
        key_id=new.id,
        signs_at=new.written_at + publish_s if old else new.written_at,
        removed=tuple(old[file].id for file in expired),
    )


def _expired(keys: dict[Path, SigningKey], *, publish_s: float, now: float) -> list[Path]:
    """Return the files of keys that were superseded before the oldest token alive was made."""
    by_age = sorted(keys, key=lambda path: keys[path].written_at)
    return [
        path
        for path, successor in pairwise(by_age)
        if now - (keys[successor].written_at + publish_s) > _LONGEST_USE_S
    ]
