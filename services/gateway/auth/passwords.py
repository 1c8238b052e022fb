"""Passwords after NIST SP 800-63B-4: long, not well known, hashed with argon2id (RFC 9106)."""

import asyncio
import ctypes
import os
import sys
import threading
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from passlib.context import CryptContext

from planes.shared.errors import Unavailable

MAX_CHARACTERS = 1024
_M_MMAP_THRESHOLD = -3  # of mallopt(3)
_LARGE_BLOCK_BYTES = 1024 * 1024
_NICENESS = 10  # gives way to the event loop, and still gets its share beside a busy model

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

    def __init__(self, *, threads: int | None = None, max_waiting: int = 64) -> None:
        """Store the bounds; threads start with the first password.

        Args:
            threads: How many hash at once; by default two, and one fewer than there are cores.
            max_waiting: How many passwords may wait for them; more are refused at once.
        """
        threads = threads or max(1, min(2, _cores() - 1))
        self._context = CryptContext(
            schemes=["argon2"],
            argon2__type="ID",
            argon2__memory_cost=19 * 1024,
            argon2__time_cost=2,
            argon2__parallelism=1,
        )
        self._pool = ThreadPoolExecutor(
            threads, thread_name_prefix="argon2", initializer=_prepare_thread
        )
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


def _cores() -> int:
    if sys.platform == "linux":
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _prepare_thread() -> None:
    _yield_to_others()
    _return_large_blocks()


def _return_large_blocks() -> None:
    """Have the 19 MiB of a hash go back to the system; glibc would keep them for each thread."""
    adjust = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if adjust is not None:
        adjust(_M_MMAP_THRESHOLD, _LARGE_BLOCK_BYTES)


def _yield_to_others() -> None:
    """Lower the priority of this thread, so that a storm of sign-ins leaves the event loop alone.

    On Linux priorities belong to threads; elsewhere they are the process's, and stay.
    """
    if sys.platform == "linux":
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)
