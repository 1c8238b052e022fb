"""API keys: made by a person for a program, shown once, ended like a session.

A key is 256 random bits behind a public prefix; what is stored is its SHA-256. Finding it by that
hash needs no comparison in constant time: whoever measures how far two hashes agree learns about a
hash that cannot be steered towards another, and nothing about a key.
"""

import hashlib
import re
import secrets
import string
import time
from collections import OrderedDict
from collections.abc import Callable, Collection
from datetime import UTC, datetime
from uuid import UUID

from planes.shared.errors import InvalidInput, NotFound, Unauthenticated
from services.gateway.auth.api_key_repository import (
    ApiKeyRepository,
    ApiKeyState,
    ApiKeySummary,
    NewApiKey,
)
from services.gateway.auth.models import Account, ApiScope
from services.gateway.limits.addresses import AddressRates
from services.gateway.limits.gate import SessionGate
from services.gateway.tracing import current_address

MARK = "pp_"  # scanners for secrets find keys by it
_KEY = re.compile(r"pp_[a-z0-9]{8}_[A-Za-z0-9_-]{43}")
_PREFIX_CHARACTERS = 8
_MAX_CACHED = 10_000
_UNSEEN_PER_MINUTE = 600  # from one address; each costs a query
_LAST_YEAR = 2999


class ApiKeys:
    """What people do with their keys."""

    def __init__(
        self, repository: ApiKeyRepository, gate: SessionGate, new_id: Callable[[], UUID]
    ) -> None:
        """Store the parts."""
        self._repository = repository
        self._gate = gate
        self._new_id = new_id

    async def make(
        self,
        account: Account,
        *,
        name: str,
        scopes: Collection[ApiScope],
        expires_at: datetime | None,
    ) -> tuple[ApiKeySummary, str]:
        """Make a key of the caller in this tenant; returns it this once.

        Raises:
            InvalidInput: It would have expired already, or lies beyond all calendars.
            Conflict: The caller has as many keys as anybody may have.
        """
        if expires_at is not None:
            _check_expiry(expires_at)
        prefix, key = _draw()
        new = NewApiKey(self._new_id(), name, prefix, _hash(key), frozenset(scopes), expires_at)
        return await self._repository.add(account, new), key

    async def page(
        self, account: Account, *, before: UUID | None, limit: int
    ) -> list[ApiKeySummary]:
        """Return the caller's newest keys in this tenant, made before key `before`."""
        return await self._repository.page(account.context, before=before, limit=limit)

    async def end(self, account: Account, key_id: UUID) -> None:
        """End one of the caller's keys in this tenant, answers under way included.

        Raises:
            NotFound: The caller has no such key here.
        """
        if not await self._repository.end(account, key_id):
            raise NotFound("There is no such API key.")
        await self._gate.revoke(account.context.user_id, [key_id])


class PresentedKeys:
    """Keys as requests bring them; one that was read once is not read for each request."""

    def __init__(
        self,
        repository: ApiKeyRepository,
        addresses: AddressRates,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Store where keys are read, who counts guesses, and what time it is (seconds)."""
        self._repository = repository
        self._addresses = addresses
        self._clock = clock
        self._known: OrderedDict[bytes, ApiKeyState] = OrderedDict()

    async def find(self, key: str) -> ApiKeyState:
        """Return how a key stood when it was last read; whether it still does, the gate knows.

        Raises:
            Unauthenticated: It opens nothing.
            TooManyRequests: The caller's address has sent too many keys that were never seen here.
            Unavailable: It must be read, and PostgreSQL does not answer.
        """
        if _KEY.fullmatch(key) is None:
            raise _invalid()
        known = self._known.get(_hash(key))
        if known is None:
            address = current_address()
            rates = await self._addresses.take_or_count_here("keys", address, _UNSEEN_PER_MINUTE)
            rates.check()
            return await self.read(key)
        if known.expires_at is not None and known.expires_at.timestamp() <= self._clock():
            raise _invalid()
        return known

    async def read(self, key: str) -> ApiKeyState:
        """Return how a key stands now.

        Raises:
            Unauthenticated: It opens nothing.
            Unavailable: PostgreSQL does not answer.
        """
        digest = _hash(key)
        state = await self._repository.standing(digest)
        if state is None:
            self._known.pop(digest, None)
            raise _invalid()
        self._known[digest] = state
        self._known.move_to_end(digest)
        if len(self._known) > _MAX_CACHED:
            self._known.popitem(last=False)
        return state


def _draw() -> tuple[str, str]:
    """Return the public prefix of a new key, and the key."""
    alphabet = string.ascii_lowercase + string.digits
    prefix = MARK + "".join(secrets.choice(alphabet) for _ in range(_PREFIX_CHARACTERS))
    return prefix, f"{prefix}_{secrets.token_urlsafe(32)}"


def _check_expiry(expires_at: datetime) -> None:
    if expires_at <= datetime.now(UTC) or expires_at.year > _LAST_YEAR:
        detail = f"lies between now and the year {_LAST_YEAR}"
        fields = [{"pointer": "/body/expires_at", "detail": detail}]
        raise InvalidInput(f"`expires_at` {detail}.", extensions={"errors": fields})


def _hash(key: str) -> bytes:
    return hashlib.sha256(key.encode()).digest()


def _invalid() -> Unauthenticated:
    return Unauthenticated("The API key is not valid: unknown, ended or expired.")
