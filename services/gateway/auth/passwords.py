"""Passwords after NIST SP 800-63B-4: long, not well known, hashed with argon2id (RFC 9106)."""

import asyncio
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from passlib.context import CryptContext

from planes.shared.errors import Unavailable

MAX_CHARACTERS = 1024

Result = TypeVar("Result")

# The hash of a random password that nobody kept: an unknown account costs as much as a known one.
_NOBODY = (
    "$argon2id$v=19$m=19456,t=2,p=1$N+ZcyxlDSImREuLc2/tfSw"
    "$rl9icLJNU35IKqelV4vNcaYbTyeVMolNdOovbLf8yCo"
)


def normalised(password: str) -> str:
    """Return the form in which passwords are compared: the same keys give the same text (NFKC)."""
    return unicodedata.normalize("NFKC", password)


class Passwords:
    """Hashes and verifies off the event loop, in a bounded number of threads."""

    def __init__(self, *, threads: int = 2, max_waiting: int = 64) -> None:
        """Store the bounds; threads start with the first password."""
        self._context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=19 * 1024,
            argon2__time_cost=2,
            argon2__parallelism=1,
        )
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="argon2")
        self._max_under_way = threads + max_waiting
        self._under_way = 0

    async def hash(self, password: str) -> str:
        """Return the encoded hash of a new password.

        Raises:
            Unavailable: Too many passwords are waiting.
        """
        return await self._run(lambda: str(self._context.hash(normalised(password))))

    async def verify(self, password: str, stored: str | None) -> bool:
        """Tell whether `password` is the stored one; None, for no account, takes the same time.

        Raises:
            Unavailable: Too many passwords are waiting.
        """
        text = normalised(password)
        given = text[:MAX_CHARACTERS]
        is_same = await self._run(lambda: bool(self._context.verify(given, stored or _NOBODY)))
        return is_same and stored is not None and len(text) <= MAX_CHARACTERS

    def close(self) -> None:
        """Let the threads end."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, work: Callable[[], Result]) -> Result:
        if self._under_way >= self._max_under_way:
            raise Unavailable("Too many people are signing in at this moment.", retry_after_s=1)
        self._under_way += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._pool, work)
        finally:
            self._under_way -= 1
