"""What a cached thing is found by: all that it was made from, and nothing that can be read."""

import hashlib
import hmac
from dataclasses import replace
from functools import cache
from pathlib import Path
from uuid import UUID

import orjson

from planes.serving.settings import ServingSettings
from planes.shared.domain import SearchScope

_PLANES = Path(__file__).parents[2]


class CacheKeys:
    """Digests of questions: HMAC-SHA256 (RFC 2104) under a key of the installation."""

    def __init__(self, secret: str, recipe: str) -> None:
        """Store what is not part of a request.

        Args:
            secret: Of the installation; without it nobody finds out what was asked.
            recipe: Names all that makes the same request another answer, see `recipe_of`.
        """
        self._secret = hmac.digest(secret.encode(), b"polyplane:caches", "sha256")
        self._recipe = recipe

    def digest(
        self, kind: str, *, tenant_id: UUID, corpus_version: int | None, given: object
    ) -> str:
        """Return the key of what is made of `given`, in hexadecimal.

        Args:
            kind: Of thing.
            tenant_id: Whose it is.
            corpus_version: Of the tenant's documents; None for what does not depend on them.
            given: The whole input: JSON, with UUIDs, enumerations and dataclasses in it.
        """
        whole = orjson.dumps(
            [kind, tenant_id, corpus_version, self._recipe, given], option=orjson.OPT_SORT_KEYS
        )
        return hmac.digest(self._secret, whole, "sha256").hex()


def in_any_order(scope: SearchScope) -> SearchScope:
    """Return the same scope with its sets in one order, so that equal scopes have equal keys."""
    documents = scope.document_ids
    return replace(
        scope,
        hidden_versions=tuple(sorted(scope.hidden_versions)),
        document_ids=None if documents is None else tuple(sorted(documents)),
    )


def recipe_of(settings: ServingSettings) -> str:
    """Return a name for how this plane answers: its settings, its prompts and its programs.

    A plane that answers in another way finds nothing of this one, so that prompts need no version
    that somebody could forget to raise. Secrets count as set or not set.
    """
    told = orjson.dumps(settings.model_dump(mode="json"), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(told + _programs()).hexdigest()


@cache
def _programs() -> bytes:
    """Return a digest of the modules that answers are made by."""
    digest = hashlib.sha256()
    for folder in ("serving", "shared"):
        for path in sorted((_PLANES / folder).rglob("*.py")):
            digest.update(str(path.relative_to(_PLANES)).encode())
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.digest()
